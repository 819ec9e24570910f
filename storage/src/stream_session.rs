//! Changes to a stream, each with its effect.
//!
//! As in Redis, what is done to groups changes the stream's data but not what WATCH and those who wait look at: only new,
//! deleted and trimmed entries and a group's end do. The rest is *quiet*: counted and recorded, not told.

use crate::effect::Effect;
use crate::session::StreamEdit;
use crate::stream_effect::StreamChange;
use crate::undo::Op;
use crate::value::stream::{Group, Inverse, Stream, StreamId, Trim};
use crate::wire::Writer;

impl StreamEdit<'_> {
    fn record(&mut self, change: StreamChange<'_>) {
        let (_, shard, key) = self.parts();
        let effect = Effect::Stream {
            key: key.bytes,
            change,
        };
        shard.effects.push(key.db, &effect);
    }

    /// A change that is told.
    fn tell(&mut self, change: StreamChange<'_>) {
        self.record(change);
        self.note_removal();
    }

    /// A change that is not.
    fn keep_quiet(&mut self, change: StreamChange<'_>) {
        self.record(change);
        let (_, shard, _) = self.parts();
        shard.changes = shard.changes.wrapping_add(1);
    }

    /// Notes what takes the change back that comes now, if a script may be undone.
    #[inline(always)]
    fn note_inverse(&mut self, before: impl FnOnce(&Stream) -> Inverse) {
        if self.is_noted() {
            let inverse = before(self);
            self.note_undo(Op::Stream(inverse));
        }
    }

    /// The same for a change with several inverses, undone from the last to the first.
    #[inline(always)]
    fn note_inverses(&mut self, before: impl FnOnce(&Stream) -> Vec<Inverse>) {
        if self.is_noted() {
            for inverse in before(self) {
                self.note_undo(Op::Stream(inverse));
            }
        }
    }

    /// Makes an empty stream, where there was none.
    pub fn make(&mut self) {
        let (stream, ..) = self.parts();
        if stream.make() {
            self.tell(StreamChange::Make);
        }
    }

    /// Adds an entry of fields and values in turn, at least one pair; whether its id is above all that were given. The caller
    /// has seen to it that they are not longer than `STREAM_NODE_BYTES_MAX`.
    pub fn add<'w>(&mut self, id: StreamId, words: impl Iterator<Item = &'w [u8]> + Clone) -> bool {
        if self.open {
            self.before_add_within(id);
        }
        let before = self.is_noted().then(|| self.before_add());
        let (stream, shard, _) = self.parts();
        if !stream.add(id, words.clone(), &shard.limits) {
            return false;
        }
        if let Some(before) = before {
            let inverse = self.added(before);
            self.note_undo(Op::Stream(inverse));
        }
        let (_, shard, _) = self.parts();
        let mut bytes = Vec::new();
        if shard.effects.is_recording() {
            let mut to = Writer { out: &mut bytes };
            words.for_each(|word| to.bytes(word));
        }
        self.tell(StreamChange::Add { id, words: &bytes });
        true
    }

    /// Deletes an entry; whether it was there.
    pub fn remove(&mut self, id: StreamId) -> bool {
        if self.open {
            self.before(|open, stream| open.before_delete(stream, id, id));
        }
        self.note_inverses(|stream| stream.before_remove(id));
        let (stream, ..) = self.parts();
        let done = stream.remove(id);
        if done {
            self.tell(StreamChange::Remove { id });
        }
        done
    }

    /// Trims; how many entries are gone.
    pub fn trim(&mut self, trim: &Trim) -> u64 {
        let trimmed = self.trimmed(trim);
        trimmed.map_or(0, |(through, _)| self.remove_through(through))
    }

    /// Removes all entries up to this id; how many.
    pub(crate) fn remove_through(&mut self, id: StreamId) -> u64 {
        if self.open {
            self.before(|open, stream| open.before_delete(stream, StreamId::MIN, id));
        }
        let mut kept = self.is_noted().then(Vec::new);
        let (stream, ..) = self.parts();
        let count = stream.remove_through(id, kept.as_mut());
        for inverse in kept.into_iter().flatten() {
            self.note_undo(Op::Stream(inverse));
        }
        if count > 0 {
            self.tell(StreamChange::RemoveThrough { id });
        }
        count
    }

    /// Sets what is remembered beside the entries.
    pub fn set_ids(&mut self, last: StreamId, added: u64, max_deleted: StreamId) {
        self.make();
        self.note_inverses(Stream::before_set_ids);
        let (stream, ..) = self.parts();
        stream.set_ids(last, added, max_deleted);
        self.keep_quiet(StreamChange::SetIds {
            last,
            added,
            max_deleted,
        });
    }

    /// Makes a group or sets what it has read.
    pub fn put_group(&mut self, group: &[u8], last: StreamId, read: Option<u64>) {
        self.make();
        self.note_inverse(|stream| stream.before_put_group(group));
        let (stream, ..) = self.parts();
        stream.put_group(group, last, read);
        self.keep_quiet(StreamChange::PutGroup { group, last, read });
    }

    /// Removes a group with all that is pending; whether it was there.
    pub fn remove_group(&mut self, group: &[u8]) -> bool {
        let noted = self.is_noted();
        let (stream, shard, _) = self.parts();
        let Some(removed) = stream.take_group(group) else {
            return false;
        };
        if noted {
            self.note_undo(Op::Stream(Inverse::Group(Box::new(removed))));
        } else {
            shard.free_stream(removed);
        }
        self.tell(StreamChange::RemoveGroup { group });
        true
    }

    /// Notes that a consumer asked for entries. No effect: a time by itself is not worth one.
    pub fn see_consumer(&mut self, group: &[u8], consumer: &[u8], now_ms: u64) {
        if self
            .group(group)
            .and_then(|group| group.consumer(consumer))
            .is_none()
        {
            return;
        }
        self.note_inverse(|stream| stream.before_put_consumer(group, consumer));
        let (stream, ..) = self.parts();
        stream.with_group(group, |group| {
            let active = group.consumer(consumer).map(|consumer| consumer.active_ms);
            if let Some(active) = active {
                group.put_consumer(consumer, now_ms, active);
            }
        });
    }

    /// Makes a consumer of a group, or notes when it was seen and got entries; whether it is new.
    pub fn put_consumer(
        &mut self,
        group: &[u8],
        consumer: &[u8],
        seen_ms: u64,
        active_ms: Option<u64>,
    ) -> bool {
        self.note_inverse(|stream| stream.before_put_consumer(group, consumer));
        let put = |group: &mut Group| group.put_consumer(consumer, seen_ms, active_ms);
        let (stream, ..) = self.parts();
        let Some(new) = stream.with_group(group, put) else {
            return false;
        };
        self.keep_quiet(StreamChange::PutConsumer {
            group,
            consumer,
            seen_ms,
            active_ms,
        });
        new
    }

    /// Removes a consumer with what is pending with it; how many entries that were.
    pub fn remove_consumer(&mut self, group: &[u8], consumer: &[u8]) -> Option<usize> {
        self.note_inverses(|stream| stream.before_remove_consumer(group, consumer));
        let (stream, ..) = self.parts();
        let remove = |group: &mut Group| group.remove_consumer(consumer);
        let pending = stream.with_group(group, remove)??;
        self.keep_quiet(StreamChange::RemoveConsumer { group, consumer });
        Some(pending)
    }

    /// Makes an entry pending with a consumer, or passes it on; whether there are such a group and consumer.
    pub fn put_pending(
        &mut self,
        group: &[u8],
        consumer: &[u8],
        id: StreamId,
        delivered_ms: u64,
        count: u64,
    ) -> bool {
        self.note_inverse(|stream| stream.before_pending(group, id));
        let (stream, ..) = self.parts();
        let put = |group: &mut Group| group.put_pending(consumer, id, delivered_ms, count);
        let done = stream.with_group(group, put).unwrap_or(false);
        if done {
            self.keep_quiet(StreamChange::PutPending {
                group,
                consumer,
                id,
                delivered_ms,
                count,
            });
        }
        done
    }

    /// Takes an entry from the pending ones; whether it was among them.
    pub fn remove_pending(&mut self, group: &[u8], id: StreamId) -> bool {
        self.note_inverse(|stream| stream.before_pending(group, id));
        let (stream, ..) = self.parts();
        let remove = |group: &mut Group| group.remove_pending(id);
        let done = stream.with_group(group, remove).unwrap_or(false);
        if done {
            self.keep_quiet(StreamChange::RemovePending { group, id });
        }
        done
    }
}
