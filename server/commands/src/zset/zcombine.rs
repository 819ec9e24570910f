//! What comes of several sorted sets and sets (whose members have score 1); a missing key is empty.

use core::cmp::Reverse;
use core::ops::ControlFlow;

use storage::{Limits, Set, Value, WrongType, Zset};

use crate::set::combine::asking_is_better;

/// One input of an operation.
#[derive(Clone, Copy)]
pub(super) struct Input<'s> {
    source: Source<'s>,
    /// Its scores are multiplied by this.
    pub(super) weight: f64,
}

#[derive(Clone, Copy)]
enum Source<'s> {
    Missing,
    Set(&'s Set),
    Zset(&'s Zset),
}

impl<'s> Input<'s> {
    /// The input that a key's value is.
    ///
    /// # Errors
    /// [`WrongType`] if it is neither a set nor a sorted set.
    pub(super) fn of(value: Option<Value<'s>>) -> Result<Self, WrongType> {
        let source = match value {
            None => Source::Missing,
            Some(Value::Set(set)) => Source::Set(set),
            Some(Value::Zset(zset)) => Source::Zset(zset),
            Some(_) => return Err(WrongType),
        };
        Ok(Self {
            source,
            weight: 1.0,
        })
    }

    fn len(&self) -> usize {
        match self.source {
            Source::Missing => 0,
            Source::Set(set) => set.len(),
            Source::Zset(zset) => zset.len(),
        }
    }

    /// The score of a member, not weighed.
    fn score(&self, member: &[u8]) -> Option<f64> {
        match self.source {
            Source::Missing => None,
            Source::Set(set) => set.contains(member).then_some(1.0),
            Source::Zset(zset) => zset.score(member),
        }
    }

    /// Whether both are the value of one key.
    fn is(&self, other: &Self) -> bool {
        match (self.source, other.source) {
            (Source::Missing, Source::Missing) => true,
            (Source::Set(a), Source::Set(b)) => core::ptr::eq(a, b),
            (Source::Zset(a), Source::Zset(b)) => core::ptr::eq(a, b),
            _ => false,
        }
    }

    /// Shows the members with their scores, not weighed.
    fn walk(&self, mut show: impl FnMut(&[u8], f64) -> ControlFlow<()>) {
        // The result only says whether the walk was cut short.
        let _ = match self.source {
            Source::Missing => ControlFlow::Continue(()),
            Source::Set(set) => set.iter().try_for_each(|member| show(&member, 1.0)),
            Source::Zset(zset) => zset
                .iter()
                .try_for_each(|(member, score)| show(member, score)),
        };
    }
}

/// How the scores of a member become one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    /// `score` may be NaN (infinity times 0); what comes of it never is.
    fn join(self, so_far: f64, score: f64) -> f64 {
        match self {
            Self::Sum => or_zero(so_far + score),
            Self::Min if score < so_far => score,
            Self::Max if score > so_far => score,
            Self::Min | Self::Max => so_far,
        }
    }
}

/// Infinities of both signs, and an infinity times 0, are 0 by convention.
fn or_zero(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// An empty result, and limits that keep it in the large form: it has fast access, and it keeps the sign
/// of a zero, which Redis tells in its replies.
fn large() -> (Zset, Limits) {
    let limits = Limits {
        zset_max_listpack_entries: 0,
        ..Limits::default()
    };
    (Zset::new(), limits)
}

/// A result in the form in which it is stored.
pub(super) fn compact(result: Zset, limits: &Limits) -> Zset {
    if result.len() > limits.zset_max_listpack_entries {
        return result;
    }
    let mut compact = Zset::new();
    for (member, score) in result.iter() {
        compact.add(member, score, limits);
    }
    compact
}

/// Shows what is in all inputs: walks over the smallest and asks the others, smaller ones first.
pub(super) fn intersect(
    mut inputs: Vec<Input<'_>>,
    aggregate: Aggregate,
    mut show: impl FnMut(&[u8], f64) -> ControlFlow<()>,
) {
    inputs.sort_by_key(Input::len);
    let Some((smallest, others)) = inputs.split_first() else {
        return;
    };
    smallest.walk(|member, own| {
        let mut score = or_zero(own * smallest.weight);
        for other in others {
            let found = if other.is(smallest) {
                Some(own)
            } else {
                other.score(member)
            };
            match found {
                Some(found) => score = aggregate.join(score, found * other.weight),
                None => return ControlFlow::Continue(()),
            }
        }
        show(member, score)
    });
}

/// What is in all inputs, with its scores; see `large`.
pub(super) fn intersection(inputs: Vec<Input<'_>>, aggregate: Aggregate) -> Zset {
    let (mut result, limits) = large();
    intersect(inputs, aggregate, |member, score| {
        result.add(member, score, &limits);
        ControlFlow::Continue(())
    });
    result
}

/// What is in at least one input; small ones come first, which sums of fractions can tell. See `large`.
pub(super) fn unite(mut inputs: Vec<Input<'_>>, aggregate: Aggregate) -> Zset {
    inputs.sort_by_key(Input::len);
    let (mut result, limits) = large();
    for input in inputs {
        input.walk(|member, score| {
            let mut score = or_zero(score * input.weight);
            if let Some(so_far) = result.score(member) {
                score = aggregate.join(so_far, score);
                if score == so_far && score.to_bits() != so_far.to_bits() {
                    // A zero that changes its sign is no change to a sorted set.
                    result.remove(member);
                }
            }
            result.add(member, score, &limits);
            ControlFlow::Continue(())
        });
    }
    result
}

/// What only the first input has, by the cheaper of two ways (see `set/combine.rs`). See `large`.
pub(super) fn subtract(inputs: Vec<Input<'_>>) -> Zset {
    let (mut result, limits) = large();
    let mut inputs = inputs.into_iter();
    let Some(first) = inputs.next() else {
        return result;
    };
    let mut others: Vec<Input<'_>> = inputs.collect();
    if first.len() == 0 || others.iter().any(|input| input.is(&first)) {
        return result;
    }
    if asking_is_better(first.len(), others.iter().map(Input::len)) {
        // The largest is the most likely to have a member.
        others.sort_by_key(|input| Reverse(input.len()));
        first.walk(|member, score| {
            if !others.iter().any(|input| input.score(member).is_some()) {
                result.add(member, score, &limits);
            }
            ControlFlow::Continue(())
        });
        return result;
    }
    first.walk(|member, score| {
        result.add(member, score, &limits);
        ControlFlow::Continue(())
    });
    for input in others {
        input.walk(|member, _| {
            result.remove(member);
            if result.is_empty() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
    }
    result
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use storage::{Limits, Set, Value, Zset};

    use super::{Aggregate, Input, compact, intersection, subtract, unite};

    const INF: f64 = f64::INFINITY;

    #[test]
    fn scores_are_never_nan() {
        for (a, b, sum, min, max) in [
            (1.0, 2.0, 3.0, 1.0, 2.0),
            (INF, -INF, 0.0, -INF, INF),
            (1.0, f64::NAN, 0.0, 1.0, 1.0),
        ] {
            assert_eq!(Aggregate::Sum.join(a, b), sum);
            assert_eq!(Aggregate::Min.join(a, b), min);
            assert_eq!(Aggregate::Max.join(a, b), max);
        }
    }

    #[test]
    fn what_is_stored_is_compact_whatever_it_was_cut_from() {
        let limits = Limits::default();
        let zset = |range: core::ops::Range<usize>| {
            let mut zset = Zset::new();
            range.for_each(|i| {
                zset.add(format!("m{i}").as_bytes(), i as f64, &limits);
            });
            zset
        };
        let (large, parts) = (zset(0..200), [zset(0..60), zset(60..120), zset(120..130)]);
        let inputs: Vec<Input<'_>> = [&large]
            .into_iter()
            .chain(&parts)
            .map(|zset| Input::of(Some(Value::Zset(zset))).unwrap())
            .collect();
        let rest = compact(subtract(inputs), &limits);
        assert_eq!((rest.len(), rest.encoding()), (70, "listpack"));
        assert_eq!(rest.score(b"m130"), Some(130.0));
    }

    type Model = BTreeMap<String, f64>;

    fn members() -> impl Strategy<Value = Model> {
        let score = prop_oneof![
            8 => (-8i8..8).prop_map(f64::from),
            1 => Just(INF), 1 => Just(-INF), 1 => Just(0.5)
        ];
        proptest::collection::btree_map("[a-c]{1,2}", score, 0..13)
    }

    fn same(zset: &Zset, model: &Model) -> Result<(), TestCaseError> {
        zset.check();
        let found: Model = zset
            .iter()
            .map(|(m, s)| (String::from_utf8_lossy(m).into_owned(), s))
            .collect();
        prop_assert_eq!(&found, model);
        Ok(())
    }

    proptest! {
        #[test]
        fn algebra_is_that_of_maps(
            inputs in proptest::collection::vec(
                (members(), any::<bool>(), prop_oneof![Just(1.0), Just(0.0), Just(-2.0), Just(INF)]), 1..6),
            entries in prop_oneof![Just(0usize), Just(128)],
        ) {
            let limits = Limits { zset_max_listpack_entries: entries, ..Limits::default() };
            let mut values: Vec<(Set, Zset, Model)> = Vec::new();
            for (model, is_set, _) in &inputs {
                let (mut set, mut zset, mut seen) = (Set::new(), Zset::new(), Model::new());
                for (member, score) in model {
                    set.add(member.as_bytes(), &limits);
                    zset.add(member.as_bytes(), *score, &limits);
                    seen.insert(member.clone(), if *is_set { 1.0 } else { *score });
                }
                values.push((set, zset, seen));
            }
            let found: Vec<Input<'_>> = values.iter().zip(&inputs).map(|((set, zset, _), (_, is_set, weight))| {
                let value = if *is_set { Value::Set(set) } else { Value::Zset(zset) };
                Input { weight: *weight, ..Input::of(Some(value)).unwrap() }
            }).collect();
            // Smaller ones first, as the order of sums shows when there are infinities.
            let mut ordered: Vec<(&Model, f64)> = values.iter().zip(&inputs).map(|(v, i)| (&v.2, i.2)).collect();
            ordered.sort_by_key(|(model, _)| model.len());
            for aggregate in [Aggregate::Sum, Aggregate::Min, Aggregate::Max] {
                let (mut union, mut count) = (Model::new(), BTreeMap::<String, usize>::new());
                for (model, weight) in &ordered {
                    for (member, score) in *model {
                        *count.entry(member.clone()).or_default() += 1;
                        let score = if (score * weight).is_nan() { 0.0 } else { score * weight };
                        let so_far = union.get(member).copied();
                        union.insert(member.clone(), so_far.map_or(score, |old| match aggregate {
                            Aggregate::Sum if (old + score).is_nan() => 0.0,
                            Aggregate::Sum => old + score,
                            Aggregate::Min => old.min(score),
                            Aggregate::Max => old.max(score),
                        }));
                    }
                }
                same(&unite(found.clone(), aggregate), &union)?;
                let inter = intersection(found.clone(), aggregate);
                prop_assert_eq!(inter.len(), count.values().filter(|n| **n == inputs.len()).count());
                if inputs.iter().all(|(_, _, weight)| weight.is_finite()) {
                    union.retain(|member, _| count.get(member) == Some(&inputs.len()));
                    let nan = values.iter().any(|v| v.2.values().any(|s| s.is_infinite()));
                    if !nan {
                        same(&inter, &union)?;
                    }
                }
            }
            let mut rest = values[0].2.clone();
            rest.retain(|member, _| !values[1..].iter().any(|v| v.2.contains_key(member)));
            same(&subtract(found), &rest)?;
        }
    }
}
