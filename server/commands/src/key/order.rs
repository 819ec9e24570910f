//! The order that SORT puts elements in.

use core::cmp::Ordering;
use core::ops::Deref;

use protocol::{Refusal, number};
use storage::{Key, Member, Shard, Text, Value};

use crate::Refused;
use crate::key::pattern::Pattern;
use crate::key::until_nul;

/// What elements are compared by.
#[derive(Clone, Copy, Default)]
pub(super) enum By<'a> {
    /// Themselves.
    #[default]
    Element,
    /// Nothing: they stay in the order of their collection.
    Nothing,
    /// What a pattern finds for them.
    Pattern(Pattern<'a>),
}

/// The order of a request, and the part of it that is wanted.
pub(super) struct Order<'a> {
    pub(super) by: By<'a>,
    /// Compare bytes instead of numbers.
    pub(super) alpha: bool,
    pub(super) desc: bool,
    /// How many to leave out, how many to show (negative: all).
    pub(super) limit: (i64, i64),
    /// The result is stored, or a script goes on with it: it must have some order.
    pub(super) kept: bool,
}

impl Default for Order<'_> {
    fn default() -> Self {
        Order {
            by: By::Element,
            alpha: false,
            desc: false,
            limit: (0, -1),
            kept: false,
        }
    }
}

/// An element of a list, a set or a sorted set.
pub(super) enum Element<'a> {
    Of(&'a [u8]),
    OfSet(Member<'a>),
}

impl Deref for Element<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Element::Of(bytes) => bytes,
            Element::OfSet(member) => member,
        }
    }
}

impl Order<'_> {
    /// The wanted elements of the collection at `key`, in order.
    ///
    /// # Errors
    /// `Refusal::WrongType`, or `Refusal::SortNotDouble` when something that is compared is no number.
    pub(super) fn elements<'s>(
        &self,
        shard: &'s Shard,
        key: &Key<'_>,
    ) -> Result<Vec<Element<'s>>, Refused> {
        let Some(value) = shard.value(key) else {
            return Ok(Vec::new());
        };
        let len = match value {
            Value::List(list) => list.len(),
            Value::Set(set) => set.len(),
            Value::Zset(zset) => zset.len(),
            Value::String(_) | Value::Hash(_) | Value::Stream(_) => {
                return Err(Refusal::WrongType.into());
            }
        };
        let (skip, take) = self.range(len);
        if matches!(self.by, By::Nothing)
            && let Some(part) = self.natural(value, len, skip, take)
        {
            return Ok(part);
        }
        let sorted = self.sorted(shard, key.db, all(value))?;
        Ok(sorted.into_iter().skip(skip).take(take).collect())
    }

    /// How many of `len` elements are left out and how many are shown.
    fn range(&self, len: usize) -> (usize, usize) {
        let (skip, take) = self.limit;
        let skip = usize::try_from(skip.max(0)).map_or(len, |skip| skip.min(len));
        let rest = len - skip;
        (
            skip,
            usize::try_from(take).map_or(rest, |take| take.min(rest)),
        )
    }

    /// A part of a collection in its own order, or backwards; None if it should have some order but
    /// has none of its own.
    fn natural<'s>(
        &self,
        value: Value<'s>,
        len: usize,
        skip: usize,
        take: usize,
    ) -> Option<Vec<Element<'s>>> {
        // The rank of the first one backwards.
        let back = len.checked_sub(skip + 1).filter(|_| self.desc);
        Some(match value {
            Value::List(list) => match back {
                Some(at) => collect(list.iter_rev_from(at).take(take)),
                None => collect(list.iter_from(skip).take(take)),
            },
            Value::Zset(zset) => match back {
                Some(at) => collect(zset.iter_rev_from(at).take(take).map(|(m, _)| m)),
                None => collect(zset.iter_from(skip).take(take).map(|(m, _)| m)),
            },
            Value::Set(set) if !self.kept => set
                .iter()
                .skip(skip)
                .take(take)
                .map(Element::OfSet)
                .collect(),
            _ => return None,
        })
    }

    /// All of `elements` in order. What compares as equal keeps its place.
    fn sorted<'s>(
        &self,
        shard: &Shard,
        db: u8,
        elements: Vec<Element<'s>>,
    ) -> Result<Vec<Element<'s>>, Refusal> {
        let elements = elements.into_iter();
        let mut scratch = Vec::new();
        match &self.by {
            By::Pattern(pattern) if self.alpha => {
                // What has no text comes first.
                let keyed = elements.map(|element| {
                    let found = pattern.find(shard, db, &element, &mut scratch);
                    (found.map(|text| text.to_vec()), element)
                });
                let keyed = keyed.collect();
                Ok(self.arrange(keyed, |a, b| a.0.cmp(&b.0)))
            }
            By::Pattern(pattern) => {
                let of = |element: &Element<'_>| {
                    pattern
                        .find(shard, db, element, &mut scratch)
                        .map_or(Some(0.0), weight)
                };
                self.by_weight(elements, of)
            }
            By::Element if !self.alpha => {
                self.by_weight(elements, |element| weight(Text::Bytes(element)))
            }
            By::Element | By::Nothing => {
                let keyed = elements.map(|element| ((), element)).collect();
                Ok(self.arrange(keyed, |a, b| a.1.cmp(&b.1)))
            }
        }
    }

    /// Elements of the same weight are compared by their bytes.
    fn by_weight<'s>(
        &self,
        elements: impl Iterator<Item = Element<'s>>,
        mut of: impl FnMut(&Element<'s>) -> Option<f64>,
    ) -> Result<Vec<Element<'s>>, Refusal> {
        let keyed = elements.map(|element| Some((of(&element)?, element)));
        let keyed: Option<Vec<(f64, Element<'s>)>> = keyed.collect();
        let keyed = keyed.ok_or(Refusal::SortNotDouble)?;
        Ok(self.arrange(keyed, |a, b| {
            let by_weight = a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal);
            by_weight.then_with(|| a.1.cmp(&b.1))
        }))
    }

    fn arrange<'s, K>(
        &self,
        mut keyed: Vec<(K, Element<'s>)>,
        compare: impl Fn(&(K, Element<'s>), &(K, Element<'s>)) -> Ordering,
    ) -> Vec<Element<'s>> {
        if self.desc {
            keyed.sort_by(|a, b| compare(a, b).reverse());
        } else {
            keyed.sort_by(compare);
        }
        keyed.into_iter().map(|(_, element)| element).collect()
    }
}

fn collect<'s>(elements: impl Iterator<Item = &'s [u8]>) -> Vec<Element<'s>> {
    elements.map(Element::Of).collect()
}

fn all(value: Value<'_>) -> Vec<Element<'_>> {
    match value {
        Value::List(list) => collect(list.iter()),
        Value::Set(set) => set.iter().map(Element::OfSet).collect(),
        Value::Zset(zset) => collect(zset.iter().map(|(member, _)| member)),
        Value::String(_) | Value::Hash(_) | Value::Stream(_) => Vec::new(),
    }
}

/// The number that a text spells to C's `strtod`: blanks before it are skipped, nothing at all is 0.
fn weight(text: Text<'_>) -> Option<f64> {
    let bytes = match text {
        Text::Int(n) => return Some(n as f64),
        Text::Bytes(bytes) => until_nul(bytes),
    };
    if bytes.is_empty() {
        return Some(0.0);
    }
    let blanks = bytes
        .iter()
        .take_while(|byte| matches!(byte, b' ' | 9..=13));
    number::parse_f64(bytes.get(blanks.count()..)?)
}

#[cfg(test)]
mod tests {
    use storage::Text;

    use super::{Order, weight};

    #[test]
    fn numbers_as_strtod_reads_them() {
        let table: &[(&str, Option<f64>)] = &[
            ("", Some(0.0)),
            ("7", Some(7.0)),
            (" \t\x0b-7.5e1", Some(-75.0)),
            ("+3", Some(3.0)),
            ("0x10", Some(16.0)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("7\0x", Some(7.0)),
            (" ", None),
            ("7 ", None),
            ("nan", None),
            ("1e999", None),
            ("x", None),
        ];
        for (text, number) in table {
            assert_eq!(weight(Text::Bytes(text.as_bytes())), *number, "{text:?}");
        }
    }

    #[test]
    fn ranges_stay_inside() {
        let range = |limit, len| {
            Order {
                limit,
                ..Order::default()
            }
            .range(len)
        };
        assert_eq!(range((0, -1), 5), (0, 5));
        assert_eq!(range((-3, 2), 5), (0, 2));
        assert_eq!(range((4, 9), 5), (4, 1));
        assert_eq!(range((5, 1), 5), (5, 0));
        assert_eq!(range((i64::MAX, i64::MAX), 0), (0, 0));
        assert_eq!(range((i64::MIN, i64::MIN), 1), (0, 1));
    }
}
