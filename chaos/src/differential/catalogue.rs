//! The commands that are played: templates with weights, kept by group, and the requests made
//! of them.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::coverage::{Coverage, Mark};
use super::grammar::{GrammarError, Template};
use super::rows;
use super::rule::Rule;
use super::values::Draft;
use crate::rng::Rng;

/// Groups of commands that can be chosen by name.
pub(super) const GROUPS: [&str; 20] = [
    "string",
    "bitmap",
    "generic",
    "list",
    "set",
    "zset",
    "hash",
    "stream",
    "geo",
    "hyperloglog",
    "transactions",
    "connection",
    "server",
    "acl",
    "scripting",
    "blocking",
    "pubsub",
    "notifications",
    "tracking",
    "interleaving",
];

/// Where a row may be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In any batch, also between MULTI and EXEC.
    Anywhere,
    /// Not between MULTI and EXEC, and never changed at random.
    Plain,
    /// Only between MULTI and EXEC: it would block elsewhere.
    Transaction,
    /// On a connection of its own, since it changes or ends it.
    Scratch,
    /// In bursts after a comparison of all data, since it deletes everything.
    Burst,
    /// A whole iteration, page by page.
    Scan,
    /// In lock step (lockstep/): may wait for long.
    Waits,
    /// In lock step: waits for several keys.
    WaitsForMany,
    /// In lock step: waits for a moment.
    Brief,
    /// In lock step: changes what others wait for.
    Acts,
    /// In lock step: ends the waits of others, or looks as if.
    Unblocks,
    /// In lock step: publish and subscribe.
    Hears,
    /// In lock step: client-side caching.
    Tracks,
    /// In lock step: transactions between one another.
    Meets,
}

/// One row as written in `rows/`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// How often, relative to others.
    pub(super) weight: u32,
    /// Where.
    pub(super) place: Place,
    /// One request, or several that belong together, each with its rule.
    pub(super) requests: &'static [(&'static str, Rule)],
    /// Only if both servers are 7.2 or later.
    pub(super) since_7_2: bool,
}

/// A row that has been read.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) weight: u32,
    pub(super) place: Place,
    pub(super) requests: Vec<(Template, Rule)>,
}

/// One request that is played.
#[derive(Debug)]
pub(super) struct Op {
    /// `ZADD`, `OBJECT ENCODING`: for the summary.
    pub(super) name: String,
    pub(super) words: Vec<Vec<u8>>,
    /// Which words are keys.
    pub(super) keys: Vec<usize>,
    /// What its use counts for.
    pub(super) marks: Vec<Mark>,
    pub(super) rule: Rule,
    /// What EXEC runs.
    pub(super) queued: Vec<Rc<Op>>,
}

impl Op {
    /// The keys themselves.
    pub(super) fn key_words(&self) -> impl Iterator<Item = &[u8]> {
        self.keys
            .iter()
            .filter_map(|at| self.words.get(*at))
            .map(Vec::as_slice)
    }
}

/// All commands of the chosen groups.
#[derive(Debug)]
pub(super) struct Catalogue {
    units: Vec<Unit>,
    /// Indices of units and the running sum of their weights, by place.
    places: BTreeMap<u8, Vec<(u64, usize)>>,
    /// Names of groups that were chosen.
    groups: Vec<String>,
    /// Marks of the requests that scenarios write themselves.
    fixed: BTreeMap<&'static str, Mark>,
}

/// Requests of scenarios.rs that no row has.
const FIXED: [&str; 14] = [
    "MULTI",
    "EXEC",
    "DISCARD",
    "WATCH",
    "UNWATCH",
    "SELECT",
    "EXEC aborted",
    "WATCH in MULTI",
    "MULTI nested",
    "WATCH dirty",
    "CLIENT REPLY OFF",
    "CLIENT REPLY SKIP",
    "CLIENT REPLY ON",
    "QUIT",
];

impl Catalogue {
    /// Reads the rows of the groups.
    pub(super) fn new(
        groups: &[String],
        seven_two: bool,
        coverage: &mut Coverage,
    ) -> Result<Self, GrammarError> {
        let mut units = Vec::new();
        for group in groups {
            for row in rows::of_group(group) {
                if row.since_7_2 && !seven_two {
                    continue;
                }
                let mut requests = Vec::new();
                for (text, rule) in row.requests {
                    requests.push((Template::parse(text, coverage)?, *rule));
                }
                units.push(Unit {
                    weight: row.weight,
                    place: row.place,
                    requests,
                });
            }
        }
        let mut places: BTreeMap<u8, Vec<(u64, usize)>> = BTreeMap::new();
        for (index, unit) in units.iter().enumerate() {
            let list = places.entry(unit.place as u8).or_default();
            let sum = list.last().map_or(0, |(sum, _)| *sum);
            list.push((sum + u64::from(unit.weight), index));
        }
        let has = |name: &str| groups.iter().any(|group| group == name);
        let fixed = FIXED
            .iter()
            .filter(|name| match **name {
                "SELECT" => true,
                "QUIT" => has("connection"),
                name if name.starts_with("CLIENT") => has("connection"),
                _ => has("transactions"),
            })
            .map(|name| (*name, coverage.mark(name)))
            .collect();
        Ok(Self {
            units,
            places,
            groups: groups.to_vec(),
            fixed,
        })
    }

    /// True if the group was chosen.
    pub(super) fn has_group(&self, name: &str) -> bool {
        self.groups.iter().any(|group| group == name)
    }

    /// A random unit of the place, by weight.
    pub(super) fn draw(&self, place: Place, rng: &mut Rng) -> Option<&Unit> {
        let list = self.places.get(&(place as u8))?;
        let total = list.last()?.0;
        let roll = rng.next() % total.max(1);
        let at = list.partition_point(|(sum, _)| *sum <= roll);
        list.get(at).and_then(|(_, index)| self.units.get(*index))
    }

    /// True if any unit is of the place.
    pub(super) fn has_place(&self, place: Place) -> bool {
        self.places.contains_key(&(place as u8))
    }

    /// The request of a scenario.
    pub(super) fn fixed(
        &self,
        words: &[&[u8]],
        keys: &[usize],
        count_as: &[&'static str],
        rule: Rule,
    ) -> Op {
        let name = count_as.first().copied().unwrap_or("?").to_owned();
        Op {
            name,
            words: words.iter().map(|word| word.to_vec()).collect(),
            keys: keys.to_vec(),
            marks: count_as
                .iter()
                .filter_map(|name| self.fixed.get(name).copied())
                .collect(),
            rule,
            queued: Vec::new(),
        }
    }
}

impl Unit {
    /// Random requests of the unit.
    pub(super) fn expand(&self, rng: &mut Rng) -> Vec<Op> {
        let mut same = Vec::new();
        self.requests
            .iter()
            .map(|(template, rule)| {
                let mut draft = Draft {
                    same: std::mem::take(&mut same),
                    ..Draft::default()
                };
                template.expand(rng, &mut draft);
                same = draft.same;
                Op {
                    name: template.name.clone(),
                    words: draft.words,
                    keys: draft.keys,
                    marks: draft.marks,
                    rule: *rule,
                    queued: Vec::new(),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Catalogue, Coverage, GROUPS, Place, Rng};

    #[test]
    fn all_rows_can_be_read_and_expanded() {
        let groups: Vec<_> = GROUPS.iter().map(|group| (*group).to_owned()).collect();
        let mut coverage = Coverage::default();
        let catalogue = Catalogue::new(&groups, true, &mut coverage).unwrap();
        let mut rng = Rng::new(1);
        for place in [
            Place::Anywhere,
            Place::Plain,
            Place::Transaction,
            Place::Scratch,
            Place::Burst,
            Place::Scan,
        ] {
            assert!(catalogue.has_place(place), "{place:?}");
            for _ in 0..3000 {
                let unit = catalogue.draw(place, &mut rng).unwrap();
                for op in unit.expand(&mut rng) {
                    assert!(!op.words.is_empty() && op.keys.iter().all(|at| *at < op.words.len()));
                }
            }
        }
        assert!(coverage.rows().count() > 300);
    }
}
