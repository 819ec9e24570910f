//! COMMAND DOCS: what is told of commands for people, and for the programs that help them type.
//!
//! ```text
//! set O(1)                                   name and, where it can be said in general, complexity
//!   key value [condition@2.6.12(NX | XX)]    arguments; `syntax.rs` has the grammar
//!   = `…`                                    what to use in its place, of a deprecated one
//!   ! syscmd                                 a flag
//!   + 2.6.12 takes EX and PX                 what a version has brought
//! ```
//! One such record for each row of the table, in a file for each group. They are read when somebody asks, so that they cost a
//! running server nothing; summary, group and versions are told by the row itself.

mod syntax;

use std::collections::HashMap;

use commands::Refused;
use protocol::{Args, Reply};

use crate::admin::command_info::subcommands;
use crate::admin::{Context, Done};
use crate::table::{Row, Table};
use syntax::{Argument, Type};

const FILES: [&str; 16] = [
    include_str!("bitmap.txt"),
    include_str!("cluster.txt"),
    include_str!("connection.txt"),
    include_str!("generic.txt"),
    include_str!("geo.txt"),
    include_str!("hash.txt"),
    include_str!("hyperloglog.txt"),
    include_str!("list.txt"),
    include_str!("pubsub.txt"),
    include_str!("scripting.txt"),
    include_str!("server.txt"),
    include_str!("set.txt"),
    include_str!("sorted-set.txt"),
    include_str!("stream.txt"),
    include_str!("string.txt"),
    include_str!("transactions.txt"),
];

/// A record of one command.
#[derive(Default)]
struct Record<'a> {
    complexity: &'a str,
    arguments: Option<&'a str>,
    replaced_by: Option<&'a str>,
    flag: Option<&'a str>,
    history: Vec<(&'a str, &'a str)>,
}

/// All records by name.
fn records() -> HashMap<&'static str, Record<'static>> {
    let mut records = HashMap::new();
    let mut last: Option<(&str, Record<'_>)> = None;
    for line in FILES.iter().flat_map(|file| file.lines()) {
        let Some(detail) = line.strip_prefix("  ") else {
            let (name, complexity) = line.split_once(' ').unwrap_or((line, ""));
            let record = Record {
                complexity,
                ..Record::default()
            };
            records.extend(last.replace((name, record)));
            continue;
        };
        let Some((_, record)) = &mut last else {
            continue;
        };
        match detail.split_once(' ') {
            Some(("=", text)) => record.replaced_by = Some(text),
            Some(("!", flag)) => record.flag = Some(flag),
            Some(("+", change)) => record.history.extend(change.split_once(' ')),
            _ => record.arguments = Some(detail),
        }
    }
    records.extend(last);
    records
}

/// COMMAND DOCS.
pub(super) fn command_docs(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    let table = cx.core.table;
    let rows: Vec<&Row> = if args.left() == 0 {
        table.commands().collect()
    } else {
        args.rest()
            .filter_map(|name| table.by_full_name(name))
            .collect()
    };
    let records = records();
    cx.reply.map(rows.len());
    rows.iter()
        .for_each(|row| write(&mut cx.reply, table, &records, row));
    Ok(Done::Replied)
}

fn write_text(reply: &mut Reply<'_>, name: &str, text: &str) {
    reply.bulk(name.as_bytes());
    reply.bulk(text.as_bytes());
}

fn write(reply: &mut Reply<'_>, table: &Table, records: &HashMap<&str, Record<'_>>, row: &Row) {
    let spec = row.spec;
    let none = Record::default();
    let record = records.get(spec.name).unwrap_or(&none);
    let arguments = record.arguments.and_then(syntax::parse);
    let flag = spec.deprecated_since.map(|_| "deprecated").or(record.flag);
    let parts = [
        !record.complexity.is_empty(),
        flag.is_some(),
        spec.deprecated_since.is_some(),
        record.replaced_by.is_some(),
        !record.history.is_empty(),
        arguments.is_some(),
        !row.subcommands.is_empty(),
    ];
    reply.bulk(spec.name.as_bytes());
    reply.map(3 + parts.into_iter().filter(|is_there| *is_there).count());
    write_text(reply, "summary", spec.summary.trim_end_matches('.'));
    write_text(reply, "since", spec.since);
    write_text(reply, "group", spec.group.name());
    if !record.complexity.is_empty() {
        write_text(reply, "complexity", record.complexity);
    }
    if let Some(flag) = flag {
        reply.bulk(b"doc_flags");
        reply.set(1);
        reply.simple(flag);
    }
    if let Some(since) = spec.deprecated_since {
        write_text(reply, "deprecated_since", since);
    }
    if let Some(text) = record.replaced_by {
        write_text(reply, "replaced_by", text);
    }
    if !record.history.is_empty() {
        reply.bulk(b"history");
        reply.set(record.history.len());
        for (version, change) in &record.history {
            reply.array(2);
            reply.bulk(version.as_bytes());
            reply.bulk(change.as_bytes());
        }
    }
    if let Some(arguments) = arguments {
        write_arguments(reply, &arguments);
    }
    if !row.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(row.subcommands.len());
        subcommands(table, row).for_each(|row| write(reply, table, records, row));
    }
}

fn write_arguments(reply: &mut Reply<'_>, arguments: &[Argument<'_>]) {
    reply.bulk(b"arguments");
    reply.array(arguments.len());
    arguments
        .iter()
        .for_each(|argument| write_argument(reply, argument));
}

fn write_argument(reply: &mut Reply<'_>, argument: &Argument<'_>) {
    let has_inner = matches!(argument.kind, Type::OneOf | Type::Block);
    let flags = [
        (argument.optional, "optional"),
        (argument.multiple, "multiple"),
        (argument.multiple_token, "multiple_token"),
    ];
    let flags = flags.iter().filter(|(is_set, _)| *is_set);
    let texts = [
        ("token", argument.token),
        ("since", argument.since),
        ("deprecated_since", argument.deprecated_since),
    ];
    let texts = texts
        .iter()
        .filter_map(|(name, text)| Some((*name, (*text)?)));
    let parts = texts.clone().count()
        + usize::from(argument.key_spec.is_some())
        + usize::from(flags.clone().next().is_some());
    reply.map(3 + parts);
    write_text(reply, "name", &argument.name);
    write_text(reply, "type", argument.kind.name());
    if !has_inner {
        let display = argument.display.unwrap_or(&argument.name);
        write_text(reply, "display_text", display);
    }
    if let Some(index) = argument.key_spec {
        reply.bulk(b"key_spec_index");
        reply.int(i64::from(index));
    }
    texts.for_each(|(name, text)| write_text(reply, name, text));
    if flags.clone().next().is_some() {
        reply.bulk(b"flags");
        reply.set(flags.clone().count());
        flags.for_each(|(_, name)| reply.simple(name));
    }
    if has_inner {
        write_arguments(reply, &argument.inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::testing::Bench;

    #[test]
    fn every_row_has_its_record_and_every_record_is_read() {
        let table = Table::build(&Config::default());
        let records = records();
        for row in table.rows() {
            let name = row.spec.name;
            assert!(records.contains_key(name), "{name}");
        }
        let is_row = |name: &str| table.rows().iter().any(|row| row.spec.name == name);
        for (name, record) in &records {
            assert!(is_row(name), "{name}");
            if let Some(line) = record.arguments {
                assert!(syntax::parse(line).is_some(), "{name}: {line}");
            }
        }
        let lines = FILES.iter().flat_map(|file| file.lines());
        let names = lines.filter(|line| !line.starts_with(' ')).count();
        assert_eq!(names, records.len(), "each once");
    }

    #[test]
    fn arguments_name_key_specs_that_are_there() {
        fn check(name: &str, specs: usize, argument: &Argument<'_>) {
            let at = argument.key_spec.map_or(0, usize::from);
            assert!(argument.key_spec.is_none() || at < specs, "{name}");
            let inner = argument.inner.iter();
            inner.for_each(|argument| check(name, specs, argument));
        }
        let table = Table::build(&Config::default());
        let records = records();
        for row in table.rows() {
            let line = records
                .get(row.spec.name)
                .and_then(|record| record.arguments);
            for argument in line.and_then(syntax::parse).unwrap_or_default() {
                check(row.spec.name, row.spec.keys.len(), &argument);
            }
        }
    }

    #[test]
    fn a_reply() {
        let mut bench = Bench::new(1);
        let client = bench.connect(0);
        let reply = bench.call(client, "COMMAND DOCS georadius getset zadd debug");
        for part in [
            "*8\r\n$9\r\ngeoradius\r\n",
            "$9\r\ndoc_flags\r\n*1\r\n+deprecated\r\n$16\r\ndeprecated_since\r\n$5\r\n6.2.0\r\n\
             $11\r\nreplaced_by\r\n$29\r\n`SET` with the `GET` argument\r\n$9\r\narguments\r\n*2\r\n\
             *8\r\n$4\r\nname\r\n$3\r\nkey\r\n$4\r\ntype\r\n$3\r\nkey\r\n$12\r\ndisplay_text\r\n$3\r\nkey\r\n\
             $14\r\nkey_spec_index\r\n:0\r\n",
            "$10\r\ncomplexity\r\n$9\r\nO(log(N))\r\n$7\r\nhistory\r\n*3\r\n*2\r\n$5\r\n2.4.0\r\n",
            "*8\r\n$4\r\nname\r\n$4\r\ndata\r\n$4\r\ntype\r\n$5\r\nblock\r\n$5\r\nflags\r\n*1\r\n+multiple\r\n\
             $9\r\narguments\r\n*2\r\n*6\r\n$4\r\nname\r\n$5\r\nscore\r\n",
            "+syscmd\r\n",
        ] {
            assert!(reply.contains(part), "{part} in {reply}");
        }
    }
}
