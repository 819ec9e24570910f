//! DEBUG: what tests need of a server. Refused unless `enable-debug-command` allows it.

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Reply, Resp, Spec, number};

use crate::admin::peek::Peek;
use crate::admin::populate::populate;
use crate::admin::{Context, Done, NodeCommand};
use crate::gather::Join;
use crate::image::Work;
use crate::mail::Ask;
use crate::reload::How;

/// What most of the rows have in common.
const BASE: Spec = Spec {
    name: "",
    summary: "",
    since: "",
    arity: Arity::at_least(1),
    group: Group::Server,
    flags: Flags::ADMIN
        .and(Flags::LOADING)
        .and(Flags::NOSCRIPT)
        .and(Flags::PROTECTED)
        .and(Flags::STALE),
    acl: Acl::ADMIN.and(Acl::DANGEROUS).and(Acl::SLOW),
    keys: &[],
    range: (0, 0, 0),
    tips: &[],
    deprecated_since: None,
};

pub(super) const COMMANDS: &[NodeCommand] = &[NodeCommand {
    spec: Spec {
        name: "debug",
        summary: "Commands for tests of the server.",
        since: "1.0.0",
        arity: Arity::at_least(2),
        ..BASE
    },
    run: Some(debug),
}];

const HELP: &[(&str, &str)] = &[
    (
        "CHANGE-REPL-ID",
        "Begins another history of the data: a new replication id.",
    ),
    ("DIGEST", "Tells a digest of all data."),
    (
        "DIGEST-VALUE <key> [<key> ...]",
        "Tells a digest of each value.",
    ),
    ("ERROR <text>", "Replies with this error."),
    (
        "OBJECT <key>",
        "Tells what is known of a key beside its value.",
    ),
    (
        "POPULATE <count> [<prefix>] [<size>]",
        "Makes so many strings, of so many bytes, unless there is a key of the name.",
    ),
    (
        "PROTOCOL <type>",
        "Replies with a value of a type of the protocol.",
    ),
    (
        "SET-ACTIVE-EXPIRE <0|1>",
        "Whether expired keys are removed before somebody asks for them.",
    ),
    (
        "SET-DISABLE-DENY-SCRIPTS <0|1>",
        "Whether scripts may call commands that are not for scripts.",
    ),
    (
        "RELOAD [MERGE] [NOFLUSH] [NOSAVE]",
        "Writes all data to the file of snapshots, removes them, and loads that file.",
    ),
    (
        "LOADAOF",
        "Writes what is queued to the log, removes all data, and reads the log.",
    ),
    ("SLEEP <seconds>", "Stops all cores for a while."),
    ("HELP", "Shows this list."),
];

fn debug(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    let local = cx.conn.peer.is_loopback();
    if !cx.core.config.enable_debug_command.allows(local) {
        return Err(Refusal::protected("DEBUG", "enable-debug-command").into());
    }
    let mut words = args.clone();
    let name = words.bytes()?.to_ascii_lowercase();
    match (name.as_slice(), words.left()) {
        (b"help", 0) => write_help(&mut cx.reply),
        (b"sleep", 1) => {
            let seconds = number::parse_f64(words.bytes()?).unwrap_or(0.0);
            // A negative time is none; one beyond all bounds ends at the largest number.
            let us = (seconds * 1e6) as u64;
            if !cx.core.is_alone() {
                return Ok(Done::Ask(Ask::Sleep(us), Join::Ok));
            }
            // The command itself takes that long, for whoever looks at times.
            std::thread::sleep(std::time::Duration::from_micros(us));
            // What comes next in this turn finds the time that it is then; for scripts and transactions it stands still.
            if !cx.core.tally.nested {
                cx.core.now.unix_ms += us / 1000;
                cx.core.now.unix_us += us;
                cx.core.now.mono_us += us;
                cx.core.shard.set_now(cx.core.now.unix_ms);
            }
            cx.reply.ok();
        }
        (b"set-active-expire", 1) => {
            let on = number::parse_i64(words.bytes()?).unwrap_or(0) != 0;
            return Ok(Done::Ask(Ask::ActiveExpire(on), Join::Ok));
        }
        (b"set-disable-deny-scripts", 1) => {
            let on = number::parse_i64(words.bytes()?).unwrap_or(0) != 0;
            return Ok(Done::Ask(Ask::AllInScripts(on), Join::Ok));
        }
        (b"digest", 0) => return Ok(Done::Ask(Ask::Digest, Join::Digest)),
        (b"digest-value", 1..) => {
            let keys = words.rest().map(Box::from).collect();
            let peek = Peek::Digests(cx.conn.db, keys);
            return Ok(Done::Ask(Ask::Peek(peek), Join::Numbered));
        }
        (b"object", 1) => {
            let peek = Peek::Object(cx.conn.db, words.bytes()?.into());
            return Ok(Done::Ask(Ask::Peek(peek), Join::Only));
        }
        (b"populate", 1..=3) => return populate(cx, words),
        (b"protocol", 1) => write_sample(&mut cx.reply, words.bytes()?)?,
        // As an error that some command would tell: for tests of clients.
        (b"error", 1) => {
            let text = String::from_utf8_lossy(words.bytes()?).into_owned();
            return Err(Refusal::Owned(text.into()).into());
        }
        (b"change-repl-id", 0) => {
            let node = cx.core.node;
            node.replicas.change_history();
            cx.reply.ok();
        }
        (b"reload", _) => return reload(cx, words),
        (b"loadaof", 0) => {
            if cx.inside_exec {
                return Err(Refusal::Text("ERR DEBUG LOADAOF is not for MULTI").into());
            }
            let ticket = cx.core.begin_exclusive(cx.conn);
            if cx.core.awaits_base() {
                cx.core.image.later_loads.push((ticket, cx.conn.resp));
            } else {
                cx.core.start_image(ticket, cx.conn.resp, Work::LoadLog);
            }
            return Ok(Done::Later);
        }
        _ => return Err(Refusal::subcommand_syntax(&args).into()),
    }
    Ok(Done::Replied)
}

fn reload(cx: &mut Context<'_>, mut words: Args<'_>) -> Result<Done, Refused> {
    let mut how = How {
        save: true,
        flush: true,
        merge: false,
    };
    while words.left() > 0 {
        if words.keyword("MERGE") {
            how.merge = true;
        } else if words.keyword("NOFLUSH") {
            how.flush = false;
        } else if words.keyword("NOSAVE") {
            how.save = false;
        } else {
            let text = "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.";
            return Err(Refusal::Text(text).into());
        }
    }
    if cx.inside_exec {
        return Err(Refusal::Text("ERR DEBUG RELOAD is not for MULTI").into());
    }
    let ticket = cx.core.begin_exclusive(cx.conn);
    cx.core.start_image(ticket, cx.conn.resp, Work::Reload(how));
    Ok(Done::Later)
}

fn write_help(reply: &mut Reply<'_>) {
    reply.array(1 + 2 * HELP.len());
    reply.simple("DEBUG <subcommand> [<argument> ...], with these subcommands:");
    for (name, what) in HELP {
        reply.simple(name);
        reply.simple(&format!("    {what}"));
    }
}

/// DEBUG PROTOCOL: a value that client libraries test their parsers with.
#[allow(
    clippy::approx_constant,
    reason = "the number that Redis replies, not the circle's"
)]
fn write_sample(reply: &mut Reply<'_>, kind: &[u8]) -> Result<(), Refusal> {
    let numbers = |reply: &mut Reply<'_>| (0..3).for_each(|n| reply.int(n));
    match kind.to_ascii_lowercase().as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.int(12_345),
        b"double" => reply.double(3.141),
        b"bignum" => reply.big_number("1234567999999999999999999999999999999"),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            numbers(reply);
        }
        b"set" => {
            reply.set(3);
            numbers(reply);
        }
        b"map" => {
            reply.map(3);
            for n in 0..3 {
                reply.int(n);
                reply.bool(n == 1);
            }
        }
        b"attrib" => {
            if reply.resp() == Resp::V3 {
                reply.raw(b"|1\r\n");
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.int(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" if reply.resp() == Resp::V2 => {
            return Err(Refusal::Text("ERR RESP2 is not supported by this command"));
        }
        b"push" => {
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.int(42);
            reply.bulk(b"Some real reply following the push reply");
        }
        b"verbatim" => reply.verbatim("txt", b"This is a verbatim\nstring"),
        b"true" => reply.bool(true),
        b"false" => reply.bool(false),
        _ => {
            return Err(Refusal::Text(
                "ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::ProtectedAction;
    use crate::testing::Bench;

    fn bench(cores: usize) -> Bench {
        Bench::with(cores, |config| {
            config.enable_debug_command = ProtectedAction::Local;
        })
    }

    #[test]
    fn keys_are_looked_at_where_they_are() {
        let mut replies = Vec::new();
        for cores in [1, 2] {
            let mut bench = bench(cores);
            let client = bench.connect(0);
            for key in ["a", "b", "c", "d"] {
                bench.call(client, &format!("SET {key} value-of-{key}"));
            }
            let object = bench.call(client, "DEBUG OBJECT b");
            assert!(
                object.starts_with("+Value at:0x")
                    && object.contains(" refcount:1 encoding:embstr serializedlength:11 lru:"),
                "{object}"
            );
            assert_eq!(
                bench.call(client, "DEBUG OBJECT none"),
                "-ERR no such key\r\n"
            );
            let values = bench.call(client, "DEBUG DIGEST-VALUE a none b c d a");
            let lines: Vec<&str> = values.split("\r\n").collect();
            assert_eq!((lines[0], lines[1]), ("*6", lines[6]));
            assert_eq!(lines[2], format!("+{}", "0".repeat(40)));
            replies.push((values, bench.call(client, "DEBUG DIGEST")));
        }
        assert_eq!(replies[0], replies[1], "digests do not depend on the cores");
    }

    #[test]
    fn the_option_guards_it() {
        let mut bench = Bench::new(1);
        let client = bench.connect(0);
        let reply = bench.call(client, "DEBUG SLEEP 0");
        assert!(
            reply.starts_with("-ERR DEBUG command not allowed. If the enable-debug-command option")
        );
    }

    #[test]
    fn replies() {
        let mut bench = bench(2);
        let client = bench.connect(1);
        let cases = [
            ("SLEEP 0", "+OK\r\n"),
            ("SLEEP -1", "+OK\r\n"),
            ("SET-ACTIVE-EXPIRE 0", "+OK\r\n"),
            ("CHANGE-REPL-ID", "+OK\r\n"),
            ("PROTOCOL double", "$5\r\n3.141\r\n"),
            ("PROTOCOL map", "*6\r\n:0\r\n:0\r\n:1\r\n:1\r\n:2\r\n:0\r\n"),
            (
                "PROTOCOL push",
                "-ERR RESP2 is not supported by this command\r\n",
            ),
            (
                "NOPE",
                "-ERR unknown subcommand or wrong number of arguments for 'NOPE'. Try DEBUG HELP.\r\n",
            ),
        ];
        for (request, expected) in cases {
            assert_eq!(bench.call(client, &format!("DEBUG {request}")), expected);
        }
        bench.call(client, "HELLO 3");
        assert_eq!(
            bench.call(client, "DEBUG PROTOCOL attrib"),
            "|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n$39\r\nSome real reply following the attribute\r\n"
        );
    }
}
