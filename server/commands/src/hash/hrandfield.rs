//! HRANDFIELD: random fields, with or without repetition.
//!
//! | asked for                    | way                                                              |
//! |------------------------------|------------------------------------------------------------------|
//! | one, or some that may repeat | a pick from the hash each                                        |
//! | many that may repeat, packed | all pairs in a row, and picks from it                            |
//! | a large share, distinct      | one walk that takes each pair as likely as is right for the rest |
//! | a small share, distinct      | picks, those seen before left out                                |

use std::collections::BTreeSet;

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Reply, Resp, Spec, spec};
use storage::{Hash, Rng};

use crate::{Command, Read, Refused, Run, Spread};

/// Repeated picks stop above a reply of this size, instead of taking all memory.
const REPLY_BYTES_MAX: usize = if cfg!(test) { 1 << 20 } else { 512 << 20 };
/// What an empty field takes in a reply.
const FIELD_BYTES_MIN: usize = b"$0\r\n\r\n".len();
/// A share below one in so many is picked, a larger one walked for.
const PICKED_SHARE: usize = 3;
/// Picks per distinct field, on average, before a walk finds the rest. Two are usual.
const TRIES_MAX: usize = 16;

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "hrandfield",
        summary: "Picks fields of a hash at random.",
        group: Group::Hash,
        since: "6.2.0",
        arity: Arity::at_least(2),
        flags: Flags::READONLY,
        acl: Acl::HASH.and(Acl::READ).and(Acl::SLOW),
        keys: spec::ONE_RO_ACCESS,
        range: (1, 1, 1),
        tips: &["nondeterministic_output"],
        deprecated_since: None,
    },
    run: Run::Read(hrandfield),
    spread: Spread::Keys,
}];

fn hrandfield(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    if args.left() == 0 {
        let hash = cx.shard.hash(&key)?;
        match hash.and_then(|hash| hash.random(cx.rng)) {
            Some((field, _)) => cx.reply.bulk(field),
            None => cx.reply.null(),
        }
        return Ok(());
    }
    let (count, values) = options(&mut args)?;
    let Some(hash) = cx.shard.hash(&key)? else {
        cx.reply.array(0);
        return Ok(());
    };
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let mut pairs = Pairs {
        values,
        reply: &mut cx.reply,
    };
    if count < 0 {
        pairs.repeated(hash, wanted, cx.rng)?;
    } else {
        pairs.distinct(hash, wanted.min(hash.len()), cx.rng);
    }
    Ok(())
}

/// The count, negative for picks that may repeat, and whether values are wanted.
fn options(args: &mut Args<'_>) -> Result<(i64, bool), Refusal> {
    let count = args.int()?;
    if count == i64::MIN {
        return Err(Refusal::out_of_range(-i64::MAX, i64::MAX));
    }
    let values = args.left() > 0;
    if values && !args.keyword("WITHVALUES") {
        return Err(Refusal::Syntax);
    }
    args.end()?;
    if values && count.unsigned_abs() > i64::MAX.unsigned_abs() / 2 {
        return Err(Refusal::ValueOutOfRange);
    }
    Ok((count, values))
}

/// The reply: fields, or pairs, which are arrays of their own in version 3 only.
struct Pairs<'r, 'o> {
    values: bool,
    reply: &'r mut Reply<'o>,
}

impl Pairs<'_, '_> {
    fn header(&mut self, count: usize) {
        let flat = self.values && self.reply.resp() == Resp::V2;
        self.reply.array(if flat { count * 2 } else { count });
    }

    fn write(&mut self, (field, value): (&[u8], &[u8])) {
        if !self.values {
            return self.reply.bulk(field);
        }
        if self.reply.resp() == Resp::V3 {
            self.reply.array(2);
        }
        self.reply.bulk(field);
        self.reply.bulk(value);
    }

    /// `count` picks, each from all fields.
    fn repeated(&mut self, hash: &Hash, count: usize, rng: &mut Rng) -> Result<(), Refusal> {
        if count > REPLY_BYTES_MAX / FIELD_BYTES_MIN {
            return Err(Refusal::ValueOutOfRange);
        }
        let all: Vec<_> = if is_packed(hash) && count >= hash.len() {
            hash.iter().collect()
        } else {
            Vec::new()
        };
        let begin = self.reply.mark();
        self.header(count);
        for _ in 0..count {
            let pair = match all.get(rng.index(all.len())) {
                Some(pair) => Some(*pair),
                None => hash.random(rng),
            };
            pair.into_iter().for_each(|pair| self.write(pair));
            if self.reply.mark() - begin > REPLY_BYTES_MAX {
                self.reply.rewind(begin);
                return Err(Refusal::ValueOutOfRange);
            }
        }
        Ok(())
    }

    /// `count` different fields; `count` is at most the hash's length.
    fn distinct(&mut self, hash: &Hash, count: usize, rng: &mut Rng) {
        self.header(count);
        if is_packed(hash) || count > hash.len() / PICKED_SHARE {
            return self.walk(hash.iter(), hash.len(), count, rng);
        }
        let mut seen = BTreeSet::new();
        for _ in 0..count * TRIES_MAX {
            if seen.len() == count {
                return;
            }
            if let Some(pair) = hash.random(rng)
                && seen.insert(pair.0)
            {
                self.write(pair);
            }
        }
        let others = hash.iter().filter(|(field, _)| !seen.contains(field));
        self.walk(others, hash.len() - seen.len(), count - seen.len(), rng);
    }

    /// `count` of the `len` pairs that `pairs` gives, each choice of them equally likely.
    fn walk<'a>(
        &mut self,
        pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        len: usize,
        mut count: usize,
        rng: &mut Rng,
    ) {
        for (n, pair) in pairs.enumerate() {
            if rng.index(len - n) < count {
                count -= 1;
                self.write(pair);
            }
        }
    }
}

/// Whether a pick takes a walk; such a hash is small.
fn is_packed(hash: &Hash) -> bool {
    hash.encoding() != "hashtable"
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use protocol::Resp;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn counts_and_shapes() {
        let mut bench = Bench::new();
        bench.table(
            "
            HRANDFIELD k -> $-1
            HRANDFIELD k 1 -> *0
            HRANDFIELD k -4611686018427387903 WITHVALUES -> *0
            HSET k a 1 -> :1
            HRANDFIELD k -> $1 a
            HRANDFIELD k 0 -> *0
            HRANDFIELD k 9 -> *1 $1 a
            HRANDFIELD k -3 -> *3 $1 a $1 a $1 a
            HRANDFIELD k 2 withvalues -> *2 $1 a $1 1
            HRANDFIELD k -2 WITHVALUES -> *4 $1 a $1 1 $1 a $1 1
            HRANDFIELD k 4611686018427387903 WITHVALUES -> *2 $1 a $1 1
            HSET k b 2 -> :1
            HRANDFIELD k 2 -> *2 $1 a $1 b
            HRANDFIELD k 9223372036854775807 -> *2 $1 a $1 b
            ",
        );
        bench.resp = Resp::V3;
        bench.table(
            "
            HRANDFIELD none -> _
            HRANDFIELD none 1 -> *0
            HRANDFIELD k 2 WITHVALUES -> *2 *2 $1 a $1 1 *2 $1 b $1 2
            HRANDFIELD k 2 -> *2 $1 a $1 b
            HDEL k b -> :1
            HRANDFIELD k -2 WITHVALUES -> *2 *2 $1 a $1 1 *2 $1 a $1 1
            ",
        );
    }

    #[test]
    fn refusals_and_their_order() {
        Bench::new().table(
            "
            SET s x -> +OK
            HRANDFIELD s -> -WRONGTYPE Operation against a key holding the wrong kind of value
            HRANDFIELD s 0 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            HRANDFIELD s x -> -ERR value is not an integer or out of range
            HRANDFIELD s -9223372036854775808 X -> -ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
            HRANDFIELD s 1 X -> -ERR syntax error
            HRANDFIELD s 1 WITHVALUES WITHVALUES -> -ERR syntax error
            HRANDFIELD s 4611686018427387904 WITHVALUES X -> -ERR syntax error
            HRANDFIELD s 4611686018427387904 WITHVALUES -> -ERR value is out of range
            HRANDFIELD s -4611686018427387904 WITHVALUES -> -ERR value is out of range
            HRANDFIELD s -4611686018427387903 WITHVALUES -> -WRONGTYPE Operation against a key holding the wrong kind of value
            HSET k a 1 -> :1
            HRANDFIELD k -9223372036854775807 -> -ERR value is out of range
            ",
        );
    }

    #[test]
    fn a_reply_beyond_all_bounds_is_refused() {
        let mut bench = Bench::new();
        bench.raw(&[b"HSET", b"k", b"f", &[b'v'; 2000]]);
        let refused = "-ERR value is out of range";
        assert_eq!(bench.run("HRANDFIELD k -1000 WITHVALUES"), refused);
    }

    /// The fields of a reply, after its header.
    fn fields(reply: &str) -> Vec<String> {
        let words = reply.split(' ').skip(1);
        words
            .filter(|w| !w.starts_with('$'))
            .map(str::to_string)
            .collect()
    }

    #[test]
    fn distinct_fields_differ_and_every_field_comes() {
        for len in [20, 400] {
            let mut bench = Bench::new();
            let pairs: String = (0..len).map(|n| format!(" f{n} v")).collect();
            bench.run(&format!("HSET k{pairs}"));
            let mut seen = BTreeMap::new();
            for count in [1, 3, len / 4, len / 2, len - 1] {
                for _ in 0..10 {
                    let picked = fields(&bench.run(&format!("HRANDFIELD k {count}")));
                    assert_eq!(picked.len(), count);
                    assert_eq!(picked.iter().collect::<BTreeSet<_>>().len(), count);
                    picked
                        .into_iter()
                        .for_each(|f| *seen.entry(f).or_insert(0) += 1);
                }
            }
            assert_eq!(seen.len(), len);
            let repeated = fields(&bench.run(&format!("HRANDFIELD k -{}", len * 10)));
            assert_eq!(repeated.len(), len * 10);
            assert_eq!(repeated.iter().collect::<BTreeSet<_>>().len(), len);
            assert_eq!(fields(&bench.run("HRANDFIELD k -5")).len(), 5);
        }
    }
}
