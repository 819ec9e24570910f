//! SORT and SORT_RO: the elements of a list, set or sorted set in another order, or what other keys
//! tell of them. The order itself is in `order.rs`, keys made of patterns in `pattern.rs`.

use protocol::{Acl, Args, Arity, Flags, Group, KeyFlags, KeySpec, Refusal, Reply, Spec};
use storage::{EventClass, List, OwnedValue, Shard, Side, Slot, Text};

use crate::key;
use crate::key::order::{By, Element, Order};
use crate::key::pattern::{self, Pattern, reads_elsewhere, star};
use crate::{Command, Read, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "sort",
            summary: "Sorts a list, set or sorted set, and may store the result.",
            group: Group::Generic,
            since: "1.0.0",
            arity: Arity::at_least(2),
            flags: Flags::DENYOOM.and(Flags::MOVABLEKEYS).and(Flags::WRITE),
            acl: Acl::DANGEROUS
                .and(Acl::LIST)
                .and(Acl::SET)
                .and(Acl::SLOW)
                .and(Acl::SORTEDSET)
                .and(Acl::WRITE),
            keys: &[
                KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS)),
                KeySpec::unknown(KeyFlags::RO.and(KeyFlags::ACCESS)),
                KeySpec::unknown(KeyFlags::OW.and(KeyFlags::UPDATE)),
            ],
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(sort),
        spread: Spread::KeysOrWhole(reads_elsewhere),
    },
    Command {
        spec: Spec {
            name: "sort_ro",
            summary: "Sorts a list, set or sorted set without storing anything.",
            group: Group::Generic,
            since: "7.0.0",
            arity: Arity::at_least(2),
            flags: Flags::MOVABLEKEYS.and(Flags::READONLY),
            acl: Acl::DANGEROUS
                .and(Acl::LIST)
                .and(Acl::READ)
                .and(Acl::SET)
                .and(Acl::SLOW)
                .and(Acl::SORTEDSET),
            keys: &[
                KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS)),
                KeySpec::unknown(KeyFlags::RO.and(KeyFlags::ACCESS)),
            ],
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(sort_ro),
        spread: Spread::KeysOrWhole(reads_elsewhere),
    },
];

/// What a request asks for.
struct Options<'a> {
    order: Order<'a>,
    gets: Vec<Pattern<'a>>,
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    /// Takes all words left. In cluster mode patterns must be of the key's slot.
    fn parse(args: &mut Args<'a>, cluster: Option<Slot>, may_store: bool) -> Result<Self, Refusal> {
        let is_elsewhere =
            |pattern| cluster.is_some_and(|slot| pattern::slot(pattern) != Some(slot));
        let mut order = Order::default();
        let (mut gets, mut store) = (Vec::new(), None);
        while args.left() > 0 {
            if args.keyword("ASC") {
                order.desc = false;
            } else if args.keyword("DESC") {
                order.desc = true;
            } else if args.keyword("ALPHA") {
                order.alpha = true;
            } else if args.left() > 2 && args.keyword("LIMIT") {
                order.limit = (args.int()?, args.int()?);
            } else if may_store && args.left() > 1 && args.keyword("STORE") {
                store = Some(args.bytes()?);
            } else if args.left() > 1 && args.keyword("BY") {
                let pattern = args.bytes()?;
                if star(pattern).is_none() {
                    // What says the same of every element sorts nothing, whatever else is given.
                    order.by = By::Nothing;
                } else if is_elsewhere(pattern) {
                    return Err(Refusal::SortByCluster);
                } else if !matches!(order.by, By::Nothing) {
                    order.by = By::Pattern(Pattern::new(pattern));
                }
            } else if args.left() > 1 && args.keyword("GET") {
                let pattern = args.bytes()?;
                if pattern != b"#" && is_elsewhere(pattern) {
                    return Err(Refusal::SortGetCluster);
                }
                gets.push(Pattern::new(pattern));
            } else {
                return Err(Refusal::Syntax);
            }
        }
        Ok(Options { order, gets, store })
    }
}

fn sort(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let mut options = Options::parse(&mut args, cx.settings.cluster.then_some(key.slot), true)?;
    options.order.kept = options.store.is_some() || cx.settings.in_script;
    let shard: &Shard = &cx.edit;
    let elements = options.order.elements(shard, &key)?;
    let Some(store) = options.store else {
        reply(&mut cx.reply, shard, cx.db, &options.gets, &elements);
        return Ok(());
    };
    let (mut list, mut bytes) = (List::new(), Vec::new());
    for_each_result(shard, cx.db, &options.gets, &elements, |text| {
        bytes.clear();
        if let Some(text) = text {
            text.write(&mut bytes);
        }
        list.push(Side::Right, &bytes, shard.limits());
    });
    let (store, len) = (cx.key(store), list.len());
    let list = OwnedValue::List(Box::new(list));
    let event = (EventClass::List, "sortstore");
    key::store(&mut cx.edit, &store, list, event);
    cx.reply.int(len as i64);
    Ok(())
}

fn sort_ro(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let mut options = Options::parse(&mut args, cx.settings.cluster.then_some(key.slot), false)?;
    options.order.kept = cx.settings.in_script;
    let elements = options.order.elements(cx.shard, &key)?;
    reply(&mut cx.reply, cx.shard, cx.db, &options.gets, &elements);
    Ok(())
}

fn reply(
    reply: &mut Reply<'_>,
    shard: &Shard,
    db: u8,
    gets: &[Pattern<'_>],
    elements: &[Element<'_>],
) {
    reply.array(elements.len().saturating_mul(gets.len().max(1)));
    for_each_result(shard, db, gets, elements, |text| match text {
        Some(Text::Bytes(bytes)) => reply.bulk(bytes),
        Some(Text::Int(n)) => reply.bulk_int(n),
        None => reply.null(),
    });
}

/// Shows the elements, or what the GET patterns find for each.
fn for_each_result(
    shard: &Shard,
    db: u8,
    gets: &[Pattern<'_>],
    elements: &[Element<'_>],
    mut f: impl FnMut(Option<Text<'_>>),
) {
    let mut scratch = Vec::new();
    for element in elements {
        if gets.is_empty() {
            f(Some(Text::Bytes(element)));
        }
        for get in gets {
            f(get.find(shard, db, element, &mut scratch));
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::Resp;
    use storage::{Hash, Key, List, OwnedValue, Set, Side, Ttl, Zset};

    use crate::testing::Bench;

    /// A bench with list `l` (3 1 2), set `s` (3 1 2) and sorted set `z` (a c b by score), weights
    /// `w_1` 3, `w_2` 2, `w_3` 1, objects `o_N`, hashes `h_N` with field `f`.
    fn bench() -> Bench {
        let mut bench = Bench::new();
        let limits = bench.shard.limits().clone();
        let mut list = List::new();
        let (mut set, mut zset) = (Set::new(), Zset::new());
        for n in ["3", "1", "2"] {
            list.push(Side::Right, n.as_bytes(), &limits);
            set.add(n.as_bytes(), &limits);
        }
        for (score, member) in ["a", "c", "b"].iter().enumerate() {
            zset.add(member.as_bytes(), score as f64, &limits);
        }
        let mut puts = vec![
            ("l".to_owned(), OwnedValue::List(Box::new(list))),
            ("s".to_owned(), OwnedValue::Set(Box::new(set))),
            ("z".to_owned(), OwnedValue::Zset(Box::new(zset))),
        ];
        for n in 1..=3 {
            let mut hash = Hash::new();
            hash.set(b"f", format!("{}", n * n % 4).as_bytes(), &limits);
            puts.push((format!("h_{n}"), OwnedValue::Hash(Box::new(hash))));
        }
        for (name, value) in puts {
            bench
                .shard
                .edit()
                .put_value(&Key::new(0, name.as_bytes()), value, Ttl::Clear);
        }
        bench.table(
            "
            MSET w_1 3 w_2 2 w_3 1 -> +OK
            MSET o_1 uno o_2 due -> +OK
            ",
        );
        bench
    }

    #[test]
    fn orders() {
        bench().table(
            "
            SORT none -> *0
            SORT l -> *3 $1 1 $1 2 $1 3
            SORT_RO s DESC -> *3 $1 3 $1 2 $1 1
            SORT l DESC ASC -> *3 $1 1 $1 2 $1 3
            SORT z ALPHA -> *3 $1 a $1 b $1 c
            SORT z ALPHA DESC LIMIT 1 1 -> *1 $1 b
            SORT z -> -ERR One or more scores can't be converted into double
            SORT l BY w_* -> *3 $1 3 $1 2 $1 1
            SORT l BY w_* DESC LIMIT 0 2 -> *2 $1 1 $1 2
            SORT l BY o_* ALPHA -> *3 $1 3 $1 2 $1 1
            SORT l BY o_* -> -ERR One or more scores can't be converted into double
            SORT l BY none_* -> *3 $1 1 $1 2 $1 3
            SORT l BY h_*->f -> *3 $1 2 $1 1 $1 3
            SORT w_1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ",
        );
    }

    #[test]
    fn natural_order() {
        bench().table(
            "
            SORT l BY nosort -> *3 $1 3 $1 1 $1 2
            SORT l BY nosort DESC -> *3 $1 2 $1 1 $1 3
            SORT l BY nosort DESC LIMIT 0 1 -> *1 $1 2
            SORT l BY nosort LIMIT 1 5 -> *2 $1 1 $1 2
            SORT l BY w_* BY nosort -> *3 $1 3 $1 1 $1 2
            SORT l BY nosort BY w_* -> *3 $1 3 $1 1 $1 2
            SORT z BY nosort -> *3 $1 a $1 c $1 b
            SORT z BY nosort DESC -> *3 $1 b $1 c $1 a
            SORT z BY nosort DESC LIMIT 1 1 -> *1 $1 c
            SORT z BY nosort LIMIT 2 10 -> *1 $1 b
            SORT s BY nosort DESC STORE d -> :3
            SORT d BY nosort -> *3 $1 3 $1 2 $1 1
            ",
        );
    }

    #[test]
    fn limits() {
        bench().table(
            "
            SORT l LIMIT 0 0 -> *0
            SORT l LIMIT 1 1 -> *1 $1 2
            SORT l LIMIT -5 2 -> *2 $1 1 $1 2
            SORT l LIMIT 1 -1 -> *2 $1 2 $1 3
            SORT l LIMIT 1 -100 -> *2 $1 2 $1 3
            SORT l LIMIT 3 1 -> *0
            SORT l LIMIT 2 9223372036854775807 -> *1 $1 3
            SORT l BY nosort LIMIT 9 9 -> *0
            SORT l BY nosort LIMIT 0 0 -> *0
            SORT none BY nosort LIMIT 0 1 -> *0
            SORT l LIMIT x 1 -> -ERR value is not an integer or out of range
            SORT l LIMIT 1 -> -ERR syntax error
            ",
        );
    }

    #[test]
    fn results_by_patterns() {
        let mut bench = bench();
        bench.table(
            "
            SORT l GET # GET o_* -> *6 $1 1 $3 uno $1 2 $3 due $1 3 $-1
            SORT l GET w_* GET h_*->f GET h_*->g -> *9 $1 3 $1 1 $-1 $1 2 $1 0 $-1 $1 1 $1 1 $-1
            SORT l GET fixed LIMIT 0 2 -> *2 $-1 $-1
            SORT l GET h_* LIMIT 0 1 -> *1 $-1
            SORT l GET o_* STORE d -> :3
            SORT d BY nosort -> *3 $3 uno $3 due $0 
            OBJECT ENCODING d -> $8 listpack
            SORT l STORE l -> :3
            SORT l BY nosort -> *3 $1 1 $1 2 $1 3
            SORT none STORE d -> :0
            EXISTS d -> :0
            SET d x EX 100 -> +OK
            SORT l STORE d -> :3
            TTL d -> :-1
            SORT_RO l STORE d -> -ERR syntax error
            SORT l STORE -> -ERR syntax error
            SORT l BY -> -ERR syntax error
            SORT l GET -> -ERR syntax error
            SORT l WHAT -> -ERR syntax error
            ",
        );
        bench.resp = Resp::V3;
        bench.table("SORT l GET o_* -> *3 $3 uno $3 due _");
    }

    #[test]
    fn a_cluster_denies_patterns_of_other_slots() {
        let mut bench = bench();
        bench.settings.cluster = true;
        bench.table(
            "
            SORT l BY nosort -> *3 $1 3 $1 1 $1 2
            SORT l BY w_* WHAT -> -ERR BY option of SORT denied in Cluster mode when keys formed by the pattern may be in different slots.
            SORT l BY *{l} -> -ERR BY option of SORT denied in Cluster mode when keys formed by the pattern may be in different slots.
            SORT l GET {m}* WHAT -> -ERR GET option of SORT denied in Cluster mode when keys formed by the pattern may be in different slots.
            SORT l GET other -> -ERR GET option of SORT denied in Cluster mode when keys formed by the pattern may be in different slots.
            MSET {l}1 30 {l}2 10 {l}3 20 -> +OK
            SORT l BY {l}* GET # GET {l}* -> *6 $1 2 $2 10 $1 3 $2 20 $1 1 $2 30
            SORT l WHAT GET # -> -ERR syntax error
            ",
        );
    }
}
