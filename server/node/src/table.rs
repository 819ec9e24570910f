//! Hot path. The command table: every row by name, built once at start.
//!
//! A name is looked up by its bytes in three words, case folded eight bytes at a time, in an
//! open-addressed index: one hash, mostly one comparison, no allocation.

use std::collections::HashMap;
use std::fmt;

use commands::cost::{Cost, cost_of};
use commands::element::element_word;
use commands::{Run, Spread};
use protocol::{Arity, Begin, Find, Flags, Group, Spec};

use crate::admin::{NodeCommand, NodeRun};
use crate::config::Config;
use crate::pubsub::Topic;

/// How a row is run.
#[derive(Clone, Copy)]
pub enum Kind {
    /// On a shard.
    Data(Run),
    /// By the node.
    Node(NodeRun),
    /// Sends a message, on the core of the channel's slot.
    Publish(Topic),
    /// A script or function of Lua.
    Script(crate::scripts::Kind),
    /// Only its subcommands run.
    Container,
}

/// What a request needs of the keyspace, decided once per row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// Nothing: the node runs it where the connection is.
    Node,
    /// One key, at this word.
    Single(u16),
    /// Keys by the key specs.
    Multi,
    /// See [`Spread`].
    Sum,
    /// See [`Spread`].
    Concat,
    /// See [`Spread`].
    Scan,
    /// See [`Spread`].
    AnyShard,
    /// See [`Spread`].
    Whole,
}

/// One command or subcommand.
pub struct Row {
    /// What can be said of it.
    pub spec: &'static Spec,
    /// How it is run.
    pub kind: Kind,
    /// What of the keyspace it needs.
    pub spread: Spread,
    /// The same, ready for the router.
    pub plan: Plan,
    /// Its number, for statistics.
    pub index: usize,
    /// Words before its arguments: 1 for a command, 2 for a subcommand.
    pub name_words: usize,
    /// Subcommands: their own name and their row's number.
    pub subcommands: Vec<(&'static str, usize)>,
    /// What a request of it would take, if it can be long.
    pub cost: Option<Cost>,
    /// Whether it may change data.
    pub writes: bool,
    /// It has one key and no subcommands, runs on a shard and is never long: nothing but gates stands before it.
    pub is_plain: bool,
    /// The word of the first field or member that it names, to look ahead for; 0 if none.
    pub element_word: u16,
    /// It works on hashes, whose fields may have deadlines.
    pub of_hashes: bool,
    /// How many words it takes, as its spec says.
    pub arity: Arity,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spec.name)
    }
}

/// Bytes of the longest name that the index can hold.
const NAME_BYTES_MAX: usize = 24;
/// Slots of the index; a power of two well above the number of names.
const INDEX_LEN: usize = 2048;

type Folded = [u64; 3];

/// The name that was looked up last: pipelines repeat themselves.
#[derive(Clone, Copy, Default)]
pub struct Recent {
    /// The name as it was sent, zero-filled, and its length.
    name: (u64, usize),
    row: Option<&'static Row>,
}

/// All rows.
pub struct Table {
    rows: Vec<Row>,
    index: Box<[(Folded, u16); INDEX_LEN]>,
}

impl Table {
    /// Builds the table of all commands; `rename-command` lines take effect here.
    ///
    /// # Panics
    /// At start only: when two rows share a name or a row contradicts itself (a bug of ours).
    pub fn build(config: &Config) -> Table {
        let mut rows = Vec::new();
        for command in commands::all() {
            let kind = match command.run {
                Run::Container => Kind::Container,
                run => Kind::Data(run),
            };
            rows.push(row(&command.spec, kind, command.spread, rows.len()));
        }
        for NodeCommand { spec, run } in crate::admin::all() {
            let kind = run.map_or(Kind::Container, Kind::Node);
            rows.push(row(spec, kind, Spread::Keys, rows.len()));
        }
        for (spec, topic) in crate::admin::PUBLISH {
            rows.push(row(spec, Kind::Publish(*topic), Spread::Keys, rows.len()));
        }
        for (spec, kind) in crate::scripts::ROWS {
            rows.push(row(spec, Kind::Script(*kind), Spread::Keys, rows.len()));
        }
        let names: HashMap<&str, usize> =
            rows.iter().map(|row| (row.spec.name, row.index)).collect();
        assert_eq!(names.len(), rows.len(), "every name once");
        let subcommands: Vec<_> = rows
            .iter()
            .filter_map(|row| Some((row.spec.name.split_once('|')?, row.index)))
            .map(|((parent, name), index)| (names.get(parent).copied(), name, index))
            .collect();
        for (parent, name, index) in subcommands {
            let parent = parent.unwrap_or_else(|| unreachable!("{name} has no container"));
            rows[parent].subcommands.push((name, index));
            rows[parent].is_plain = false;
        }
        let mut table = Table {
            rows,
            index: Box::new([([0; 3], u16::MAX); INDEX_LEN]),
        };
        for at in 0..table.rows.len() {
            let name = table.rows[at].spec.name;
            if !name.contains('|') {
                table.add(name.as_bytes(), at);
            }
        }
        for rename in &config.renames {
            table.rename(&rename.from, &rename.to);
        }
        table
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) {
        let Some(at) = self.find(from).map(|row| row.index) else {
            return;
        };
        if let Some(folded) = fold(from) {
            for entry in self.index.iter_mut() {
                if entry.0 == folded && entry.1 != u16::MAX {
                    // The place stays taken, so that later names of the same chain are still found.
                    *entry = ([u64::MAX; 3], entry.1);
                }
            }
        }
        if !to.is_empty() {
            self.add(to, at);
        }
    }

    fn add(&mut self, name: &[u8], row: usize) {
        let Some(folded) = fold(name) else { return };
        let mut at = place(folded);
        while self.index[at].1 != u16::MAX {
            at = (at + 1) % INDEX_LEN;
        }
        self.index[at] = (folded, row as u16);
    }

    /// The row of a command's name, in any case.
    #[inline(always)]
    pub fn find(&self, name: &[u8]) -> Option<&Row> {
        let folded = fold(name)?;
        let mut at = place(folded);
        loop {
            let (known, row) = self.index[at];
            if row == u16::MAX {
                return None;
            }
            if known == folded {
                return Some(&self.rows[row as usize]);
            }
            at = (at + 1) % INDEX_LEN;
        }
    }

    /// As [`Table::find`], at once when the name is that of the last time.
    #[inline(always)]
    pub fn find_again(&'static self, recent: &mut Recent, name: &[u8]) -> Option<&'static Row> {
        if name.len() > 8 {
            return self.find(name);
        }
        let raw = (up_to_eight(name), name.len());
        if recent.name != raw {
            *recent = Recent {
                name: raw,
                row: self.find(name),
            };
        }
        recent.row
    }

    /// The row of a subcommand of `row`, in any case.
    pub fn subcommand(&self, row: &Row, name: &[u8]) -> Option<&Row> {
        let found = row
            .subcommands
            .iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        found.map(|(_, index)| &self.rows[*index])
    }

    /// The row of a full name as specs spell it, such as `config|get`.
    pub fn by_full_name(&self, name: &[u8]) -> Option<&Row> {
        match memchr::memchr(b'|', name) {
            None => self.find(name),
            Some(at) => self.subcommand(self.find(&name[..at])?, &name[at + 1..]),
        }
    }

    /// All rows, commands and subcommands.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows that are not subcommands.
    pub fn commands(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.spec.name.contains('|'))
    }
}

fn row(spec: &'static Spec, kind: Kind, spread: Spread, index: usize) -> Row {
    let plan = match (kind, spread) {
        (Kind::Node(_) | Kind::Container, _) => Plan::Node,
        // Routed as if the channel were a key.
        (Kind::Publish(_), _) => Plan::Single(1),
        (_, Spread::Sum) => Plan::Sum,
        (_, Spread::Concat) => Plan::Concat,
        (_, Spread::Scan) => Plan::Scan,
        (_, Spread::AnyShard) => Plan::AnyShard,
        (_, Spread::Whole) => Plan::Whole,
        (_, Spread::KeysOrWhole(_)) => Plan::Multi,
        (_, Spread::Keys) => match spec.keys {
            [key] => match (key.begin, key.find) {
                (Begin::Index(at), Find::Range { last: 0, .. }) => Plan::Single(at),
                _ => Plan::Multi,
            },
            _ => Plan::Multi,
        },
    };
    let writes = match kind {
        // PFCOUNT keeps what it has counted in the value: no write to clients.
        Kind::Data(Run::Write(_)) => !spec.flags.contains(Flags::MAY_REPLICATE),
        Kind::Data(Run::Block(block)) => block.writes,
        Kind::Data(Run::Read(_)) => false,
        _ => spec.flags.contains(Flags::WRITE),
    };
    assert_eq!(
        writes,
        spec.flags.contains(Flags::WRITE),
        "{}: flags and handler agree",
        spec.name
    );
    assert!(!spec.acl.is_empty(), "{}: an ACL category", spec.name);
    let name_words = if spec.name.contains('|') { 2 } else { 1 };
    let cost = match kind {
        Kind::Data(Run::Read(_) | Run::Write(_)) => cost_of(spec.name),
        _ => None,
    };
    Row {
        spec,
        kind,
        spread,
        plan,
        index,
        name_words,
        subcommands: Vec::new(),
        cost,
        writes,
        is_plain: matches!(kind, Kind::Data(Run::Read(_) | Run::Write(_)))
            && matches!(plan, Plan::Single(_))
            && name_words == 1
            && cost.is_none(),
        element_word: element_word(spec.name).unwrap_or_default(),
        of_hashes: spec.group == Group::Hash,
        arity: spec.arity,
    }
}

/// The bytes of a name in lower case, zero-filled; None when it is too long for any command.
#[inline(always)]
fn fold(name: &[u8]) -> Option<Folded> {
    match name.len() {
        0..=8 => Some([lower(up_to_eight(name)), 0, 0]),
        9..=NAME_BYTES_MAX => {
            let word = |at: usize| {
                let rest = name.get(at..).unwrap_or_default();
                lower(up_to_eight(&rest[..rest.len().min(8)]))
            };
            Some([word(0), word(8), word(16)])
        }
        _ => None,
    }
}

/// Up to eight bytes as one word, zero-filled, without a loop: short loads that overlap.
#[inline(always)]
fn up_to_eight(bytes: &[u8]) -> u64 {
    if let Some(eight) = bytes.first_chunk::<8>() {
        return u64::from_le_bytes(*eight);
    }
    if let (Some(head), Some(tail)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let shift = 8 * (bytes.len() - 4);
        return u64::from(u32::from_le_bytes(*head))
            | u64::from(u32::from_le_bytes(*tail)) << shift;
    }
    match bytes {
        [] => 0,
        [a] => u64::from(*a),
        [a, b] => u64::from(*a) | u64::from(*b) << 8,
        [a, b, c, ..] => u64::from(*a) | u64::from(*b) << 8 | u64::from(*c) << 16,
    }
}

/// Sets bit 5 of every byte between `A` and `Z`.
#[inline]
fn lower(x: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let seven = x & (0x7f * EACH);
    let from_a = seven + (0x80 - b'A' as u64) * EACH;
    let past_z = seven + (0x80 - b'Z' as u64 - 1) * EACH;
    let upper = (from_a ^ past_z) & !x & (0x80 * EACH);
    x | upper >> 2
}

#[inline(always)]
fn place([a, b, c]: Folded) -> usize {
    let mixed = (a ^ b.rotate_left(21) ^ c.rotate_left(42)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 53) as usize % INDEX_LEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_nothing_else_is() {
        let table = Table::build(&Config::default());
        for row in table.commands() {
            let name = row.spec.name;
            assert_eq!(table.find(name.as_bytes()).unwrap().spec.name, name);
            assert_eq!(
                table
                    .find(name.to_uppercase().as_bytes())
                    .unwrap()
                    .spec
                    .name,
                name
            );
            assert!(table.find(format!("{name}xx").as_bytes()).is_none());
        }
        assert!(table.find(b"").is_none());
        assert!(table.find(&[b'x'; 500]).is_none());
        assert_eq!(
            table.by_full_name(b"Client|ID").unwrap().spec.name,
            "client|id"
        );
    }

    #[test]
    fn folding_touches_letters_only() {
        for byte in 0..=255u8 {
            let folded = lower(u64::from(byte) * 0x0101_0101_0101_0101).to_le_bytes();
            assert_eq!(folded, [byte.to_ascii_lowercase(); 8]);
        }
    }
}
