//! The bytes of a HyperLogLog, as Redis keeps them in a string: 16384 registers of 6 bits, each the longest run of zeroes (and
//! the one behind it) among the hashes that fell to it.
//!
//! ```text
//! "HYLL" | form u8: 0 dense, 1 sparse | 3 zeroes | cardinality u64 LE, highest bit set: out of date | registers
//!
//! dense    6 bits a register, the lowest bits first: 12288 bytes
//! sparse   00nnnnnn           n+1 registers of 0
//!          01nnnnnn nnnnnnnn  n+1 registers of 0
//!          1vvvvvnn           n+1 registers of v+1
//! ```
//! A sparse one becomes dense when a register is above 32 or when it would be longer than `hll-sparse-max-bytes`; never back.
//! The order in which codes are split and joined is part of the format: equal additions give equal bytes in both servers.
//! Anybody can SET such a string, so nothing in it is trusted behind the header.

/// Registers, a power of two.
pub(super) const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of a hash that choose its register.
const INDEX_BITS: u32 = 14;
/// Bits of a hash that are left for its run.
const RUN_BITS: u32 = 64 - INDEX_BITS;
/// Bits of a register in the dense form.
const REGISTER_BITS: usize = 6;
const REGISTER_MASK: u16 = (1 << REGISTER_BITS) - 1;
const MAGIC: &[u8; 4] = b"HYLL";
/// Where the form stands.
const FORM_AT: usize = 4;
/// Where the cardinality stands.
pub(super) const CARDINALITY_AT: usize = 8;
const HEADER_BYTES: usize = 16;
const DENSE_BYTES: usize = HEADER_BYTES + REGISTERS * REGISTER_BITS / 8;
/// Most registers of one code of each kind.
const ZERO_LEN_MAX: usize = 64;
const VALUE_LEN_MAX: usize = 4;
/// Largest register of the sparse form.
const SPARSE_VALUE_MAX: u8 = 32;
/// Adjacent codes that are tried to be joined after a change.
const JOINED_CODES_MAX: usize = 5;

/// The registers, one byte each.
pub(super) type Registers = [u8; REGISTERS];

/// The form of a sketch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Dense,
    Sparse,
}

/// The registers of a sparse sketch do not add up to 16384.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Corrupt;

/// The form, if these bytes are a sketch as far as the header tells.
pub(super) fn form(bytes: &[u8]) -> Option<Form> {
    if bytes.len() < HEADER_BYTES || !bytes.starts_with(MAGIC) {
        return None;
    }
    match bytes[FORM_AT] {
        0 if bytes.len() == DENSE_BYTES => Some(Form::Dense),
        1 => Some(Form::Sparse),
        _ => None,
    }
}

/// A sketch of nothing.
pub(super) fn empty() -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[FORM_AT] = 1;
    push_zeroes(&mut bytes, REGISTERS);
    bytes
}

/// The cardinality that was counted last, if nothing has changed since.
pub(super) fn cached(bytes: &[u8]) -> Option<u64> {
    let (_, rest) = bytes.split_at_checked(CARDINALITY_AT)?;
    let cardinality = u64::from_le_bytes(*rest.first_chunk()?);
    (cardinality >> 63 == 0).then_some(cardinality)
}

/// Where the byte stands that says whether the cardinality is out of date, and what it is then.
pub(super) fn stale_mark(bytes: &[u8]) -> (usize, u8) {
    let at = CARDINALITY_AT + 7;
    (at, bytes.get(at).copied().unwrap_or(0) | 0x80)
}

/// Notes that the cardinality is out of date.
pub(super) fn mark_stale(bytes: &mut [u8]) {
    let (at, mark) = stale_mark(bytes);
    if let Some(byte) = bytes.get_mut(at) {
        *byte = mark;
    }
}

/// The register of an element, and the run with which it counts there.
pub(super) fn place(element: &[u8]) -> (usize, u8) {
    let hash = murmur64a(element);
    let index = hash as usize % REGISTERS;
    // The bit above the run's ends it.
    let run = ((hash >> INDEX_BITS) | 1 << RUN_BITS).trailing_zeros() + 1;
    (index, run as u8)
}

/// MurmurHash64A with the seed that Redis gives it.
fn murmur64a(bytes: &[u8]) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const SEED: u64 = 0xadc8_3b19;
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut k = u64::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 47;
        hash = (hash ^ k.wrapping_mul(M)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 47).wrapping_mul(M);
    hash ^ hash >> 47
}

// ---- dense ----------------------------------------------------------------------------------

/// Offset and new bytes of a dense sketch in which a register is raised; None if it is as high. One byte or two change.
pub(super) fn raised(bytes: &[u8], index: usize, run: u8) -> Option<(usize, [u8; 2], usize)> {
    let bit = index % REGISTERS * REGISTER_BITS;
    let (at, shift) = (HEADER_BYTES + bit / 8, bit % 8);
    let byte = |at: usize| u16::from(bytes.get(at).copied().unwrap_or(0));
    let pair = byte(at) | byte(at + 1) << 8;
    if u16::from(run) <= pair >> shift & REGISTER_MASK {
        return None;
    }
    let pair = pair & !(REGISTER_MASK << shift) | u16::from(run) << shift;
    let len = if shift + REGISTER_BITS > 8 { 2 } else { 1 };
    Some((at, pair.to_le_bytes(), len))
}

/// Raises a register of a dense sketch; whether it was lower.
fn raise(bytes: &mut [u8], index: usize, run: u8) -> bool {
    let Some((at, pair, len)) = raised(bytes, index, run) else {
        return false;
    };
    if let Some(place) = bytes.get_mut(at..at + len) {
        place.copy_from_slice(&pair[..len]);
    }
    true
}

fn dense_registers(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let (triples, _) = bytes
        .get(HEADER_BYTES..)
        .unwrap_or_default()
        .as_chunks::<3>();
    triples.iter().flat_map(|[a, b, c]| {
        [
            a & 63,
            (a >> 6 | b << 2) & 63,
            (b >> 4 | c << 4) & 63,
            c >> 2,
        ]
    })
}

// ---- sparse ---------------------------------------------------------------------------------

/// One code of the sparse form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Code {
    /// What the registers are.
    value: u8,
    /// How many there are.
    len: usize,
    /// Bytes of the code.
    bytes: usize,
}

impl Code {
    /// The code at the front of `input`. One cut short counts as if a zero followed.
    fn read(input: &[u8]) -> Option<Code> {
        let first = *input.first()?;
        Some(match first >> 6 {
            0 => Code {
                value: 0,
                len: usize::from(first & 0x3f) + 1,
                bytes: 1,
            },
            1 => {
                let low = input.get(1).copied().unwrap_or(0);
                Code {
                    value: 0,
                    len: (usize::from(first & 0x3f) << 8 | usize::from(low)) + 1,
                    bytes: 2,
                }
            }
            _ => Code {
                value: (first >> 2 & 0x1f) + 1,
                len: usize::from(first & 3) + 1,
                bytes: 1,
            },
        })
    }
}

/// The codes of a sparse sketch.
fn codes(bytes: &[u8]) -> impl Iterator<Item = Code> {
    let mut rest = bytes.get(HEADER_BYTES..).unwrap_or_default();
    core::iter::from_fn(move || {
        let code = Code::read(rest)?;
        rest = rest.get(code.bytes..).unwrap_or_default();
        Some(code)
    })
}

fn push_zeroes(out: &mut Vec<u8>, len: usize) {
    match len {
        0 => {}
        1..=ZERO_LEN_MAX => out.push((len - 1) as u8),
        _ => out.extend_from_slice(&[0x40 | ((len - 1) >> 8) as u8, (len - 1) as u8]),
    }
}

/// The byte of `len` registers of `value`.
fn value_code(value: u8, len: usize) -> u8 {
    0x80 | (value - 1) << 2 | (len - 1) as u8
}

/// The same registers in the dense form.
///
/// # Errors
/// [`Corrupt`]
pub(super) fn make_dense(sketch: &mut Vec<u8>) -> Result<(), Corrupt> {
    if form(sketch) == Some(Form::Dense) {
        return Ok(());
    }
    let mut dense = vec![0; DENSE_BYTES];
    dense[..HEADER_BYTES].copy_from_slice(sketch.get(..HEADER_BYTES).ok_or(Corrupt)?);
    dense[FORM_AT] = 0;
    walk_sparse(sketch, |index, value| {
        raise(&mut dense, index, value);
    })?;
    *sketch = dense;
    Ok(())
}

/// Shows the registers of a sparse sketch that are not 0.
fn walk_sparse(sketch: &[u8], mut show: impl FnMut(usize, u8)) -> Result<(), Corrupt> {
    let mut index = 0;
    for code in codes(sketch) {
        if index + code.len > REGISTERS {
            return Err(Corrupt);
        }
        if code.value > 0 {
            (index..index + code.len).for_each(|index| show(index, code.value));
        }
        index += code.len;
    }
    if index == REGISTERS {
        Ok(())
    } else {
        Err(Corrupt)
    }
}

/// Raises a register, whatever the form; whether it was lower. A sparse sketch that changes is marked stale, and may become dense.
///
/// # Errors
/// [`Corrupt`]
pub(super) fn set(
    sketch: &mut Vec<u8>,
    index: usize,
    run: u8,
    sparse_bytes_max: usize,
) -> Result<bool, Corrupt> {
    if form(sketch) == Some(Form::Dense) {
        return Ok(raise(sketch, index, run));
    }
    let done = if run > SPARSE_VALUE_MAX {
        None
    } else {
        set_sparse(sketch, index, run, sparse_bytes_max)?
    };
    let changed = match done {
        Some(changed) => changed,
        None => {
            make_dense(sketch)?;
            raise(sketch, index, run)
        }
    };
    if changed {
        mark_stale(sketch);
    }
    Ok(changed)
}

/// As `set`, in the sparse form; None if there is no room in it.
fn set_sparse(
    sketch: &mut Vec<u8>,
    index: usize,
    run: u8,
    sparse_bytes_max: usize,
) -> Result<Option<bool>, Corrupt> {
    let (mut at, mut first, mut before) = (HEADER_BYTES, 0, HEADER_BYTES);
    let code = loop {
        let code = Code::read(sketch.get(at..).unwrap_or_default()).ok_or(Corrupt)?;
        if index < first + code.len {
            break code;
        }
        before = at;
        at += code.bytes;
        first += code.len;
    };
    if code.value >= run {
        return Ok(Some(false));
    }
    if at + code.bytes > sketch.len() {
        return Err(Corrupt);
    }
    let (left, right) = (index - first, first + code.len - 1 - index);
    let mut new = Vec::with_capacity(5);
    let push = |out: &mut Vec<u8>, len: usize| match code.value {
        0 => push_zeroes(out, len),
        value if len > 0 => out.push(value_code(value, len)),
        _ => {}
    };
    push(&mut new, left);
    new.push(value_code(run, 1));
    push(&mut new, right);
    if new.len() > code.bytes && sketch.len() + new.len() - code.bytes > sparse_bytes_max {
        return Ok(None);
    }
    sketch.splice(at..at + code.bytes, new);
    join(sketch, before);
    Ok(Some(true))
}

/// Joins adjacent codes of one value, beginning at `at`.
fn join(sketch: &mut Vec<u8>, mut at: usize) {
    for _ in 0..JOINED_CODES_MAX {
        let Some(code) = Code::read(sketch.get(at..).unwrap_or_default()) else {
            return;
        };
        let next = Code::read(sketch.get(at + code.bytes..).unwrap_or_default());
        match next {
            Some(next)
                if code.value > 0
                    && next.value == code.value
                    && code.len + next.len <= VALUE_LEN_MAX =>
            {
                sketch[at + 1] = value_code(code.value, code.len + next.len);
                sketch.remove(at);
            }
            _ => at += code.bytes,
        }
    }
}

// ---- counting -------------------------------------------------------------------------------

/// Raises `registers` to those of a sketch.
///
/// # Errors
/// [`Corrupt`]
pub(super) fn merge(sketch: &[u8], registers: &mut Registers) -> Result<(), Corrupt> {
    if form(sketch) == Some(Form::Dense) {
        for (register, value) in registers.iter_mut().zip(dense_registers(sketch)) {
            *register = value.max(*register);
        }
        return Ok(());
    }
    walk_sparse(sketch, |index, value| {
        registers[index] = value.max(registers[index]);
    })
}

/// How many registers have each value.
type Histogram = [u32; 64];

/// The cardinality of a sketch.
///
/// # Errors
/// [`Corrupt`]
pub(super) fn count(sketch: &[u8]) -> Result<u64, Corrupt> {
    let mut histogram: Histogram = [0; 64];
    if form(sketch) == Some(Form::Dense) {
        dense_registers(sketch).for_each(|value| histogram[usize::from(value)] += 1);
    } else {
        let mut all = 0;
        for code in codes(sketch) {
            all += code.len;
            if all > REGISTERS {
                break;
            }
            histogram[usize::from(code.value)] += code.len as u32;
        }
        if all != REGISTERS {
            return Err(Corrupt);
        }
    }
    Ok(estimate(&histogram))
}

/// The cardinality that registers tell.
pub(super) fn count_registers(registers: &Registers) -> u64 {
    let mut histogram: Histogram = [0; 64];
    for value in registers {
        histogram[usize::from(value & 63)] += 1;
    }
    estimate(&histogram)
}

/// Ertl's improved estimator (arXiv:1702.01284), in Redis's order of operations: the last digit counts.
fn estimate(histogram: &Histogram) -> u64 {
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let m = REGISTERS as f64;
    let share = |of: u32| f64::from(of) / m;
    let top = RUN_BITS as usize;
    let mut z = m * tau(share(REGISTERS as u32 - histogram[top + 1]));
    for count in histogram[1..=top].iter().rev() {
        z = (z + f64::from(*count)) * 0.5;
    }
    z += m * sigma(share(histogram[0]));
    let cardinality = (ALPHA * m * m / z).round();
    // Only registers that no hash can give are beyond: what C's conversion makes of them.
    if cardinality < 9.2e18 {
        cardinality as u64
    } else {
        1 << 63
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before == z {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 3000;

    fn add(sketch: &mut Vec<u8>, element: &[u8], max: usize) -> bool {
        let (index, run) = place(element);
        set(sketch, index, run, max).unwrap()
    }

    #[test]
    fn runs_are_within_their_bits() {
        let runs: Vec<u8> = (0..100u8).map(|i| place(&[i]).1).collect();
        assert!(runs.iter().all(|run| (1..=51).contains(run)));
        assert!(runs.iter().any(|run| *run > 4));
    }

    #[test]
    fn an_empty_sketch_is_one_code() {
        let sketch = empty();
        assert_eq!(&sketch[HEADER_BYTES..], &[0x7f, 0xff]);
        assert_eq!((count(&sketch), cached(&sketch)), (Ok(0), Some(0)));
        assert_eq!(form(&sketch), Some(Form::Sparse));
        assert_eq!(form(&sketch[..15]), None);
    }

    #[test]
    fn codes_are_split_and_joined() {
        let mut sketch = empty();
        for (index, run, codes) in [
            (100, 3, &[0x40, 99, 0x88, 0x7f, 0x9a][..]),
            (0, 3, &[0x88, 0x40, 98, 0x88, 0x7f, 0x9a]),
            (1, 3, &[0x89, 0x40, 97, 0x88, 0x7f, 0x9a]),
            (2, 3, &[0x8a, 0x40, 96, 0x88, 0x7f, 0x9a]),
            (1, 4, &[0x88, 0x8c, 0x88, 0x40, 96, 0x88, 0x7f, 0x9a]),
            (1, 4, &[0x88, 0x8c, 0x88, 0x40, 96, 0x88, 0x7f, 0x9a]),
        ] {
            set(&mut sketch, index, run, MAX).unwrap();
            assert_eq!(&sketch[HEADER_BYTES..], codes, "{index} {run}");
        }
        assert_eq!(set(&mut sketch, 7, 33, MAX), Ok(true));
        assert_eq!(form(&sketch), Some(Form::Dense));
    }

    #[test]
    fn broken_codes_are_told() {
        let with = |codes: &[u8]| [&empty()[..HEADER_BYTES], codes].concat();
        for codes in [
            &[][..],
            &[0x7f],
            &[0x7f, 0xfe],
            &[0x7f, 0xff, 0x80],
            &[0x7f, 0xff, 0],
            &[0x80, 0x7f, 0xff],
        ] {
            let mut sketch = with(codes);
            assert_eq!(count(&sketch), Err(Corrupt), "{codes:?}");
            let _ = set(&mut sketch, REGISTERS - 1, 40, MAX);
            let _ = set(&mut sketch, REGISTERS - 1, 1, MAX);
            let _ = merge(&sketch, &mut [0; REGISTERS]);
        }
    }

    proptest! {
        #[test]
        fn both_forms_tell_the_same(
            elements in proptest::collection::vec(any::<u16>(), 0..600),
            max in prop_oneof![Just(0usize), Just(100), Just(MAX)],
        ) {
            let (mut sparse, mut dense, mut registers) = (empty(), empty(), [0; REGISTERS]);
            make_dense(&mut dense).unwrap();
            for element in elements {
                let element = element.to_le_bytes();
                prop_assert_eq!(add(&mut sparse, &element, max), add(&mut dense, &element, 0));
                let (index, run) = place(&element);
                registers[index] = run.max(registers[index]);
            }
            prop_assert_eq!(count(&sparse), count(&dense));
            prop_assert_eq!(count(&sparse), Ok(count_registers(&registers)));
            let mut merged = [0; REGISTERS];
            merge(&sparse, &mut merged).unwrap();
            prop_assert!(merged == registers);
        }

        #[test]
        fn hostile_codes_never_panic(
            codes in proptest::collection::vec(any::<u8>(), 0..60), index in 0..REGISTERS, run in 1u8..=51,
        ) {
            let mut sketch = [&empty()[..HEADER_BYTES], &codes[..]].concat();
            let _ = count(&sketch);
            let _ = merge(&sketch, &mut [0; REGISTERS]);
            let _ = set(&mut sketch, index, run, MAX);
            let _ = make_dense(&mut sketch);
        }
    }
}
