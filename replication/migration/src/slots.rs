//! A set of slots: what one shard of a cluster owns.

use core::fmt;

use storage::{SLOTS, Slot};

const WORDS: usize = SLOTS / 64;

/// A set of the 16384 slots. As text it is ranges (`0-5460,10923`), `-` when it is empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Slots(Box<[u64; WORDS]>);

impl Default for Slots {
    fn default() -> Slots {
        Slots(Box::new([0; WORDS]))
    }
}

impl Slots {
    /// All of them.
    pub fn all() -> Slots {
        Slots(Box::new([u64::MAX; WORDS]))
    }

    /// Whether a slot is among them.
    #[inline]
    pub fn contains(&self, slot: Slot) -> bool {
        let word = self.0.get(slot.index() / 64).copied().unwrap_or(0);
        word >> (slot.index() % 64) & 1 == 1
    }

    /// Adds a slot.
    pub fn insert(&mut self, slot: Slot) {
        if let Some(word) = self.0.get_mut(slot.index() / 64) {
            *word |= 1 << (slot.index() % 64);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Those that are not among others.
    pub fn without(&self, others: &Slots) -> Slots {
        let mut left = self.clone();
        for (word, other) in left.0.iter_mut().zip(others.0.iter()) {
            *word &= !other;
        }
        left
    }

    /// Adds others.
    pub fn add(&mut self, others: &Slots) {
        for (word, other) in self.0.iter_mut().zip(others.0.iter()) {
            *word |= other;
        }
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> {
        (0..SLOTS as u16)
            .map(Slot)
            .filter(|slot| self.contains(*slot))
    }

    /// Those without a gap between them, by first and last.
    pub fn ranges(&self) -> Vec<(u16, u16)> {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for slot in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == slot.0 => *last = slot.0,
                _ => ranges.push((slot.0, slot.0)),
            }
        }
        ranges
    }

    /// Adds a range as text has it (`5`, `0-5460`).
    ///
    /// # Errors
    /// None when it is no range of slots; then nothing is added.
    pub fn add_range(&mut self, text: &str) -> Option<()> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= SLOTS {
            return None;
        }
        (first..=last).for_each(|slot| self.insert(Slot(slot as u16)));
        Some(())
    }

    /// Reads what is printed; None when it is not that.
    pub fn of(text: &str) -> Option<Slots> {
        let mut slots = Slots::default();
        if text != "-" {
            for range in text.split(',') {
                slots.add_range(range)?;
            }
        }
        Some(slots)
    }
}

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (n, (first, last)) in self.ranges().into_iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_printed_and_read_back() {
        for text in ["-", "0", "16383", "0-16383", "0-5460,10923,10925-11000"] {
            let slots = Slots::of(text).unwrap();
            assert_eq!(slots.to_string(), text);
            assert_eq!(slots.iter().count(), slots.len());
        }
        for bad in ["", "5-4", "16384", "0-16384", "1,,2", "a", "1-2-3", "-1"] {
            assert_eq!(Slots::of(bad), None, "{bad}");
        }
        assert_eq!(Slots::all().to_string(), "0-16383");
    }

    #[test]
    fn sets_are_taken_from_each_other() {
        let mut a = Slots::of("0-99").unwrap();
        let b = Slots::of("50-149").unwrap();
        assert_eq!(a.without(&b).to_string(), "0-49");
        a.add(&b);
        assert_eq!(a.to_string(), "0-149");
        assert!(a.contains(Slot(149)) && !a.contains(Slot(150)));
        assert!(b.without(&a).is_empty() && Slots::default().is_empty());
    }
}
