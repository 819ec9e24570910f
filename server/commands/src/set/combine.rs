//! What comes of several sets: a missing key is an empty set.

use core::ops::ControlFlow;

use storage::{Limits, Set, WrongType};

/// The sets at the keys, in their order. All are looked at before any is used.
pub(super) fn inputs<'w, 's>(
    words: impl Iterator<Item = &'w [u8]>,
    find: impl Fn(&'w [u8]) -> Result<Option<&'s Set>, WrongType>,
) -> Result<Vec<Option<&'s Set>>, WrongType> {
    words.map(find).collect()
}

/// Shows what is in all sets: walks over the smallest and asks the others, smaller ones first.
pub(super) fn intersect(sets: Vec<Option<&Set>>, mut show: impl FnMut(&[u8]) -> ControlFlow<()>) {
    let Some(mut sets) = sets.into_iter().collect::<Option<Vec<&Set>>>() else {
        return;
    };
    sets.sort_by_key(|set| set.len());
    let Some((smallest, others)) = sets.split_first() else {
        return;
    };
    for member in smallest.iter() {
        let in_all = |set: &&Set| core::ptr::eq(*set, *smallest) || set.contains(&member);
        if others.iter().all(in_all) && show(&member).is_break() {
            return;
        }
    }
}

/// What is in at least one set.
pub(super) fn unite(sets: Vec<Option<&Set>>, limits: &Limits) -> Set {
    let mut result = Set::new();
    for member in sets.into_iter().flatten().flat_map(Set::iter) {
        result.add(&member, limits);
    }
    result
}

/// What only the first set has, by the cheaper of two ways: to ask the others about each of its
/// members, or to take the members of the others out of a copy.
pub(super) fn subtract(sets: Vec<Option<&Set>>, limits: &Limits) -> Set {
    let mut result = Set::new();
    let mut sets = sets.into_iter();
    let Some(first) = sets.next().flatten() else {
        return result;
    };
    let mut others: Vec<&Set> = sets.flatten().collect();
    if others.iter().any(|set| core::ptr::eq(*set, first)) {
        return result;
    }
    if asking_is_better(first.len(), others.iter().map(|set| set.len())) {
        // The largest is the most likely to have a member.
        others.sort_by_key(|set| core::cmp::Reverse(set.len()));
        for member in first.iter() {
            if !others.iter().any(|set| set.contains(&member)) {
                result.add(&member, limits);
            }
        }
    } else {
        first.iter().for_each(|member| {
            result.add(&member, limits);
        });
        for member in others.into_iter().flat_map(Set::iter) {
            if result.is_empty() {
                break;
            }
            result.remove(&member);
        }
    }
    result
}

/// Which way a difference takes, as Redis weighs them: a question costs half of what a change costs.
pub(crate) fn asking_is_better(first: usize, others: impl ExactSizeIterator<Item = usize>) -> bool {
    let questions = first.saturating_mul(others.len() + 1) / 2;
    let changes = others.fold(first, usize::saturating_add);
    questions <= changes
}

#[cfg(test)]
mod tests {
    use storage::{Limits, Set};

    use super::{asking_is_better, subtract};

    #[test]
    fn both_ways_to_subtract_are_taken() {
        assert!(asking_is_better(10, [10].into_iter()));
        assert!(asking_is_better(10, [3, 3].into_iter()));
        assert!(!asking_is_better(10, [1, 1, 1].into_iter()));
        assert!(asking_is_better(usize::MAX, [usize::MAX; 2].into_iter()));
    }

    #[test]
    fn both_ways_give_the_same() {
        let limits = Limits::default();
        let set = |range: core::ops::Range<usize>| {
            let mut set = Set::new();
            range.for_each(|i| {
                set.add(format!("m{i}").as_bytes(), &limits);
            });
            set
        };
        let (first, few, many) = (set(0..200), set(5..6), set(3..500));
        let asked = subtract(vec![Some(&first), None, Some(&many)], &limits);
        assert_eq!(asked, set(0..3));
        let taken = subtract(
            vec![Some(&first), Some(&few), Some(&few), Some(&few)],
            &limits,
        );
        assert_eq!(taken.len(), 199);
        let nothing = subtract(vec![Some(&few), Some(&first), Some(&few)], &limits);
        assert!(nothing.is_empty());
    }
}
