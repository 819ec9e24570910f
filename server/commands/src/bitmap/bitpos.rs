//! BITPOS: where the first set or clear bit is.

use core::ops::Range;

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec, spec};

use crate::bitmap::bitcount::{Unit, head_mask, tail_mask};
use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "bitpos",
        summary: "Finds the first bit that is set, or clear, in the string at a key.",
        group: Group::Bitmap,
        since: "2.8.7",
        arity: Arity::at_least(3),
        flags: Flags::READONLY,
        acl: Acl::BITMAP.and(Acl::READ).and(Acl::SLOW),
        keys: spec::ONE_RO_ACCESS,
        range: (1, 1, 1),
        tips: &[],
        deprecated_since: None,
    },
    run: Run::Read(bitpos),
    spread: Spread::Keys,
}];

fn bitpos(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let (key, bit) = (cx.key(args.bytes()?), args.int()?);
    let bit = match bit {
        0 => false,
        1 => true,
        _ => return Err(Refusal::BitArgument.into()),
    };
    // A missing key is zeros without end, whatever the other words are.
    let Some(text) = cx.shard.text(&key)? else {
        cx.reply.int(if bit { -1 } else { 0 });
        return Ok(());
    };
    let (len, open) = (text.len(), args.left() < 2);
    let range = range(&mut args, len)?;
    let found = range.map_or(-1, |range| {
        match text.with(|bytes| find(bytes, range, bit)) {
            Some(at) => at as i64,
            // Without an end the string is followed by zeros.
            None if open && !bit => len as i64 * 8,
            None => -1,
        }
    });
    cx.reply.int(found);
    Ok(())
}

/// Takes `[start [end [BYTE|BIT]]]`, in the order in which Redis looks at them: the unit before the end.
fn range(args: &mut Args<'_>, len: usize) -> Result<Option<Range<usize>>, Refusal> {
    if args.left() > 3 {
        return Err(Refusal::Syntax);
    }
    let start = if args.left() > 0 { args.int()? } else { 0 };
    let unit = Unit::take(&mut args.clone().skip(1))?;
    let end = if args.left() > 0 { args.int()? } else { -1 };
    Ok(unit.span(start, end, len))
}

/// The first bit of that value in a range of bits, which is not empty and inside `bytes`.
fn find(bytes: &[u8], bits: Range<usize>, bit: bool) -> Option<usize> {
    let (first, last) = (bits.start / 8, (bits.end - 1) / 8);
    // Looking for zeros is looking for ones in what is turned over.
    let turned = |byte: u8| if bit { byte } else { !byte };
    let masked = |at: usize| {
        let mut byte = turned(*bytes.get(at)?);
        if at == first {
            byte &= head_mask(bits.start);
        }
        if at == last {
            byte &= tail_mask(bits.end);
        }
        (byte != 0).then(|| at * 8 + byte.leading_zeros() as usize)
    };
    masked(first)
        .or_else(|| {
            let inner = bytes.get(first + 1..last)?;
            let at = first + 1 + first_not(inner, turned(0))?;
            masked(at)
        })
        .or_else(|| masked(last))
}

/// The first byte that is not `skip`, which is 0 or 0xFF; eight at a time.
fn first_not(bytes: &[u8], skip: u8) -> Option<usize> {
    let (words, _) = bytes.as_chunks::<8>();
    let skipped = 8 * words.iter().take_while(|word| **word == [skip; 8]).count();
    let rest = bytes.get(skipped..)?;
    rest.iter()
        .position(|byte| *byte != skip)
        .map(|at| skipped + at)
}

#[cfg(test)]
mod tests {
    use super::find;
    use crate::testing::Bench;
    use storage::Key;

    #[test]
    fn bits_are_found() {
        let mut bench = Bench::new();
        bench.raw(&[b"SET", b"k", b"\xff\xf0\x00"]);
        bench.raw(&[b"SET", b"ones", b"\xff\xff\xff"]);
        bench.raw(&[b"SET", b"zeros", b"\x00\x00\x00"]);
        bench.table(
            "
            BITPOS k 0 -> :12
            BITPOS k 1 -> :0
            BITPOS k 1 2 -> :-1
            BITPOS k 1 1 1 -> :8
            BITPOS k 0 0 0 -> :-1
            BITPOS k 0 9 14 BIT -> :12
            BITPOS k 1 13 -1 BIT -> :-1
            BITPOS k 0 9 11 BIT -> :-1
            BITPOS k 0 3 3 BIT -> :-1
            BITPOS ones 0 -> :24
            BITPOS ones 0 1 -> :24
            BITPOS ones 0 0 -1 -> :-1
            BITPOS ones 0 0 100 BIT -> :-1
            BITPOS ones 0 3 -> :-1
            BITPOS ones 1 -1 -> :16
            BITPOS zeros 1 -> :-1
            BITPOS zeros 0 -2 -> :8
            BITPOS zeros 0 -100 -200 -> :0
            BITPOS zeros 0 2 1 -> :-1
            BITPOS missing 0 -> :0
            BITPOS missing 1 -> :-1
            BITPOS missing 0 3 5 -> :0
            SET e \"\" -> +OK
            BITPOS e 0 -> :-1
            BITPOS e 0 0 -> :-1
            ",
        );
    }

    #[test]
    fn refusals_in_order() {
        let mut bench = Bench::new();
        bench.list(&Key::new(0, b"l"));
        bench.table(
            "
            BITPOS l x -> -ERR value is not an integer or out of range
            BITPOS l 2 -> -ERR The bit argument must be 1 or 0.
            BITPOS l 1 x -> -WRONGTYPE Operation against a key holding the wrong kind of value
            BITPOS missing 1 x -> :-1
            SET k v -> +OK
            BITPOS k 1 x y WHAT -> -ERR value is not an integer or out of range
            BITPOS k 1 0 y WHAT -> -ERR syntax error
            BITPOS k 1 0 y BIT -> -ERR value is not an integer or out of range
            BITPOS k 1 x y BIT z -> -ERR syntax error
            ",
        );
    }

    proptest::proptest! {
        #[test]
        fn skipping_words_finds_the_first(
            byte: u8, many in 0..40usize, last in 0u8.., a: usize, b: usize, bit: bool,
        ) {
            let fill = if bit { 0 } else { 0xFF };
            let mut bytes = vec![fill; many];
            bytes.extend([byte, last]);
            let (a, b) = (a % (bytes.len() * 8), b % (bytes.len() * 8));
            let (start, end) = (a.min(b), a.max(b) + 1);
            let is = |at: &usize| (bytes[at / 8] >> (7 - at % 8) & 1 == 1) == bit;
            assert_eq!(find(&bytes, start..end, bit), (start..end).find(is));
        }
    }
}
