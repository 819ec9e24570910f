//! KEYS and RANDOMKEY: keys out of a whole database.

use protocol::{Acl, Args, Arity, Flags, Group, Reply, Resp, Spec};
use storage::Shard;

use crate::key::page::Filter;
use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "keys",
            summary: "Lists the keys that match a pattern.",
            group: Group::Generic,
            since: "1.0.0",
            arity: Arity::exactly(2),
            flags: Flags::READONLY,
            acl: Acl::DANGEROUS
                .and(Acl::KEYSPACE)
                .and(Acl::READ)
                .and(Acl::SLOW),
            keys: &[],
            range: (0, 0, 0),
            tips: &["request_policy:all_shards", "nondeterministic_output_order"],
            deprecated_since: None,
        },
        run: Run::Read(keys),
        spread: Spread::Concat,
    },
    Command {
        spec: Spec {
            name: "randomkey",
            summary: "Picks some key of the selected database.",
            group: Group::Generic,
            since: "1.0.0",
            arity: Arity::exactly(1),
            flags: Flags::READONLY.and(Flags::TOUCHES_ARBITRARY_KEYS),
            acl: Acl::KEYSPACE.and(Acl::READ).and(Acl::SLOW),
            keys: &[],
            range: (0, 0, 0),
            tips: &[
                "request_policy:all_shards",
                "response_policy:special",
                "nondeterministic_output",
            ],
            deprecated_since: None,
        },
        run: Run::Read(randomkey),
        spread: Spread::AnyShard,
    },
];

fn keys(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let filter = Filter::new(args.bytes()?);
    let (later, mut count) = (cx.reply.later(), 0);
    cx.shard.keys(cx.db, |key| {
        if filter.passes(key) {
            cx.reply.bulk(key);
            count += 1;
        }
    });
    cx.reply.array_at(later, count);
    Ok(())
}

/// A step of KEYS through one slot.
pub struct Step {
    /// Keys looked at.
    pub seen: usize,
    /// Keys written.
    pub found: usize,
    /// Where the slot goes on; None at its end.
    pub next: Option<u64>,
}

/// Writes about `count` keys of the slot of a cursor, of those that match, as KEYS lists them.
pub fn keys_of_slot(
    shard: &Shard,
    (db, cursor): (u8, u64),
    count: usize,
    pattern: &[u8],
    out: &mut Vec<u8>,
) -> Step {
    let filter = Filter::new(pattern);
    let end = Shard::cursor_slot(cursor).index() + 1;
    let (mut seen, mut found) = (0, 0);
    // (What a key looks like is the same in both versions of the protocol.)
    let mut reply = Reply::new(out, Resp::V2);
    let next = shard.scan(db, cursor, end, count, |key, _| {
        seen += 1;
        if filter.passes(key) {
            reply.bulk(key);
            found += 1;
        }
    });
    Step { seen, found, next }
}

fn randomkey(cx: &mut Read<'_>, _: Args<'_>) -> Result<(), Refused> {
    match cx.shard.random_key(cx.db, cx.rng) {
        Some(key) => cx.reply.bulk(key),
        None => cx.reply.null(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use protocol::Resp;

    use crate::testing::Bench;

    #[test]
    fn keys_that_match() {
        let mut bench = Bench::new();
        bench.table(
            r"
            KEYS * -> *0
            MSET one 1 two 2 three 3 -> +OK
            KEYS o* -> *1 $3 one
            KEYS t[^w]* -> *1 $5 three
            KEYS \* -> *0
            SET gone 1 PX 5 -> +OK
            ",
        );
        bench.pass_ms(5);
        bench.table("KEYS g* -> *0");
        let all = bench.run("KEYS *");
        assert!(all.starts_with("*3 "));
        assert!(["one", "two", "three"].iter().all(|key| all.contains(key)));
        // Only the pattern `*` itself shows the empty key.
        bench.table(
            r#"
            DEL one two three -> :3
            SET "" v -> +OK
            KEYS * -> *1 $0 
            KEYS ** -> *0
            "#,
        );
    }

    #[test]
    fn more_keys_than_one_digit_counts() {
        let mut bench = Bench::new();
        (0..12).for_each(|n| assert_eq!(bench.run(&format!("SET k{n} v")), "+OK"));
        assert!(bench.run("KEYS k*").starts_with("*12 $"));
    }

    #[test]
    fn some_key() {
        let mut bench = Bench::new();
        bench.table(
            "
            RANDOMKEY -> $-1
            SET k v -> +OK
            RANDOMKEY -> $1 k
            SET k v PX 5 -> +OK
            ",
        );
        bench.pass_ms(5);
        bench.resp = Resp::V3;
        bench.table("RANDOMKEY -> _");
    }
}
