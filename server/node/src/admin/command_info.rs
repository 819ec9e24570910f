//! COMMAND: what can be said of commands, told from their rows.

use commands::Refused;
use protocol::{
    Acl, Args, Arity, Begin, Find, Flags, Group, KeyFlags, KeySpec, Refusal, Reply, Spec, Word,
};

use crate::admin::docs::command_docs;
use crate::admin::{Context, Done, NodeCommand, help};
use crate::config::glob_match;
use crate::table::{Row, Table};

/// What most of the rows have in common.
const BASE: Spec = Spec {
    name: "",
    summary: "",
    since: "",
    arity: Arity::at_least(1),
    group: Group::Server,
    flags: Flags::LOADING.and(Flags::SENTINEL).and(Flags::STALE),
    acl: Acl::CONNECTION.and(Acl::SLOW),
    keys: &[],
    range: (0, 0, 0),
    tips: &["nondeterministic_output_order"],
    deprecated_since: None,
};

pub(super) const COMMANDS: &[NodeCommand] = &[
    NodeCommand {
        spec: Spec {
            name: "command",
            summary: "Tells what there is to know of all commands.",
            since: "2.8.13",
            arity: Arity::at_least(1),
            ..BASE
        },
        run: Some(command),
    },
    NodeCommand {
        spec: Spec {
            name: "command|count",
            summary: "Counts the commands.",
            since: "2.8.13",
            arity: Arity::exactly(2),
            tips: &[],
            ..BASE
        },
        run: Some(command_count),
    },
    NodeCommand {
        spec: Spec {
            name: "command|docs",
            summary: "Describes commands for people.",
            since: "7.0.0",
            arity: Arity::at_least(2),
            ..BASE
        },
        run: Some(command_docs),
    },
    NodeCommand {
        spec: Spec {
            name: "command|getkeys",
            summary: "Tells which words of a command are keys.",
            since: "2.8.13",
            arity: Arity::at_least(3),
            tips: &[],
            ..BASE
        },
        run: Some(command_getkeys),
    },
    NodeCommand {
        spec: Spec {
            name: "command|getkeysandflags",
            summary: "Tells which words of a command are keys, and what it does with them.",
            since: "7.0.0",
            arity: Arity::at_least(3),
            tips: &[],
            ..BASE
        },
        run: Some(command_getkeysandflags),
    },
    NodeCommand {
        spec: Spec {
            name: "command|help",
            summary: "Lists the subcommands.",
            since: "5.0.0",
            arity: Arity::exactly(2),
            tips: &[],
            ..BASE
        },
        run: Some(help),
    },
    NodeCommand {
        spec: Spec {
            name: "command|info",
            summary: "Tells what there is to know of some commands.",
            since: "2.8.13",
            arity: Arity::at_least(2),
            ..BASE
        },
        run: Some(command_info),
    },
    NodeCommand {
        spec: Spec {
            name: "command|list",
            summary: "Lists the names of commands.",
            since: "7.0.0",
            arity: Arity::at_least(2),
            ..BASE
        },
        run: Some(command_list),
    },
];

/// Words of the request before the command that GETKEYS asks about.
const ASKED_AT: usize = 2;

fn command(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let table = cx.core.table;
    cx.reply.array(table.commands().count());
    table
        .commands()
        .for_each(|row| write_info(&mut cx.reply, table, row));
    Ok(Done::Replied)
}

fn command_count(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let count = cx.core.table.commands().count();
    cx.reply.int(i64::try_from(count).unwrap_or(i64::MAX));
    Ok(Done::Replied)
}

fn command_info(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    let table = cx.core.table;
    if args.left() == 0 {
        return command(cx, args);
    }
    cx.reply.array(args.left());
    for name in args.rest() {
        match table.by_full_name(name) {
            Some(row) => write_info(&mut cx.reply, table, row),
            None => cx.reply.null(),
        }
    }
    Ok(Done::Replied)
}

/// Which names COMMAND LIST is to tell.
enum Filter<'a> {
    All,
    None,
    Category(Acl),
    Pattern(&'a [u8]),
}

fn command_list(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let filter = if args.left() == 0 {
        Filter::All
    } else if args.left() == 3 && args.keyword("FILTERBY") {
        if args.keyword("MODULE") {
            // There are no modules.
            Filter::None
        } else if args.keyword("ACLCAT") {
            Acl::from_name(args.bytes()?).map_or(Filter::None, Filter::Category)
        } else if args.keyword("PATTERN") {
            Filter::Pattern(args.bytes()?)
        } else {
            return Err(Refusal::Syntax.into());
        }
    } else {
        return Err(Refusal::Syntax.into());
    };
    let wanted = |row: &&Row| match filter {
        Filter::All => true,
        Filter::None => false,
        Filter::Category(category) => row.spec.acl.contains(category),
        Filter::Pattern(pattern) => glob_match(pattern, row.spec.name.as_bytes(), true),
    };
    let names = cx.core.table.rows().iter().filter(wanted);
    cx.reply.array(names.clone().count());
    names.for_each(|row| cx.reply.bulk(row.spec.name.as_bytes()));
    Ok(Done::Replied)
}

fn command_getkeys(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    let keys = keys_asked(cx, &args)?;
    cx.reply.array(keys.len());
    keys.iter().for_each(|(key, _)| cx.reply.bulk(key));
    Ok(Done::Replied)
}

fn command_getkeysandflags(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    let keys = keys_asked(cx, &args)?;
    cx.reply.array(keys.len());
    for (key, flags) in keys {
        cx.reply.array(2);
        cx.reply.bulk(key);
        write_names(&mut cx.reply, flags.names());
    }
    Ok(Done::Replied)
}

/// The keys of the command that is the rest of the request, and what it does with them.
fn keys_asked<'a>(cx: &Context<'_>, args: &Args<'a>) -> Result<Vec<(&'a [u8], KeyFlags)>, Refusal> {
    let table = cx.core.table;
    let name = args.word(ASKED_AT).unwrap_or_default();
    let mut row = table.find(name).ok_or(Refusal::InvalidCommand)?;
    if !row.subcommands.is_empty()
        && let Some(subcommand) = args.word(ASKED_AT + 1)
    {
        row = table
            .subcommand(row, subcommand)
            .ok_or(Refusal::InvalidCommand)?;
    }
    if !row.spec.has_keys() {
        return Err(Refusal::NoKeyArguments);
    }
    let (mut buf, mut words) = (Vec::new(), Vec::new());
    for index in ASKED_AT..args.total() {
        let word = args.word(index).unwrap_or_default();
        words.push(Word {
            start: buf.len() as u32,
            len: word.len() as u32,
        });
        buf.extend_from_slice(word);
    }
    let asked = Args::new(&buf, &words);
    if !row.spec.arity.accepts(asked.total()) {
        return Err(Refusal::InvalidCommandArity);
    }
    let mut keys = Vec::new();
    let told = row.spec.keys_of(&asked, |index, spec| {
        if let Some(key) = args.word(ASKED_AT + index)
            && !spec.flags.contains(KeyFlags::NOT_KEY)
        {
            keys.push((key, row.spec.flags_of_key(&asked, spec.flags)));
        }
    });
    match told {
        // Where keys may be left out, words that name none are no mistake, as in Redis.
        Err(Refusal::InvalidKeyArguments) if row.spec.flags.contains(Flags::NO_MANDATORY_KEYS) => {
            keys.clear();
        }
        told => told?,
    }
    if keys.is_empty() && !row.spec.flags.contains(Flags::NO_MANDATORY_KEYS) {
        return Err(Refusal::InvalidKeyArguments);
    }
    Ok(keys)
}

fn write_info(reply: &mut Reply<'_>, table: &Table, row: &Row) {
    let spec = row.spec;
    reply.array(10);
    reply.bulk(spec.name.as_bytes());
    reply.int(spec.arity.redis());
    write_names(reply, spec.flags.names());
    let (first, last, step) = spec.range;
    [first, last, step]
        .into_iter()
        .for_each(|n| reply.int(i64::from(n)));
    reply.set(spec.acl.names().count());
    spec.acl
        .names()
        .for_each(|name| reply.simple(&format!("@{name}")));
    reply.set(spec.tips.len());
    spec.tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    reply.set(spec.keys.len());
    spec.keys.iter().for_each(|key| write_key(reply, key));
    if row.subcommands.is_empty() {
        reply.set(0);
        return;
    }
    reply.array(row.subcommands.len());
    subcommands(table, row).for_each(|row| write_info(reply, table, row));
}

pub(super) fn subcommands<'t>(table: &'t Table, row: &'t Row) -> impl Iterator<Item = &'t Row> {
    let rows = row.subcommands.iter();
    rows.filter_map(|(_, index)| table.rows().get(*index))
}

fn write_names(reply: &mut Reply<'_>, names: impl Iterator<Item = &'static str> + Clone) {
    reply.set(names.clone().count());
    names.for_each(|name| reply.simple(name));
}

fn write_key(reply: &mut Reply<'_>, key: &KeySpec) {
    reply.map(3);
    reply.bulk(b"flags");
    write_names(reply, key.flags.names());
    reply.bulk(b"begin_search");
    match key.begin {
        Begin::Index(index) => write_rule(reply, "index", &[("index", i64::from(index))]),
        Begin::Keyword { word, from } => {
            write_kind(reply, "keyword");
            reply.map(2);
            reply.bulk(b"keyword");
            reply.bulk(word.as_bytes());
            reply.bulk(b"startfrom");
            reply.int(i64::from(from));
        }
        Begin::Unknown => write_rule(reply, "unknown", &[]),
    }
    reply.bulk(b"find_keys");
    match key.find {
        Find::Range { last, step, limit } => {
            let numbers = [
                ("lastkey", i64::from(last)),
                ("keystep", i64::from(step)),
                ("limit", i64::from(limit)),
            ];
            write_rule(reply, "range", &numbers);
        }
        Find::KeyNum {
            count_at,
            first,
            step,
        } => {
            let numbers = [
                ("keynumidx", i64::from(count_at)),
                ("firstkey", i64::from(first)),
                ("keystep", i64::from(step)),
            ];
            write_rule(reply, "keynum", &numbers);
        }
        Find::Unknown => write_rule(reply, "unknown", &[]),
    }
}

/// A rule of a key spec up to its numbers.
fn write_kind(reply: &mut Reply<'_>, kind: &str) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
}

fn write_rule(reply: &mut Reply<'_>, kind: &str, numbers: &[(&str, i64)]) {
    write_kind(reply, kind);
    reply.map(numbers.len());
    for (name, number) in numbers {
        reply.bulk(name.as_bytes());
        reply.int(*number);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn replies() {
        let mut bench = Bench::new(1);
        let client = bench.connect(0);
        let cases = [
            ("GETKEYS set a b get", "*1\r\n$1\r\na\r\n"),
            (
                "GETKEYS XREADGROUP noack STREAMS a b $ >",
                "-ERR Invalid arguments specified for command\r\n",
            ),
            (
                "GETKEYSANDFLAGS set a b",
                "*1\r\n*2\r\n$1\r\na\r\n*2\r\n+OW\r\n+update\r\n",
            ),
            (
                "GETKEYSANDFLAGS set a b get",
                "*1\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+update\r\n",
            ),
            (
                "GETKEYS echo a",
                "-ERR The command has no key arguments\r\n",
            ),
            ("GETKEYS nosuch a", "-ERR Invalid command specified\r\n"),
            (
                "GETKEYS config nosuch",
                "-ERR Invalid command specified\r\n",
            ),
            (
                "GETKEYS get a b",
                "-ERR Invalid number of arguments specified for command\r\n",
            ),
            (
                "GETKEYS zunionstore a 5 b",
                "-ERR Invalid arguments specified for command\r\n",
            ),
            ("GETKEYS object encoding k", "*1\r\n$1\r\nk\r\n"),
            ("LIST FILTERBY MODULE x", "*0\r\n"),
            ("LIST FILTERBY ACLCAT x", "*0\r\n"),
            (
                "LIST FILTERBY PATTERN config|g*",
                "*1\r\n$10\r\nconfig|get\r\n",
            ),
            ("LIST FILTERBY x y", "-ERR syntax error\r\n"),
            ("INFO nosuch CONFIG|nosuch", "*2\r\n$-1\r\n$-1\r\n"),
            ("DOCS nosuch", "*0\r\n"),
            (
                "NOSUCH",
                "-ERR unknown subcommand 'NOSUCH'. Try COMMAND HELP.\r\n",
            ),
            (
                "INFO get",
                "*1\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n\
                 *3\r\n+@read\r\n+@string\r\n+@fast\r\n*0\r\n*1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n\
                 +access\r\n$12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n*2\r\n\
                 $5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n\
                 *6\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n",
            ),
        ];
        for (request, expected) in cases {
            let reply = bench.call(client, &format!("COMMAND {request}"));
            assert_eq!(reply, expected, "{request}");
        }
        let count = bench.call(client, "COMMAND COUNT");
        let count = count.trim_end().trim_start_matches(':').to_owned();
        let all = bench.call(client, "COMMAND");
        assert!(all.starts_with(&format!("*{count}\r\n*10\r\n")));
        bench.call(client, "HELLO 3");
        let docs = bench.call(client, "COMMAND DOCS quit latency");
        assert!(
            docs.starts_with("%2\r\n$4\r\nquit\r\n%7\r\n$7\r\nsummary\r\n"),
            "{docs}"
        );
        assert!(docs.contains(
            "$9\r\ndoc_flags\r\n~1\r\n+deprecated\r\n$16\r\ndeprecated_since\r\n$5\r\n7.2.0\r\n"
        ));
        assert!(
            docs.contains("$11\r\nsubcommands\r\n%7\r\n$14\r\nlatency|doctor\r\n%4\r\n"),
            "{docs}"
        );
    }
}
