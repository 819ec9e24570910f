//! ZSCAN: a walk over a sorted set in pages.

use protocol::number::{F64Text, write_f64_general};
use protocol::{Acl, Args, Arity, Flags, Group, Reply, Spec, spec};

use crate::key::page::{self, Options};
use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "zscan",
        summary: "Walks over the members of a sorted set, some at each call.",
        group: Group::SortedSet,
        since: "2.8.0",
        arity: Arity::at_least(3),
        flags: Flags::READONLY,
        acl: Acl::READ.and(Acl::SLOW).and(Acl::SORTEDSET),
        keys: spec::ONE_RO_ACCESS,
        range: (1, 1, 1),
        tips: &["nondeterministic_output"],
        deprecated_since: None,
    },
    run: Run::Read(zscan),
    spread: Spread::Keys,
}];

fn zscan(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let cursor = page::cursor(args.bytes()?)?;
    let Some(zset) = cx.shard.zset(&key)? else {
        page::write(&mut cx.reply, 0, 0, &[]);
        return Ok(());
    };
    let options = Options::parse(&mut args, false)?;
    // Redis prints the scores of a large sorted set with all digits here, and only here.
    let all_digits = zset.encoding() == "skiplist";
    let (mut page, mut len) = (Vec::new(), 0);
    let (mut inner, mut text) = (Reply::new(&mut page, cx.reply.resp()), Vec::new());
    let next = zset.scan(cursor, options.count, |member, score| {
        if !options.filter.passes(member) {
            return;
        }
        inner.bulk(member);
        if all_digits {
            text.clear();
            write_f64_general(score, &mut text);
            inner.bulk(&text);
        } else {
            inner.bulk(F64Text::new(score).as_bytes());
        }
        len += 2;
    });
    page::write(&mut cx.reply, next, len, &page);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use protocol::Resp;
    use storage::Limits;

    use crate::testing::Bench;

    #[test]
    fn small_ones_are_shown_whole() {
        let mut bench = Bench::new();
        let lines = "
            ZADD z 1 a 0.1 ab -inf c -> :3
            ZSCAN z 0 -> *2 $1 0 *6 $1 c $4 -inf $2 ab $3 0.1 $1 a $1 1
            ZSCAN z 7 MATCH a* COUNT 1 -> *2 $1 0 *4 $2 ab $3 0.1 $1 a $1 1
            ZSCAN none x -> -ERR invalid cursor
            ZSCAN none 0 WHAT -> *2 $1 0 *0
            ZSCAN z 0 WHAT -> -ERR syntax error
            SET str x -> +OK
            ZSCAN str 0 WHAT -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZREM z a ab c -> :3
            ";
        bench.table(lines);
        bench.resp = Resp::V3;
        bench.table(lines);
    }

    #[test]
    fn large_ones_show_all_digits() {
        let mut bench = Bench::with_limits(Limits {
            zset_max_listpack_entries: 0,
            ..Limits::default()
        });
        bench.table(
            "
            ZADD z 0.1 a -> :1
            ZSCAN z 0 -> *2 $1 0 *2 $1 a $19 0.10000000000000001
            ZADD z 3 a -> :0
            ZSCAN z 0 -> *2 $1 0 *2 $1 a $1 3
            ",
        );
    }

    #[test]
    fn a_large_one_is_shown_in_pages() {
        let mut bench = Bench::new();
        let pairs: String = (0..1000).map(|i| format!(" {i} m{i}")).collect();
        bench.run(&format!("ZADD z{pairs}"));
        let (mut seen, mut next) = (BTreeSet::new(), "0".to_owned());
        loop {
            let reply = bench.run(&format!("ZSCAN z {next} COUNT 20"));
            let words: Vec<&str> = reply.split(' ').collect();
            let members = words[4..].iter().filter(|w| w.starts_with('m'));
            seen.extend(members.map(|w| (*w).to_owned()));
            next = words[2].to_owned();
            if next == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), 1000);
    }
}
