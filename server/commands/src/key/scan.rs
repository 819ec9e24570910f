//! SCAN: the keys of a database, a few at a time.
//!
//! A cursor is a place in the shard's hash order and names a slot, by which the node finds the shard;
//! cursor 0 begins the first one. A shard ends with the cursor of the next, `Settings::scan_next`. A
//! cursor from elsewhere, or one made up, shows some keys or none.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Reply, Spec};

use crate::key::page::{self, COUNT_DEFAULT, Filter};
use crate::key::until_nul;
use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "scan",
        summary: "Walks the keys of the selected database a few at a time.",
        group: Group::Generic,
        since: "2.8.0",
        arity: Arity::at_least(2),
        flags: Flags::READONLY.and(Flags::TOUCHES_ARBITRARY_KEYS),
        acl: Acl::KEYSPACE.and(Acl::READ).and(Acl::SLOW),
        keys: &[],
        range: (0, 0, 0),
        tips: &[
            "nondeterministic_output",
            "request_policy:special",
            "response_policy:special",
        ],
        deprecated_since: None,
    },
    run: Run::Read(scan),
    spread: Spread::Scan,
}];

fn scan(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let cursor = page::cursor(args.bytes()?)?;
    let (mut count, mut filter, mut of_type) = (COUNT_DEFAULT, Filter::default(), None);
    while args.left() > 0 {
        if args.keyword("NOVALUES") {
            return Err(page::NO_VALUES_ELSEWHERE.into());
        }
        if args.left() < 2 {
            return Err(Refusal::Syntax.into());
        }
        if args.keyword("COUNT") {
            count = page::count(&mut args)?;
        } else if args.keyword("MATCH") {
            filter = Filter::new(args.bytes()?);
        } else if args.keyword("TYPE") {
            of_type = Some(until_nul(args.bytes()?));
        } else {
            return Err(Refusal::Syntax.into());
        }
    }
    let (mut shown, mut found) = (0, Vec::new());
    let mut keys = Reply::new(&mut found, cx.reply.resp());
    let next = cx.shard.scan(
        cx.db,
        cursor,
        cx.settings.slots_end,
        count,
        |key, type_name| {
            let right_type = of_type.is_none_or(|t| t.eq_ignore_ascii_case(type_name.as_bytes()));
            if right_type && filter.passes(key) {
                keys.bulk(key);
                shown += 1;
            }
        },
    );
    let next = next.unwrap_or(cx.settings.scan_next);
    page::write(&mut cx.reply, next, shown, &found);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use storage::{Shard, Slot};

    use crate::testing::Bench;

    /// The cursor and the keys of a reply.
    fn parts(reply: &str) -> (String, Vec<String>) {
        let mut words = reply.split(' ').skip(2);
        let cursor = words.next().unwrap().to_owned();
        let keys = words.skip(1).skip(1).step_by(2);
        (cursor, keys.map(str::to_owned).collect())
    }

    #[test]
    fn a_whole_scan_shows_every_key_once() {
        let mut bench = Bench::new();
        // Half of them are in one slot, which is scanned in parts as well.
        let keys = (0..300).map(|n| format!("key:{n} v {{tag}}{n} v"));
        let request = format!("MSET {}", keys.collect::<Vec<_>>().join(" "));
        assert_eq!(bench.run(&request), "+OK");
        for count in [50, 5000] {
            let (mut at, mut seen) = ("0".to_owned(), HashMap::new());
            loop {
                let (next, keys) = parts(&bench.run(&format!("SCAN {at} COUNT {count}")));
                assert!(keys.len() <= count + 32);
                for key in keys {
                    *seen.entry(key).or_insert(0) += 1;
                }
                at = next;
                if at == "0" {
                    break;
                }
            }
            assert_eq!(seen.len(), 600, "count {count}");
        }
    }

    #[test]
    fn options() {
        let mut bench = Bench::new();
        bench.table(
            r#"
            SCAN 0 -> *2 $1 0 *0
            MSET abc 1 xyz 2 -> +OK
            SCAN 0 MATCH a* -> *2 $1 0 *1 $3 abc
            SCAN 0 match a* MATCH x?z count 1000 -> *2 $1 0 *1 $3 xyz
            SCAN 0 TYPE string MATCH abc -> *2 $1 0 *1 $3 abc
            SCAN 0 TYPE STRING MATCH abc -> *2 $1 0 *1 $3 abc
            SCAN 0 TYPE list -> *2 $1 0 *0
            SCAN 0 TYPE nonsense -> *2 $1 0 *0
            SCAN "" MATCH a* -> *2 $1 0 *1 $3 abc
            SCAN x COUNT -> -ERR invalid cursor
            SCAN 1x -> -ERR invalid cursor
            SCAN 18446744073709551616 -> -ERR invalid cursor
            SCAN 0 COUNT -> -ERR syntax error
            SCAN 0 COUNT 0 -> -ERR syntax error
            SCAN 0 COUNT x -> -ERR value is not an integer or out of range
            SCAN 0 COUNT -1 MATCH -> -ERR syntax error
            SCAN 0 WHAT x -> -ERR syntax error
            SCAN 0 MATCH -> -ERR syntax error
            SCAN 0 TYPE -> -ERR syntax error
            SET abc 1 PX 5 -> +OK
            "#,
        );
        bench.pass_ms(5);
        bench.table("SCAN 0 MATCH a* -> *2 $1 0 *0");
    }

    #[test]
    fn a_shard_ends_with_the_cursor_of_the_next() {
        let mut bench = Bench::new();
        bench.settings.slots_end = 8192;
        bench.settings.scan_next = Shard::cursor_at(Slot(8192));
        let next = bench.settings.scan_next.to_string();
        bench.run("MSET foo 1 bar 2"); // slots 12182 and 5061
        let (at, keys) = parts(&bench.run("SCAN 0"));
        assert_eq!((at, keys), (next.clone(), vec!["bar".to_owned()]));
        assert_eq!(
            parts(&bench.run(&format!("SCAN {next}"))),
            (next, Vec::new())
        );
    }

    /// A cursor in the middle of a slot that has been emptied since made the scan turn for ever.
    #[test]
    fn made_up_cursors_end() {
        let mut bench = Bench::new();
        bench.run("SET k v");
        for at in [
            1,
            77,
            1 << 37,
            (1 << 38) + 1,
            u64::MAX >> 1,
            u64::MAX - 1,
            u64::MAX,
        ] {
            assert!(
                bench.run(&format!("SCAN {at} COUNT 3")).starts_with("*2 $"),
                "{at}"
            );
        }
    }
}
