//! HSCAN: reading a hash in steps, from a cursor on.

use protocol::{Acl, Args, Arity, Flags, Group, Reply, Spec, spec};

use crate::key::page::{self, Options};
use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "hscan",
        summary: "Reads a hash in steps, from a cursor on.",
        group: Group::Hash,
        since: "2.8.0",
        arity: Arity::at_least(3),
        flags: Flags::READONLY,
        acl: Acl::HASH.and(Acl::READ).and(Acl::SLOW),
        keys: spec::ONE_RO_ACCESS,
        range: (1, 1, 1),
        tips: &["nondeterministic_output"],
        deprecated_since: None,
    },
    run: Run::Read(hscan),
    spread: Spread::Keys,
}];

fn hscan(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, from) = (cx.key(args.bytes()?), page::cursor(args.bytes()?)?);
    let Some(hash) = cx.shard.hash(&key)? else {
        // Without a hash the options are not looked at.
        page::write(&mut cx.reply, 0, 0, &[]);
        return Ok(());
    };
    let options = Options::parse(&mut args, true)?;
    // The cursor goes before the pairs but is known after them.
    let (mut pairs, mut found) = (Vec::new(), 0);
    let mut found_pairs = Reply::new(&mut pairs, cx.reply.resp());
    let next = hash.scan(from, options.count, |field, value| {
        if options.filter.passes(field) {
            found_pairs.bulk(field);
            found += 1;
            if !options.no_values {
                found_pairs.bulk(value);
                found += 1;
            }
        }
    });
    // Not a map in either version.
    page::write(&mut cx.reply, next, found, &pairs);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use protocol::Resp;
    use std::collections::BTreeSet;

    #[test]
    fn a_packed_hash_is_shown_at_once() {
        let mut bench = Bench::new();
        bench.table(
            "
            HSCAN k 0 -> *2 $1 0 *0
            HSCAN k 0 WHAT -> *2 $1 0 *0
            HSET k a 1 b 2 ba 3 -> :3
            HSCAN k 0 -> *2 $1 0 *6 $1 a $1 1 $1 b $1 2 $2 ba $1 3
            HSCAN k 0 COUNT 1 MATCH b* -> *2 $1 0 *4 $1 b $1 2 $2 ba $1 3
            HSCAN k 7 match * -> *2 $1 0 *6 $1 a $1 1 $1 b $1 2 $2 ba $1 3
            HSCAN k 0 MATCH z MATCH a -> *2 $1 0 *2 $1 a $1 1
            HSCAN k 0 MATCH 1 -> *2 $1 0 *0
            HSCAN k 0 NOVALUES -> *2 $1 0 *3 $1 a $1 b $2 ba
            HSCAN k 0 COUNT 1 novalues MATCH b* -> *2 $1 0 *2 $1 b $2 ba
            SCAN 0 NOVALUES -> -ERR NOVALUES option can only be used in HSCAN
            SADD set a -> :1
            SSCAN set 0 NOVALUES -> -ERR NOVALUES option can only be used in HSCAN
            ZADD zset 1 a -> :1
            ZSCAN zset 0 NOVALUES -> -ERR NOVALUES option can only be used in HSCAN
            HSCAN k 0 COUNT 0 -> -ERR syntax error
            HSCAN k 0 COUNT -1 -> -ERR syntax error
            HSCAN k 0 COUNT x -> -ERR value is not an integer or out of range
            HSCAN k 0 COUNT -> -ERR syntax error
            HSCAN k 0 WHAT 1 -> -ERR syntax error
            HSCAN k 0 TYPE hash -> -ERR syntax error
            HSCAN k x -> -ERR invalid cursor
            HSCAN none x -> -ERR invalid cursor
            SET s x -> +OK
            HSCAN s x -> -ERR invalid cursor
            HSCAN s 0 COUNT 0 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
        bench.resp = Resp::V3;
        bench.table("HSCAN k 0 MATCH a -> *2 $1 0 *2 $1 a $1 1");
    }

    #[test]
    fn a_large_hash_is_shown_in_steps() {
        let mut bench = Bench::new();
        let fields: String = (0..1000).map(|n| format!(" f{n} {n}")).collect();
        bench.run(&format!("HSET k{fields}"));
        let (mut from, mut seen, mut steps) = (String::from("0"), BTreeSet::new(), 0);
        loop {
            let reply = bench.run(&format!("HSCAN k {from} COUNT 20 MATCH f*"));
            let words: Vec<&str> = reply.split(' ').collect();
            seen.extend(
                words[4..]
                    .iter()
                    .filter(|w| w.starts_with('f'))
                    .map(|w| w.to_string()),
            );
            from = words[2].to_string();
            steps += 1;
            if from == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), 1000);
        assert!((10..=50).contains(&steps), "{steps}");
        assert!(bench.run("HSCAN k 18446744073709551615").starts_with("*2 "));
    }
}
