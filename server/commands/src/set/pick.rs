//! Random picks from a collection: so many different ones in a single walk, or with repetition.

use protocol::{Refusal, Reply};
use storage::Rng;

/// The shortest element of a reply: `$0`, nothing, two line ends.
const ELEMENT_BYTES_MIN: usize = 6;

/// Decides, element by element of one walk, which of them belong to a sample of a given size. Every
/// sample of that size is equally likely.
pub(crate) struct Sample {
    /// Elements not yet walked over.
    left: usize,
    /// Elements still to be taken.
    wanted: usize,
}

impl Sample {
    /// `wanted` of `len` elements.
    pub(crate) fn new(len: usize, wanted: usize) -> Self {
        Self {
            left: len,
            wanted: wanted.min(len),
        }
    }

    /// Whether the next element is taken.
    pub(crate) fn takes(&mut self, rng: &mut Rng) -> bool {
        let hit = rng.index(self.left) < self.wanted;
        self.left = self.left.saturating_sub(1);
        self.wanted -= usize::from(hit);
        hit
    }
}

/// Whether a sample is better found by a walk over all elements than by drawing until there are
/// enough different ones.
pub(crate) fn walk_is_better(len: usize, wanted: usize) -> bool {
    /// So few are always walked over: small forms have no fast access.
    const WALKED_MAX: usize = 128;
    /// Draws are few as long as at most a third of all is wanted.
    const DRAWN_SHARE: usize = 3;
    len <= WALKED_MAX || wanted.saturating_mul(DRAWN_SHARE) > len
}

/// Puts a slice in random order.
pub(crate) fn shuffle<T>(all: &mut [T], rng: &mut Rng) {
    for end in (1..all.len()).rev() {
        all.swap(end, rng.index(end + 1));
    }
}

/// Writes an array of `header` members, which `count` calls of `one` write.
///
/// # Errors
/// `Refusal::ValueOutOfRange`, and nothing written, when they take more than `bytes_max`: the count is
/// the client's, not bounded by what is stored.
pub(crate) fn repeat(
    reply: &mut Reply<'_>,
    header: usize,
    count: usize,
    bytes_max: u64,
    mut one: impl FnMut(&mut Reply<'_>),
) -> Result<(), Refusal> {
    let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    if count.saturating_mul(ELEMENT_BYTES_MIN) > bytes_max {
        return Err(Refusal::ValueOutOfRange);
    }
    let start = reply.mark();
    reply.array(header);
    for _ in 0..count {
        one(reply);
        if reply.mark().saturating_sub(start) > bytes_max {
            reply.rewind(start);
            return Err(Refusal::ValueOutOfRange);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use protocol::{Refusal, Reply, Resp};
    use storage::Rng;

    use super::{Sample, repeat, shuffle};

    #[test]
    fn a_sample_has_its_size_and_any_element() {
        let mut rng = Rng::new(5);
        let mut taken = [0; 10];
        for _ in 0..5_000 {
            let mut sample = Sample::new(10, 3);
            let hits: Vec<usize> = (0..10).filter(|_| sample.takes(&mut rng)).collect();
            assert_eq!(hits.len(), 3);
            hits.into_iter().for_each(|hit| taken[hit] += 1);
        }
        assert!(taken.iter().all(|n| (1300..1700).contains(n)), "{taken:?}");
        let mut all = Sample::new(4, 9);
        assert!((0..4).all(|_| all.takes(&mut rng)));
    }

    #[test]
    fn shuffled_elements_are_the_same_ones() {
        let mut all: Vec<u32> = (0..100).collect();
        shuffle(&mut all, &mut Rng::new(1));
        assert!(!all.is_sorted());
        all.sort_unstable();
        assert!(all.into_iter().eq(0..100));
    }

    #[test]
    fn repetition_ends_at_the_limit() {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, Resp::V2);
        let mut calls = 0;
        let mut one = |reply: &mut Reply<'_>| {
            calls += 1;
            reply.bulk(b"four");
        };
        assert_eq!(repeat(&mut reply, 9, 9, 100, &mut one), Ok(()));
        let refused = Err(Refusal::ValueOutOfRange);
        assert_eq!(repeat(&mut reply, 15, 15, 100, &mut one), refused);
        assert_eq!(repeat(&mut reply, 1, usize::MAX, 100, &mut one), refused);
        assert_eq!(calls, 9 + 10);
        assert_eq!(out.len(), 4 + 9 * 10);
    }
}
