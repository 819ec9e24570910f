//! SSCAN: a walk over a set in pages.

use protocol::{Acl, Args, Arity, Flags, Group, Reply, Spec, spec};

use crate::key::page::{self, Options};
use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "sscan",
        summary: "Walks over the members of a set, some at each call.",
        group: Group::Set,
        since: "2.8.0",
        arity: Arity::at_least(3),
        flags: Flags::READONLY,
        acl: Acl::READ.and(Acl::SET).and(Acl::SLOW),
        keys: spec::ONE_RO_ACCESS,
        range: (1, 1, 1),
        tips: &["nondeterministic_output"],
        deprecated_since: None,
    },
    run: Run::Read(sscan),
    spread: Spread::Keys,
}];

fn sscan(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let cursor = page::cursor(args.bytes()?)?;
    let Some(set) = cx.shard.set(&key)? else {
        page::write(&mut cx.reply, 0, 0, &[]);
        return Ok(());
    };
    let options = Options::parse(&mut args, false)?;
    let (mut page, mut len) = (Vec::new(), 0);
    let mut inner = Reply::new(&mut page, cx.reply.resp());
    let next = set.scan(cursor, options.count, |member| {
        if options.filter.passes(member) {
            inner.bulk(member);
            len += 1;
        }
    });
    page::write(&mut cx.reply, next, len, &page);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::testing::Bench;

    #[test]
    fn small_sets_are_shown_whole() {
        Bench::new().table(
            "
            SET str x -> +OK
            SADD s 1 2 12 -> :3
            SSCAN s 0 -> *2 $1 0 *3 $1 1 $1 2 $2 12
            SSCAN s 99 COUNT 1 -> *2 $1 0 *3 $1 1 $1 2 $2 12
            SSCAN s 0 MATCH 1* -> *2 $1 0 *2 $1 1 $2 12
            SSCAN s 0 MATCH * COUNT 5 -> *2 $1 0 *3 $1 1 $1 2 $2 12
            SSCAN s x -> -ERR invalid cursor
            SSCAN str x -> -ERR invalid cursor
            SSCAN none 0 WHAT -> *2 $1 0 *0
            SSCAN str 0 WHAT -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SSCAN s 0 WHAT -> -ERR syntax error
            SSCAN s 0 COUNT -> -ERR syntax error
            SSCAN s 0 COUNT 0 -> -ERR syntax error
            SSCAN s 0 COUNT x -> -ERR value is not an integer or out of range
            SSCAN s 0 MATCH -> -ERR syntax error
            ",
        );
    }

    #[test]
    fn a_large_set_is_shown_in_pages() {
        let mut bench = Bench::new();
        let members: String = (0..1000).map(|i| format!(" m{i}")).collect();
        bench.run(&format!("SADD s{members}"));
        let (mut seen, mut next, mut pages) = (BTreeSet::new(), "0".to_owned(), 0);
        loop {
            let reply = bench.run(&format!("SSCAN s {next} COUNT 20"));
            let words: Vec<&str> = reply.split(' ').collect();
            seen.extend(
                words[4..]
                    .iter()
                    .filter(|w| w.starts_with('m'))
                    .map(|w| w.to_string()),
            );
            next = words[2].to_owned();
            pages += 1;
            if next == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), 1000);
        assert!(pages > 10, "{pages}");
    }
}
