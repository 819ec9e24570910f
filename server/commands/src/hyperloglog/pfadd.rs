//! PFADD, PFCOUNT, PFMERGE.

use protocol::{
    Acl, Args, Arity, Begin, Find, Flags, Group, KeyFlags, KeySpec, Refusal, Spec, spec,
};
use storage::{Edit, EventClass, Key, Text, Ttl};

use crate::hyperloglog::sketch::{self, Corrupt, Form, REGISTERS};
use crate::{Command, Refused, Run, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "pfadd",
            summary: "Adds elements to a HyperLogLog, which is made if it is not there.",
            group: Group::HyperLogLog,
            since: "2.8.9",
            arity: Arity::at_least(2),
            flags: Flags::DENYOOM.and(Flags::FAST).and(Flags::WRITE),
            acl: Acl::FAST.and(Acl::HYPERLOGLOG).and(Acl::WRITE),
            keys: spec::ONE_RW_INSERT,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(pfadd),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "pfcount",
            summary: "Tells about how many different elements HyperLogLogs have together.",
            group: Group::HyperLogLog,
            since: "2.8.9",
            arity: Arity::at_least(2),
            flags: Flags::MAY_REPLICATE.and(Flags::READONLY),
            acl: Acl::HYPERLOGLOG.and(Acl::READ).and(Acl::SLOW),
            keys: &[KeySpec::range(1, -1, 1, KeyFlags::RW.and(KeyFlags::ACCESS))],
            range: (1, -1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(pfcount),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "pfmerge",
            summary: "Puts the union of HyperLogLogs into the first one.",
            group: Group::HyperLogLog,
            since: "2.8.9",
            arity: Arity::at_least(2),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::HYPERLOGLOG.and(Acl::SLOW).and(Acl::WRITE),
            keys: &[
                KeySpec::one(1, KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::INSERT)),
                KeySpec {
                    begin: Begin::Index(2),
                    find: Find::Range {
                        last: -1,
                        step: 1,
                        limit: 0,
                    },
                    flags: KeyFlags::RO.and(KeyFlags::ACCESS),
                },
            ],
            range: (1, -1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(pfmerge),
        spread: Spread::Keys,
    },
];

impl From<Corrupt> for Refused {
    fn from(_: Corrupt) -> Self {
        Refused(Refusal::Text("INVALIDOBJ Corrupted HLL object detected"))
    }
}

/// The sketch at a key.
///
/// # Errors
/// The key holds something else, or a string that is no sketch.
fn sketch_at<'e>(edit: &'e Edit<'_>, key: &Key<'_>) -> Result<Option<(Form, &'e [u8])>, Refused> {
    let bytes = match edit.text(key)? {
        None => return Ok(None),
        Some(Text::Int(_)) => &[],
        Some(Text::Bytes(bytes)) => bytes,
    };
    let form = sketch::form(bytes);
    let form = form.ok_or(Refused(Refusal::Text(
        "WRONGTYPE Key is not a valid HyperLogLog string value.",
    )))?;
    Ok(Some((form, bytes)))
}

fn pfadd(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let max = cx.settings.hll_sparse_bytes_max;
    let changed = match sketch_at(&cx.edit, &key)? {
        None => {
            let mut new = sketch::empty();
            add(&mut new, args.rest(), max)?;
            sketch::mark_stale(&mut new);
            cx.edit.put_raw(&key, new, Ttl::Clear);
            true
        }
        Some((Form::Dense, _)) => add_dense(cx, &key, args.rest())?,
        Some((Form::Sparse, bytes)) => {
            let mut new = bytes.to_vec();
            let changed = add(&mut new, args.rest(), max)?;
            if changed {
                replace(cx, &key, new)?;
            }
            changed
        }
    };
    if changed {
        cx.edit.event(EventClass::String, "pfadd", &key);
    } else {
        cx.edit.write_nothing(&key);
    }
    cx.reply.int(i64::from(changed));
    Ok(())
}

/// Adds elements; whether any changed the sketch.
fn add<'w>(
    sketch: &mut Vec<u8>,
    elements: impl Iterator<Item = &'w [u8]>,
    sparse_bytes_max: usize,
) -> Result<bool, Corrupt> {
    let mut changed = false;
    for element in elements {
        let (index, run) = sketch::place(element);
        changed |= sketch::set(sketch, index, run, sparse_bytes_max)?;
    }
    Ok(changed)
}

/// Adds elements to a dense sketch where it is: most change nothing, the others a byte or two.
fn add_dense<'w>(
    cx: &mut Write<'_>,
    key: &Key<'_>,
    elements: impl Iterator<Item = &'w [u8]>,
) -> Result<bool, Refused> {
    let mut changed = false;
    for element in elements {
        let (index, run) = sketch::place(element);
        let raised = match sketch_at(&cx.edit, key)? {
            Some((_, bytes)) => sketch::raised(bytes, index, run),
            None => None,
        };
        if let Some((at, pair, len)) = raised {
            cx.edit.write_string(key, at, &pair[..len])?;
            changed = true;
        }
    }
    if changed && let Some((_, bytes)) = sketch_at(&cx.edit, key)? {
        let (at, mark) = sketch::stale_mark(bytes);
        if bytes.get(at) != Some(&mark) {
            cx.edit.write_string(key, at, &[mark])?;
        }
    }
    Ok(changed)
}

/// Puts a changed sketch in its predecessor's place; writes from the first byte that differs if it can.
fn replace(cx: &mut Write<'_>, key: &Key<'_>, new: Vec<u8>) -> Result<(), Refused> {
    let same = match sketch_at(&cx.edit, key)? {
        Some((_, old)) if old.len() <= new.len() => {
            let pairs = old.iter().zip(&new);
            Some(pairs.take_while(|(old, new)| old == new).count())
        }
        _ => None,
    };
    match same {
        Some(same) if same < new.len() => {
            cx.edit.write_string(key, same, &new[same..])?;
        }
        Some(_) => cx.edit.write_nothing(key),
        None => cx.edit.put_raw(key, new, Ttl::Keep),
    }
    Ok(())
}

/// The registers of all these keys; a missing one has none. And whether one was dense.
fn union<'w>(
    cx: &Write<'_>,
    words: impl Iterator<Item = &'w [u8]>,
) -> Result<(Box<sketch::Registers>, bool), Refused> {
    let (mut registers, mut dense) = (Box::new([0; REGISTERS]), false);
    for word in words {
        let key = cx.key(word);
        cx.edit.touch(&key);
        if let Some((form, bytes)) = sketch_at(&cx.edit, &key)? {
            dense |= form == Form::Dense;
            sketch::merge(bytes, &mut registers)?;
        }
    }
    Ok((registers, dense))
}

fn pfcount(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    if args.left() > 1 {
        let (registers, _) = union(cx, args.rest())?;
        let count = sketch::count_registers(&registers);
        cx.reply.int(count.cast_signed());
        return Ok(());
    }
    let key = cx.key(args.clone().bytes()?);
    cx.edit.touch(&key);
    let Some((_, bytes)) = sketch_at(&cx.edit, &key)? else {
        cx.reply.int(0);
        return Ok(());
    };
    let count = match sketch::cached(bytes) {
        Some(count) => {
            cx.edit.write_nothing(&key);
            count
        }
        None => {
            // What was counted is kept in the value, as GET shows.
            let count = sketch::count(bytes)?;
            let at = sketch::CARDINALITY_AT;
            cx.edit.write_string(&key, at, &count.to_le_bytes())?;
            count
        }
    };
    cx.reply.int(count.cast_signed());
    Ok(())
}

fn pfmerge(cx: &mut Write<'_>, args: Args<'_>) -> Result<(), Refused> {
    let (registers, dense) = union(cx, args.rest())?;
    let key = cx.key(args.clone().bytes()?);
    let (is_new, mut new) = match sketch_at(&cx.edit, &key)? {
        None => (true, sketch::empty()),
        Some((_, bytes)) => (false, bytes.to_vec()),
    };
    if dense {
        sketch::make_dense(&mut new)?;
    }
    for (index, run) in registers.iter().enumerate().filter(|(_, run)| **run > 0) {
        sketch::set(&mut new, index, *run, cx.settings.hll_sparse_bytes_max)?;
    }
    sketch::mark_stale(&mut new);
    if is_new {
        cx.edit.put_raw(&key, new, Ttl::Clear);
    } else {
        replace(cx, &key, new)?;
    }
    cx.edit.event(EventClass::String, "pfadd", &key);
    cx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn counting() {
        Bench::new().table(
            "
            PFADD h -> :1
            PFADD h -> :0
            PFCOUNT h -> :0
            PFADD h a b c d e f g -> :1
            PFCOUNT h -> :7
            PFCOUNT h -> :7
            PFADD h a b c d e f g -> :0
            PFADD i g h -> :1
            PFCOUNT h i none -> :8
            PFCOUNT none -> :0
            PFCOUNT none none -> :0
            PFMERGE h i none -> +OK
            PFCOUNT h -> :8
            PFMERGE new -> +OK
            PFCOUNT new -> :0
            PFMERGE new h i -> +OK
            PFCOUNT new -> :8
            OBJECT ENCODING new -> $3 raw
            EXPIRE h 100 -> :1
            PFADD h x -> :1
            TTL h -> :100
            ",
        );
    }

    #[test]
    fn what_is_no_sketch() {
        let not = "-WRONGTYPE Key is not a valid HyperLogLog string value.";
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        let broken = "-INVALIDOBJ Corrupted HLL object detected";
        let mut bench = Bench::new();
        bench.raw(&[b"SET", b"cut", b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x7f"]);
        bench.raw(&[b"SET", b"form", b"HYLL\x02\0\0\0\0\0\0\0\0\0\0\x80\x7f\xff"]);
        bench.raw(&[b"SET", b"dense", b"HYLL\0\0\0\0\0\0\0\0\0\0\0\x80\x7f\xff"]);
        bench.table(&format!(
            "
            MSET i 12 s HYLL -> +OK
            RPUSH l x -> :1
            PFADD i a -> {not}
            PFADD s a -> {not}
            PFADD form a -> {not}
            PFADD dense -> {not}
            PFCOUNT l -> {wrong}
            PFCOUNT none l -> {wrong}
            PFMERGE none s -> {not}
            EXISTS none -> :0
            PFCOUNT cut -> {broken}
            PFCOUNT cut none -> {broken}
            PFMERGE none cut -> {broken}
            PFADD cut a b c d -> {broken}
            STRLEN cut -> :17
            "
        ));
    }

    /// A differential run met a sketch cut short by SETRANGE: Redis keeps the elements before the one that it refuses, which
    /// looked like a lost write here. A refused request leaves nothing behind.
    #[test]
    fn a_refused_addition_leaves_nothing() {
        let mut bench = Bench::new();
        bench.table("PFADD h a b c -> :1");
        let whole = bench.raw(&[b"GET", b"h"]);
        // The last code is gone: the registers of some elements are not there, of others they are.
        let cut = &whole[b"$27\r\n".len()..whole.len() - b"BZ\r\n".len()];
        bench.raw(&[b"SET", b"h", cut]);
        let before = bench.raw(&[b"GET", b"h"]);
        let elements: Vec<String> = (0..40).map(|i| format!("e{i}")).collect();
        let words = [b"PFADD".as_slice(), b"h"].into_iter();
        let words: Vec<&[u8]> = words.chain(elements.iter().map(String::as_bytes)).collect();
        let broken = b"-INVALIDOBJ Corrupted HLL object detected\r\n";
        assert_eq!(bench.raw(&words), broken);
        assert_eq!(bench.raw(&[b"GET", b"h"]), before);
        bench.table("PFADD h e0 -> :1\n PFADD h a -> :0");
    }

    #[test]
    fn the_bytes_are_those_of_redis() {
        let mut bench = Bench::new();
        bench.table("PFADD h a b c -> :1");
        let golden = b"$27\r\nHYLL\x01\0\0\0\0\0\0\0\0\0\0\x80`\xf3\x80P\xb1\x84K\xfb\x80BZ\r\n";
        assert_eq!(bench.raw(&[b"GET", b"h"]), golden);
    }

    #[test]
    fn large_ones_become_dense_and_stay_so() {
        let mut bench = Bench::new();
        let words: Vec<String> = (0..3000).map(|i| format!("e{i}")).collect();
        for chunk in words.chunks(7) {
            let words = [b"PFADD".as_slice(), b"h"].into_iter();
            let words: Vec<&[u8]> = words.chain(chunk.iter().map(String::as_bytes)).collect();
            bench.raw(&words);
        }
        bench.table(
            "
            STRLEN h -> :12304
            PFCOUNT h -> :2979
            PFADD small e1 other -> :1
            PFMERGE small h -> +OK
            STRLEN small -> :12304
            PFADD h e1 -> :0
            ",
        );
        bench.settings.hll_sparse_bytes_max = 0;
        bench.table("PFADD new a -> :1\n STRLEN new -> :12304");
    }
}
