//! XREAD and XREADGROUP: entries behind given ids, at once or when they come.
//!
//! A request that finds nothing and may wait is run again, for one key, whenever that key changes. `$` means the last id at the
//! first try: the words that are run again have that id in its place. So it is with `+`, the last entry that is there.

use protocol::{
    Acl, Args, Arity, Begin, Find, Flags, Group, KeyFlags, KeySpec, Refusal, Reply, Resp, Spec,
    number,
};
use storage::{EventClass, Stream, StreamEdit, StreamId};

use super::{entry, ids};
use crate::{Block, Command, Refused, Run, Spread, Wait, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "xread",
            summary: "Reads entries behind given ids, and waits for them.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::at_least(4),
            flags: Flags::BLOCKING.and(Flags::MOVABLEKEYS).and(Flags::READONLY),
            acl: Acl::BLOCKING.and(Acl::READ).and(Acl::SLOW).and(Acl::STREAM),
            keys: &[KeySpec {
                begin: Begin::Keyword {
                    word: "STREAMS",
                    from: 1,
                },
                find: Find::Range {
                    last: -1,
                    step: 1,
                    limit: 2,
                },
                flags: KeyFlags::RO.and(KeyFlags::ACCESS),
            }],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Block(Block {
            run: xread,
            writes: false,
            on_removal: false,
            narrow,
        }),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "xreadgroup",
            summary: "Reads entries for a consumer of a group, and waits for them.",
            group: Group::Stream,
            since: "5.0.0",
            arity: Arity::at_least(7),
            flags: Flags::BLOCKING.and(Flags::MOVABLEKEYS).and(Flags::WRITE),
            acl: Acl::BLOCKING
                .and(Acl::SLOW)
                .and(Acl::STREAM)
                .and(Acl::WRITE),
            keys: &[KeySpec {
                begin: Begin::Keyword {
                    word: "STREAMS",
                    from: 4,
                },
                find: Find::Range {
                    last: -1,
                    step: 1,
                    limit: 2,
                },
                flags: KeyFlags::RO.and(KeyFlags::ACCESS),
            }],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Block(Block {
            run: xreadgroup,
            writes: true,
            on_removal: true,
            narrow,
        }),
        spread: Spread::Keys,
    },
];

/// A request: options, and streams with the ids behind which to read.
struct Request<'a> {
    /// `xread` or `xreadgroup`.
    name: &'static str,
    count: usize,
    /// How long to wait; None not at all.
    block: Option<Wait>,
    group: Option<(&'a [u8], &'a [u8])>,
    no_ack: bool,
    /// Word of the first key, and how many there are.
    keys_at: usize,
    streams: usize,
}

impl<'a> Request<'a> {
    fn parse(mut args: Args<'a>, name: &'static str, now_ms: u64) -> Result<Self, Refusal> {
        let mut request = Request {
            name,
            count: usize::MAX,
            block: None,
            group: None,
            no_ack: false,
            keys_at: 0,
            streams: 0,
        };
        while args.left() > 0 {
            let more = args.left() > 1;
            if more && args.keyword("BLOCK") {
                request.block = Some(timeout(args.bytes()?, now_ms)?);
            } else if more && args.keyword("COUNT") {
                let count = usize::try_from(args.int()?).unwrap_or(0);
                request.count = if count == 0 { usize::MAX } else { count };
            } else if more && args.keyword("STREAMS") {
                request.set_streams(&args)?;
                break;
            } else if args.left() > 2 && args.keyword("GROUP") {
                request.only_of_groups("GROUP")?;
                request.group = Some((args.bytes()?, args.bytes()?));
            } else if args.keyword("NOACK") {
                request.only_of_groups("NOACK")?;
                request.no_ack = true;
            } else {
                return Err(Refusal::Syntax);
            }
        }
        if request.keys_at == 0 {
            return Err(Refusal::Syntax);
        }
        if request.is_grouped() && request.group.is_none() {
            return Err(Refusal::Text("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(request)
    }

    fn is_grouped(&self) -> bool {
        self.name == "xreadgroup"
    }

    fn set_streams(&mut self, args: &Args<'_>) -> Result<(), Refusal> {
        if !args.left().is_multiple_of(2) {
            let symbol = if self.is_grouped() { '>' } else { '$' };
            let text = format!(
                "ERR Unbalanced '{}' list of streams: for each stream key an ID or '{symbol}' must be specified.",
                self.name
            );
            return Err(Refusal::Owned(text.into()));
        }
        self.keys_at = args.total() - args.left();
        self.streams = args.left() / 2;
        Ok(())
    }

    fn only_of_groups(&self, option: &str) -> Result<(), Refusal> {
        if self.is_grouped() {
            return Ok(());
        }
        let text = format!(
            "ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."
        );
        Err(Refusal::Owned(text.into()))
    }

    /// The key and the id of each stream.
    fn pairs(&self, args: &Args<'a>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let keys = self.keys_at..self.keys_at + self.streams;
        keys.filter_map(|at| Some((args.word(at)?, args.word(at + self.streams)?)))
    }
}

/// How long BLOCK waits.
fn timeout(word: &[u8], now_ms: u64) -> Result<Wait, Refusal> {
    let ms = number::parse_i64(word).ok_or(Refusal::TimeoutNotInteger)?;
    crate::wait::until(ms, now_ms)
}

/// Behind which id a stream is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behind {
    Id(StreamId),
    /// What the group has not been given yet.
    Delivered,
}

fn xread(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    let now_ms = cx.edit.wall_ms();
    let request = Request::parse(args.clone(), "xread", now_ms)?;
    let mut behind = Vec::with_capacity(request.streams);
    for (key, word) in request.pairs(&args) {
        cx.edit.count_read(&cx.key(key));
        let stream = cx.edit.stream(&cx.key(key))?;
        let last = stream.map_or(StreamId::MIN, Stream::last_id);
        behind.push(match entry::text(word) {
            b"$" => last,
            b"+" => stream
                .and_then(Stream::last_entry_id)
                .and_then(StreamId::prev)
                .unwrap_or(last),
            b">" => return Err(Refusal::Text("ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.").into()),
            _ => ids::strict(word, 0)?,
        });
    }
    let mut replies = Replies::new(&mut cx.reply);
    for ((word, _), behind) in request.pairs(&args).zip(&behind) {
        let key = cx.key(word);
        // (Redis looks twice, too.)
        cx.edit.count_read(&key);
        let Some(stream) = cx.edit.stream(&key)? else {
            continue;
        };
        let has_new = stream.last_entry_id().is_some_and(|last| last > *behind);
        if has_new && let Some(first) = behind.next() {
            replies.begin(&mut cx.reply, word);
            let entries = stream.range(first, StreamId::MAX).take(request.count);
            entry::reply_all(&mut cx.reply, entries);
        }
    }
    if !replies.end(&mut cx.reply) {
        let words = resolved(&args, &request, &behind);
        wait(cx, request, words);
    }
    Ok(())
}

/// The words with ids in the place of `$` and `+`; None when there is none.
fn resolved(args: &Args<'_>, request: &Request<'_>, ids: &[StreamId]) -> Option<Vec<Vec<u8>>> {
    let first = request.keys_at + request.streams;
    let mut words: Vec<Vec<u8>> = (0..args.total())
        .filter_map(|at| args.word(at).map(<[u8]>::to_vec))
        .collect();
    let mut replaced = false;
    for (word, id) in words[first..].iter_mut().zip(ids) {
        if matches!(entry::text(word), b"$" | b"+") {
            *word = id.to_string().into_bytes();
            replaced = true;
        }
    }
    replaced.then_some(words)
}

/// Nothing was found: the reply of a timeout, and the wish to wait.
fn wait(cx: &mut Write<'_>, request: Request<'_>, words: Option<Vec<Vec<u8>>>) {
    cx.reply.null_array();
    cx.wait = request.block.map(|wait| Wait { words, ..wait });
}

/// The same request for the key at word `at` alone.
fn narrow(args: &Args<'_>, at: usize) -> Vec<Vec<u8>> {
    let streams = streams_at(args);
    let count = (args.total() - streams) / 2;
    let kept = (0..streams).chain([at, at + count]);
    kept.filter_map(|at| args.word(at).map(<[u8]>::to_vec))
        .collect()
}

/// The first word behind STREAMS, which options come before.
fn streams_at(args: &Args<'_>) -> usize {
    let mut at = 1;
    while let Some(word) = args.word(at) {
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        at += match () {
            () if is(b"STREAMS") => return at + 1,
            () if is(b"GROUP") => 3,
            () if is(b"NOACK") => 1,
            () => 2,
        };
    }
    args.total()
}

/// The reply's outer part, begun with the first stream.
struct Replies {
    later: Option<protocol::Later>,
    mark: usize,
    streams: usize,
}

impl Replies {
    fn new(reply: &mut Reply<'_>) -> Replies {
        let mark = reply.mark();
        Replies {
            later: Some(reply.later()),
            mark,
            streams: 0,
        }
    }

    /// Begins the part of a stream; its entries come next.
    fn begin(&mut self, reply: &mut Reply<'_>, key: &[u8]) {
        self.streams += 1;
        if reply.resp() == Resp::V2 {
            reply.array(2);
        }
        reply.bulk(key);
    }

    /// Ends the reply; whether there is one.
    fn end(self, reply: &mut Reply<'_>) -> bool {
        match self.later {
            Some(later) if self.streams > 0 => match reply.resp() {
                Resp::V2 => reply.array_at(later, self.streams),
                Resp::V3 => reply.map_at(later, self.streams),
            },
            _ => reply.rewind(self.mark),
        }
        self.streams > 0
    }
}

// ---- groups ---------------------------------------------------------------------------------

fn xreadgroup(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    let now_ms = cx.edit.wall_ms();
    let request = Request::parse(args.clone(), "xreadgroup", now_ms)?;
    let (group, consumer) = request.group.unwrap_or_default();
    let mut behind = Vec::with_capacity(request.streams);
    for (key, word) in request.pairs(&args) {
        cx.edit.count_read(&cx.key(key));
        let stream = cx.edit.stream(&cx.key(key))?;
        if stream.and_then(|stream| stream.group(group)).is_none() {
            let text = " in XREADGROUP with GROUP option";
            return Err(entry::no_group(key, group, text).into());
        }
        behind.push(match entry::text(word) {
            b"$" => return Err(Refusal::Text("ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.").into()),
            b"+" => return Err(Refusal::Text("ERR The + ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The + ID would just return an empty result set.").into()),
            b">" => Behind::Delivered,
            _ => match ids::strict(word, 0)? {
                // Redis writes `>` so.
                StreamId::MAX => Behind::Delivered,
                id => Behind::Id(id),
            },
        });
    }
    let mut replies = Replies::new(&mut cx.reply);
    for ((word, _), behind) in request.pairs(&args).zip(&behind) {
        let key = cx.key(word);
        cx.edit.count_read(&key);
        let Some(mut stream) = cx.edit.edit_stream(&key)? else {
            continue;
        };
        see(&mut stream, group, consumer, now_ms);
        let reader = Reader {
            group,
            consumer,
            count: request.count,
            no_ack: request.no_ack,
            now_ms,
        };
        match behind {
            Behind::Id(id) => {
                replies.begin(&mut cx.reply, word);
                reader.history(&mut cx.reply, &mut stream, *id);
            }
            Behind::Delivered if reader.has_new(&stream) => {
                replies.begin(&mut cx.reply, word);
                reader.deliver(&mut cx.reply, &mut stream);
            }
            Behind::Delivered => {}
        }
    }
    if !replies.end(&mut cx.reply) {
        wait(cx, request, None);
    }
    Ok(())
}

/// Makes the consumer if there is none.
fn see(stream: &mut StreamEdit<'_>, group: &[u8], consumer: &[u8], now_ms: u64) {
    let known = stream
        .group(group)
        .and_then(|group| group.consumer(consumer));
    if known.is_some() {
        stream.see_consumer(group, consumer, now_ms);
    } else {
        stream.put_consumer(group, consumer, now_ms, None);
        stream.event(EventClass::Stream, "xgroup-createconsumer");
    }
}

/// A consumer that reads one stream.
struct Reader<'a> {
    group: &'a [u8],
    consumer: &'a [u8],
    count: usize,
    no_ack: bool,
    now_ms: u64,
}

impl Reader<'_> {
    /// Whether there is an entry behind the last one that the group was given.
    fn has_new(&self, stream: &Stream) -> bool {
        let delivered = stream.group(self.group).map(|group| group.last_id());
        stream.last_entry_id() > delivered
    }

    /// New entries: they are pending now, unless nobody will acknowledge them.
    fn deliver(&self, reply: &mut Reply<'_>, stream: &mut StreamEdit<'_>) {
        let Some(group) = stream.group(self.group) else {
            return;
        };
        let (mut last, mut read) = (group.last_id(), group.entries_read());
        let first = last.next().unwrap_or(StreamId::MAX);
        let mut delivered = Vec::new();
        let (later, mut count) = (reply.later(), 0);
        for entry in stream.range(first, StreamId::MAX).take(self.count) {
            entry::reply(reply, &entry);
            count += 1;
            last = entry.id;
            delivered.push(entry.id);
        }
        reply.array_at(later, count);
        for id in &delivered {
            read = match read {
                Some(read) if !stream.has_gaps_from(*id) => Some(read.wrapping_add(1)),
                // What was known says nothing any more; perhaps the place in the stream does.
                read if stream.entries_added() == 0 => read,
                _ => stream.entries_until(*id),
            };
        }
        stream.put_group(self.group, last, read);
        if self.no_ack {
            return;
        }
        for id in delivered {
            stream.put_pending(self.group, self.consumer, id, self.now_ms, 1);
        }
        stream.put_consumer(self.group, self.consumer, self.now_ms, Some(self.now_ms));
    }

    /// Entries that are pending with the consumer: delivered once more. Those that the stream has no more are nothing.
    fn history(&self, reply: &mut Reply<'_>, stream: &mut StreamEdit<'_>, behind: StreamId) {
        let (later, mut count, mut again) = (reply.later(), 0, Vec::new());
        let group = stream.group(self.group);
        if let Some((group, consumer)) = group.and_then(|g| Some((g, g.consumer(self.consumer)?)))
            && let Some(first) = behind.next()
        {
            for (id, pending) in group.pending_with(consumer, first).take(self.count) {
                count += 1;
                if let Some(entry) = stream.get(id) {
                    entry::reply(reply, &entry);
                    again.push((id, pending.count.wrapping_add(1)));
                } else {
                    reply.array(2);
                    ids::reply(reply, id);
                    reply.null_array();
                }
            }
        }
        reply.array_at(later, count);
        for (id, count) in again {
            stream.put_pending(self.group, self.consumer, id, self.now_ms, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::Resp;

    use super::*;
    use crate::testing::{Bench, START_MS};

    #[test]
    fn entries_behind_ids() {
        let mut bench = Bench::new();
        bench.table(
            "
            XREAD STREAMS s 0 -> *-1
            XADD s 1 f v -> $3 1-0
            XADD s 2 f v -> $3 2-0
            XADD t 1 f v -> $3 1-0
            XREAD COUNT 1 STREAMS s t none 0 1 0 -> *1 *2 $1 s *1 *2 $3 1-0 *2 $1 f $1 v
            XREAD count 0 block 5 streams s t 1 0-0 -> *2 *2 $1 s *1 *2 $3 2-0 *2 $1 f $1 v *2 $1 t *1 *2 $3 1-0 *2 $1 f $1 v
            XREAD COUNT -1 STREAMS s 1 -> *1 *2 $1 s *1 *2 $3 2-0 *2 $1 f $1 v
            XREAD STREAMS s $ -> *-1
            XREAD COUNT 9 STREAMS s t none + + + -> *2 *2 $1 s *1 *2 $3 2-0 *2 $1 f $1 v *2 $1 t *1 *2 $3 1-0 *2 $1 f $1 v
            XREAD STREAMS s 18446744073709551615-18446744073709551615 -> *-1
            XREAD STREAMS s t 0 -> -ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified.
            XREADGROUP GROUP g c STREAMS s t 1 -> -ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be specified.
            XREAD COUNT 1 STREAMS -> -ERR syntax error
            XREAD COUNT 1 BLOCK 1 -> -ERR syntax error
            XREAD COUNT x STREAMS s 0 -> -ERR value is not an integer or out of range
            XREAD BLOCK x STREAMS s 0 -> -ERR timeout is not an integer or out of range
            XREAD BLOCK -1 STREAMS s 0 -> -ERR timeout is negative
            XREAD BLOCK 9223372036854775807 STREAMS s 0 -> -ERR timeout is out of range
            XREAD GROUP g c STREAMS s 0 -> -ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.
            XREAD NOACK STREAMS s 0 -> -ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.
            XREAD STREAMS s > -> -ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.
            XREADGROUP COUNT 1 BLOCK 1 STREAMS s 0 -> -ERR Missing GROUP option for XREADGROUP
            SET str x -> +OK
            XREAD STREAMS s str 0 0 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
        bench.resp = Resp::V3;
        bench.table(
            "
            XREAD STREAMS s 1 -> %1 $1 s *1 *2 $3 2-0 *2 $1 f $1 v
            XREAD STREAMS s 2 -> _
            ",
        );
    }

    fn words(line: &str) -> Vec<Vec<u8>> {
        line.split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect()
    }

    #[test]
    fn what_finds_nothing_waits_behind_what_was_there() {
        let mut bench = Bench::new();
        bench.table("XADD s 5-3 f v -> $3 5-3");
        bench.table(
            "XGROUP CREATE new g $ MKSTREAM -> +OK\nXREAD BLOCK 0 STREAMS none new + + -> *-1",
        );
        let plus = bench.wait.as_ref().and_then(|wait| wait.words.as_ref());
        assert_eq!(
            plus.map(|words| words[6..].to_vec()),
            Some(vec![b"0-0".to_vec(); 2])
        );
        bench.table("XREAD BLOCK 0 COUNT 2 STREAMS s none t $ $ 7 -> *-1");
        let resolved = words("XREAD BLOCK 0 COUNT 2 STREAMS s none t 5-3 0-0 7");
        let wait = bench.wait.take();
        assert_eq!(
            wait,
            Some(Wait {
                until_ms: None,
                words: Some(resolved.clone()),
            })
        );
        let (mut buf, mut found) = (Vec::new(), Vec::new());
        protocol::args::flatten(&resolved, &mut buf, &mut found);
        let args = Args::new(&buf, &found);
        let narrowed = narrow(&args, 6);
        assert_eq!(narrowed, words("XREAD BLOCK 0 COUNT 2 STREAMS s 5-3"));
        assert_eq!(narrow(&args, 8), words("XREAD BLOCK 0 COUNT 2 STREAMS t 7"));
        bench.table("XADD s 5-4 f v -> $3 5-4");
        let again: Vec<&[u8]> = narrowed.iter().map(Vec::as_slice).collect();
        assert!(bench.raw(&again).starts_with(b"*1\r\n*2\r\n$1\r\ns\r\n"));
        assert_eq!(bench.wait, None);
        bench.table("XREAD BLOCK 20 STREAMS s 9 -> *-1");
        let until_ms = Some(START_MS + 20);
        assert_eq!(
            bench.wait,
            Some(Wait {
                until_ms,
                words: None
            })
        );
        bench.table("XREAD STREAMS s $ -> *-1");
        assert_eq!(bench.wait, None);
    }

    #[test]
    fn a_group_reads_each_entry_once() {
        let mut bench = Bench::new();
        bench.table(
            "
            XREADGROUP GROUP g c STREAMS s > -> -NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option
            XGROUP CREATE s g 0 MKSTREAM -> +OK
            XREADGROUP GROUP g c BLOCK 0 STREAMS s > -> *-1
            XADD s 1 f v -> $3 1-0
            XADD s 2 f v -> $3 2-0
            XADD s 3 f v -> $3 3-0
            XREADGROUP GROUP g c COUNT 1 STREAMS s > -> *1 *2 $1 s *1 *2 $3 1-0 *2 $1 f $1 v
            XREADGROUP GROUP g d NOACK COUNT 1 STREAMS s > -> *1 *2 $1 s *1 *2 $3 2-0 *2 $1 f $1 v
            XREADGROUP GROUP g c STREAMS s > -> *1 *2 $1 s *1 *2 $3 3-0 *2 $1 f $1 v
            XREADGROUP GROUP g c STREAMS s > -> *-1
            XDEL s 3 -> :1
            XREADGROUP GROUP g c STREAMS s 0 -> *1 *2 $1 s *2 *2 $3 1-0 *2 $1 f $1 v *2 $3 3-0 *-1
            XREADGROUP GROUP g c COUNT 1 STREAMS s 1 -> *1 *2 $1 s *1 *2 $3 3-0 *-1
            XREADGROUP GROUP g d STREAMS s 0 -> *1 *2 $1 s *0
            XREADGROUP GROUP g new BLOCK 5 STREAMS s 9 -> *1 *2 $1 s *0
            XPENDING s g - + 9 -> *2 *4 $3 1-0 $1 c :0 :2 *4 $3 3-0 $1 c :0 :1
            XGROUP SETID s g 0 -> +OK
            XREADGROUP GROUP g d STREAMS s > -> *1 *2 $1 s *2 *2 $3 1-0 *2 $1 f $1 v *2 $3 2-0 *2 $1 f $1 v
            XPENDING s g - + 9 -> *3 *4 $3 1-0 $1 d :0 :1 *4 $3 2-0 $1 d :0 :1 *4 $3 3-0 $1 c :0 :1
            XREADGROUP GROUP g c STREAMS s $ -> -ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.
            XREADGROUP GROUP g c STREAMS s none > > -> -NOGROUP No such key 'none' or consumer group 'g' in XREADGROUP with GROUP option
            SET str x -> +OK
            XREADGROUP GROUP g c STREAMS str > -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
        bench.table("XREADGROUP GROUP g c BLOCK 9 STREAMS s > -> *-1");
        let until_ms = Some(START_MS + 9);
        assert_eq!(
            bench.wait,
            Some(Wait {
                until_ms,
                words: None
            })
        );
    }
}
