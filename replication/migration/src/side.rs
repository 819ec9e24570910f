//! How it stands between this node and one server of the source: who decides its keys, and what is written there once this node does.

use core::fmt::Write as _;

use crate::state::{Bar, place};
use crate::{Place, State};

/// Characters of a reason that are kept.
const REASON_LEN_MAX: usize = 400;

/// Of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Where its history ended and this node's began. Of one of several servers this says that this node decides.
    pub fence: Option<Place>,
    /// Its users that are to be barred then, or are.
    pub bars: Vec<Bar>,
    /// What is behind this sequence of this node's log is written there.
    pub written_from: u64,
    /// It has been begun: the server has the key that says how far it is.
    pub is_begun: bool,
    /// Why what is missing there cannot be written any more.
    pub needs_copy: Option<String>,
}

impl Side {
    /// Appends its lines; none for what is as at the beginning.
    pub(crate) fn encode(&self, out: &mut String) {
        if let Some(fence) = &self.fence {
            let _ = writeln!(out, "fence {} {}", fence.history, fence.offset);
        }
        for bar in &self.bars {
            let _ = writeln!(out, "bar {} {}", bar.user, bar.commands);
        }
        if (self.written_from, self.is_begun) != (0, false) {
            let begun = if self.is_begun { "begun" } else { "new" };
            let _ = writeln!(out, "written {} {begun}", self.written_from);
        }
        if let Some(why) = &self.needs_copy {
            let line: String = why.chars().take(REASON_LEN_MAX).collect();
            let _ = writeln!(out, "needs-copy {}", line.replace(['\n', '\r'], " "));
        }
    }

    /// Takes one of its lines; None for what is none.
    pub(crate) fn take(&mut self, words: &[&str]) -> Option<()> {
        match words {
            ["fence", history, offset] => self.fence = Some(place(history, offset)?),
            ["bar", user, commands @ ..] => self.bars.push(Bar {
                user: (*user).to_owned(),
                commands: commands.join(" "),
            }),
            ["written", from, begun] => {
                self.written_from = from.parse().ok()?;
                self.is_begun = match *begun {
                    "begun" => true,
                    "new" => false,
                    _ => return None,
                };
            }
            ["needs-copy", why @ ..] => self.needs_copy = Some(why.join(" ")),
            _ => return None,
        }
        Some(())
    }
}

/// Of a server of which nothing is known.
static NOTHING: Side = Side {
    fence: None,
    bars: Vec::new(),
    written_from: 0,
    is_begun: false,
    needs_copy: None,
};

impl State {
    /// How it stands with the server of this number.
    pub fn side(&self, number: usize) -> &Side {
        self.sides.get(number).unwrap_or(&NOTHING)
    }

    /// The same, to be changed.
    pub fn side_mut(&mut self, number: usize) -> &mut Side {
        if self.sides.len() <= number {
            self.sides.resize_with(number + 1, Side::default);
        }
        &mut self.sides[number]
    }

    /// Whether this node decides what keys of this one of several servers hold.
    pub fn is_ours(&self, number: usize) -> bool {
        self.side(number).fence.is_some()
    }

    /// The numbers of those of several servers that have keys.
    pub fn with_keys(&self) -> impl Iterator<Item = usize> {
        let shards = self.shards.iter().enumerate();
        let has_keys =
            |shard: &crate::Shard| shard.slots.as_ref().is_none_or(|own| !own.is_empty());
        shards.filter_map(move |(number, shard)| has_keys(shard).then_some(number))
    }

    /// Those of them of which this node decides, or the source.
    pub fn decided(&self, ours: bool) -> impl Iterator<Item = usize> {
        self.with_keys()
            .filter(move |number| self.is_ours(*number) == ours)
    }

    /// The first of them, or the last, of which this node decides, or the source.
    pub fn next_of(&self, ours: bool) -> Option<usize> {
        let mut found = self.decided(ours);
        if ours { found.last() } else { found.next() }
    }
}
