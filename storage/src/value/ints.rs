//! Hot path. A sorted array of integers, as narrow as its widest: the "intset" form of a set.
//!
//! ```text
//! block = count and width | integer | integer | ... | slack     ascending, little-endian, 2, 4 or 8 bytes each
//! ```
//! The first 4 bytes hold `count << 2 | width code` (0: 2 bytes, 1: 4, 2: 8). The width only grows.

use crate::account::class_size;

const HEAD_BYTES: usize = 4;
/// More integers than this never stay an array (as Redis).
pub(super) const INTS_MAX: usize = 1 << 30;

/// A sorted sequence of different integers.
#[derive(Clone, Default)]
pub(super) struct Ints {
    block: Box<[u8]>,
}

impl Ints {
    /// An empty sequence; allocates nothing.
    pub(super) fn new() -> Self {
        Self {
            block: Box::default(),
        }
    }

    fn header(&self) -> (usize, usize) {
        match &*self.block {
            [a, b, c, d, ..] => {
                let word = u32::from_le_bytes([*a, *b, *c, *d]);
                ((word >> 2) as usize, 2 << (word & 3))
            }
            _ => (0, 2),
        }
    }

    fn set_header(&mut self, count: usize, width: usize) {
        debug_assert!(count <= INTS_MAX);
        let code = width.trailing_zeros() - 1;
        let word = ((count as u32) << 2) | code;
        self.block[..HEAD_BYTES].copy_from_slice(&word.to_le_bytes());
    }

    /// Number of integers.
    pub(super) fn len(&self) -> usize {
        self.header().0
    }

    /// Bytes of heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.block.len()
    }

    /// The integer at `index`, which is below the length.
    pub(super) fn get(&self, index: usize) -> Option<i64> {
        let (count, width) = self.header();
        (index < count).then(|| self.read(index, width))
    }

    #[inline]
    fn read(&self, index: usize, width: usize) -> i64 {
        let at = HEAD_BYTES + index * width;
        match (width, &self.block[at..at + width]) {
            (2, [a, b]) => i16::from_le_bytes([*a, *b]).into(),
            (4, [a, b, c, d]) => i32::from_le_bytes([*a, *b, *c, *d]).into(),
            (_, [a, b, c, d, e, f, g, h]) => i64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
            _ => 0,
        }
    }

    fn write(&mut self, index: usize, width: usize, n: i64) {
        let at = HEAD_BYTES + index * width;
        self.block[at..at + width].copy_from_slice(&n.to_le_bytes()[..width]);
    }

    /// Where `n` is, or would be inserted.
    fn search(&self, n: i64) -> Result<usize, usize> {
        let (count, width) = self.header();
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = (low + high) / 2;
            match self.read(middle, width).cmp(&n) {
                core::cmp::Ordering::Equal => return Ok(middle),
                core::cmp::Ordering::Less => low = middle + 1,
                core::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// Whether `n` is there.
    pub(super) fn contains(&self, n: i64) -> bool {
        self.search(n).is_ok()
    }

    /// Adds `n`; whether it is new.
    pub(super) fn add(&mut self, n: i64) -> bool {
        let Err(at) = self.search(n) else {
            return false;
        };
        let (count, mut width) = self.header();
        let needed = width_of(n);
        if needed > width {
            self.widen(needed);
            width = needed;
        }
        self.reserve(HEAD_BYTES + (count + 1) * width);
        let byte = HEAD_BYTES + at * width;
        self.block
            .copy_within(byte..HEAD_BYTES + count * width, byte + width);
        self.write(at, width, n);
        self.set_header(count + 1, width);
        true
    }

    /// Removes `n`; whether it was there.
    pub(super) fn remove(&mut self, n: i64) -> bool {
        let Ok(at) = self.search(n) else { return false };
        let (count, width) = self.header();
        if count == 1 {
            self.block = Box::default();
            return true;
        }
        let byte = HEAD_BYTES + at * width;
        self.block
            .copy_within(byte + width..HEAD_BYTES + count * width, byte);
        self.set_header(count - 1, width);
        let fits = class_size(HEAD_BYTES + (count - 1) * width);
        if fits * 2 <= self.block.len() {
            self.resize(fits);
        }
        true
    }

    /// All integers, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        let (count, width) = self.header();
        (0..count).map(move |i| self.read(i, width))
    }

    fn widen(&mut self, width: usize) {
        let (count, old) = self.header();
        if count == 0 {
            self.resize(class_size(HEAD_BYTES + width));
        } else {
            self.reserve(HEAD_BYTES + count * width);
        }
        for i in (0..count).rev() {
            let n = self.read(i, old);
            self.write(i, width, n);
        }
        self.set_header(count, width);
    }

    fn reserve(&mut self, bytes: usize) {
        if bytes > self.block.len() {
            self.resize(class_size(bytes));
        }
    }

    fn resize(&mut self, size: usize) {
        let mut block = core::mem::take(&mut self.block).into_vec();
        block.truncate(size);
        block.reserve_exact(size - block.len());
        block.resize(size, 0);
        self.block = block.into_boxed_slice();
    }

    /// Walks everything and asserts what must hold. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn check(&self) {
        let (count, width) = self.header();
        assert!(matches!(width, 2 | 4 | 8));
        assert_eq!(class_size(self.block.len()), self.block.len());
        assert!(count == 0 || HEAD_BYTES + count * width <= self.block.len());
        let all: Vec<_> = self.iter().collect();
        assert!(all.windows(2).all(|w| w[0] < w[1]), "ascending");
    }
}

fn width_of(n: i64) -> usize {
    if i16::try_from(n).is_ok() {
        2
    } else if i32::try_from(n).is_ok() {
        4
    } else {
        8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ints_behave_as_a_sorted_set(
            steps in proptest::collection::vec(
                (any::<bool>(), prop_oneof![-20i64..20, -40_000i64..40_000, any::<i64>()]), 0..200),
        ) {
            let (mut ints, mut model) = (Ints::new(), BTreeSet::new());
            for (add, n) in steps {
                if add {
                    prop_assert_eq!(ints.add(n), model.insert(n));
                } else {
                    prop_assert_eq!(ints.remove(n), model.remove(&n));
                }
                ints.check();
                prop_assert_eq!(ints.contains(n), model.contains(&n));
                prop_assert!(ints.iter().eq(model.iter().copied()));
            }
        }
    }

    #[test]
    fn narrow_while_numbers_are_small() {
        let mut ints = Ints::new();
        (0..6).for_each(|n| assert!(ints.add(n)));
        assert_eq!(ints.heap_bytes(), 16);
        assert!(ints.add(1 << 40));
        assert_eq!(ints.get(6), Some(1 << 40));
        assert_eq!(ints.heap_bytes(), 64);
    }
}
