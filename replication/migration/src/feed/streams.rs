//! Changes of streams as requests.
//!
//! Times at which consumers were seen are the replica's own, as with Redis. With version 9 the counts that Redis 7.0 brought
//! (entries added and read, the highest deleted id) are left out.

use storage::{StreamChange, StreamId, words_of};

use super::{Feed, Said, eval, request, scripts};

/// The id before the last one that there can be.
const LAST_BUT_ONE: &[u8] = b"18446744073709551615-18446744073709551614";

impl Feed {
    pub(super) fn say_stream(
        &mut self,
        key: &[u8],
        change: StreamChange<'_>,
        out: &mut Vec<u8>,
    ) -> Said {
        match change {
            StreamChange::Make => {
                // (There was no stream: so none has this group, and an empty one is left.)
                let group: &[u8] = b"meridian";
                let create = [&b"XGROUP"[..], b"CREATE", key, group, b"0", b"MKSTREAM"];
                request(&create, out);
                request(&[b"XGROUP", b"DESTROY", key, group], out);
                return Ok(2);
            }
            StreamChange::Add { id, words } => {
                let id = text(id);
                let mut said = vec![&b"XADD"[..], key, id.as_bytes()];
                said.extend(words_of(words)?);
                request(&said, out);
            }
            StreamChange::Remove { id } => request(&[b"XDEL", key, text(id).as_bytes()], out),
            StreamChange::RemoveThrough { id } => match next(id) {
                Some(_) if !self.reader.knows_6_2 => {
                    eval(
                        scripts::TRIM_THROUGH_EARLY,
                        key,
                        &[text(id).as_bytes()],
                        out,
                    );
                }
                Some(id) => request(&[b"XTRIM", key, b"MINID", text(id).as_bytes()], out),
                None => request(&[b"XTRIM", key, b"MAXLEN", b"0"], out),
            },
            StreamChange::SetIds {
                last,
                added,
                max_deleted,
            } => self.set_ids(key, last, (added, max_deleted), out),
            StreamChange::PutGroup { group, last, read } => {
                let last = text(last);
                let read = read.map(|read| read.to_string());
                let mut args = vec![group, last.as_bytes()];
                if let Some(read) = read.as_ref().filter(|_| !self.is_before_7()) {
                    args.extend([&b"ENTRIESREAD"[..], read.as_bytes()]);
                }
                eval(scripts::PUT_GROUP, key, &args, out);
            }
            StreamChange::RemoveGroup { group } => {
                request(&[b"XGROUP", b"DESTROY", key, group], out);
            }
            // (Asking for what it has not acknowledged makes it there. What it were told of would count as delivered once more: it is asked for
            // what comes behind all ids.)
            StreamChange::PutConsumer {
                group, consumer, ..
            } if !self.reader.knows_6_2 => {
                let who = [&b"XREADGROUP"[..], b"GROUP", group, consumer];
                let what = [&b"COUNT"[..], b"1", b"STREAMS", key, LAST_BUT_ONE];
                request(&[&who[..], &what].concat(), out);
            }
            StreamChange::PutConsumer {
                group, consumer, ..
            } => request(&[b"XGROUP", b"CREATECONSUMER", key, group, consumer], out),
            StreamChange::RemoveConsumer { group, consumer } => {
                request(&[b"XGROUP", b"DELCONSUMER", key, group, consumer], out);
            }
            StreamChange::PutPending {
                group,
                consumer,
                id,
                delivered_ms,
                count,
            } => {
                let (id, time, count) = (text(id), delivered_ms.to_string(), count.to_string());
                let what = [&b"XCLAIM"[..], key, group, consumer, b"0", id.as_bytes()];
                let (time, count) = (time.as_bytes(), count.as_bytes());
                let how = [
                    &b"TIME"[..],
                    time,
                    b"RETRYCOUNT",
                    count,
                    b"FORCE",
                    b"JUSTID",
                ];
                request(&[what, how].concat(), out);
            }
            StreamChange::RemovePending { group, id } => {
                request(&[b"XACK", key, group, text(id).as_bytes()], out);
            }
        }
        Ok(1)
    }

    fn set_ids(
        &self,
        key: &[u8],
        last: StreamId,
        (added, max_deleted): (u64, StreamId),
        out: &mut Vec<u8>,
    ) {
        let (last, added, max_deleted) = (text(last), added.to_string(), text(max_deleted));
        let mut words = vec![&b"XSETID"[..], key, last.as_bytes()];
        if !self.is_before_7() {
            words.extend([&b"ENTRIESADDED"[..], added.as_bytes()]);
            words.extend([&b"MAXDELETEDID"[..], max_deleted.as_bytes()]);
        }
        request(&words, out);
    }
}

fn text(id: StreamId) -> String {
    format!("{}-{}", id.ms, id.seq)
}

/// The id behind this one; None behind the last.
fn next(id: StreamId) -> Option<StreamId> {
    match id.seq.checked_add(1) {
        Some(seq) => Some(StreamId::new(id.ms, seq)),
        None => Some(StreamId::new(id.ms.checked_add(1)?, 0)),
    }
}
