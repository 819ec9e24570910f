//! INFO keysizes: how many keys have which length, by database and type.
//!
//! Nothing is counted beside reads and writes: whoever asks has the keys looked at, a thousand at a time with everything else of the
//! core between, some hundred microseconds each. So ten million keys on a core take some seconds to answer, stop nobody, and cost
//! nothing while nobody asks. (Redis counts with every change; that is some instructions of each write, and a table lookup for each
//! database.) A key that moves meanwhile is told by the length that it had when it was looked at.

use std::fmt::Write;

use storage::{Key, Shard, Slot, Value};

use crate::core::Core;

/// Keys that are looked at in a turn.
const KEYS_PER_TURN_MAX: usize = 1000;
/// Powers of two, and one for nothing at all.
const BINS: usize = 65;
/// What the lines of each type are called.
const TYPES: [&str; 5] = [
    "strings_sizes",
    "lists_items",
    "sets_items",
    "zsets_items",
    "hashes_items",
];

/// Keys of a database by type and bin.
type Counts = [[u64; BINS]; TYPES.len()];

/// Lengths of keys, database by database.
#[derive(Clone, Debug, Default)]
pub struct KeySizes(Vec<(u8, Box<Counts>)>);

/// How far a core has come.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// The database and, in it, the cursor of a scan; none at its beginning.
    at: (u8, Option<u64>),
    found: KeySizes,
}

impl KeySizes {
    fn add(&mut self, db: u8, kind: usize, bin: usize, count: u64) {
        if self.0.last().is_none_or(|(last, _)| *last < db) {
            self.0.push((db, Box::new([[0; BINS]; TYPES.len()])));
        }
        let counts = self.0.iter_mut().find(|(known, _)| *known == db);
        if let Some(bin) = counts
            .and_then(|(_, counts)| counts.get_mut(kind))
            .and_then(|bins| bins.get_mut(bin))
        {
            *bin += count;
        }
    }

    /// As a part of a reply: database, type, bin, and the count in little-endian.
    fn encode(&self, out: &mut Vec<u8>) {
        for (db, counts) in &self.0 {
            for (kind, bins) in counts.iter().enumerate() {
                for (bin, count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
                    out.extend_from_slice(&[*db, kind as u8, bin as u8]);
                    out.extend_from_slice(&count.to_le_bytes());
                }
            }
        }
    }

    /// What the cores have found, put together.
    pub fn joined(parts: &[(u16, Vec<u8>)]) -> KeySizes {
        let records = parts.iter().flat_map(|(_, part)| part.chunks_exact(11));
        let mut records: Vec<&[u8]> = records.collect();
        records.sort_by_key(|record| record[0]);
        let mut joined = KeySizes::default();
        for record in records {
            if let [db, kind, bin, count @ ..] = record {
                let count = count.try_into().map_or(0, u64::from_le_bytes);
                joined.add(*db, usize::from(*kind), usize::from(*bin), count);
            }
        }
        joined
    }

    /// The lines of the section.
    pub fn write(&self, text: &mut String) {
        for (db, counts) in &self.0 {
            for (name, bins) in TYPES.iter().zip(counts.iter()) {
                let bins = bins.iter().enumerate().filter(|(_, count)| **count > 0);
                let bins: Vec<String> = bins
                    .map(|(bin, count)| format!("{}={count}", label(bin)))
                    .collect();
                if !bins.is_empty() {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "db{db}_distrib_{name}:{}\r\n", bins.join(","));
                }
            }
        }
    }
}

/// The least length of a bin.
fn label(bin: usize) -> String {
    let Some(power) = bin.checked_sub(1) else {
        return "0".to_owned();
    };
    let unit = ["", "K", "M", "G", "T", "P", "E"][power / 10];
    format!("{}{unit}", 1 << (power % 10))
}

fn bin_of(len: usize) -> usize {
    (usize::BITS - len.leading_zeros()) as usize
}

/// The type and the bin of a value; None of a type that has no lines.
fn place(value: Value<'_>) -> Option<(usize, usize)> {
    let (kind, len) = match value {
        Value::String(text) => (0, text.len()),
        Value::List(list) => (1, list.len()),
        Value::Set(set) => (2, set.len()),
        Value::Zset(zset) => (3, zset.len()),
        Value::Hash(hash) => (4, hash.len()),
        Value::Stream(_) => return None,
    };
    Some((kind, bin_of(len)))
}

impl Core {
    /// Goes on with a walk; its end is written to `out`, if this is the end.
    pub(crate) fn walk_sizes(&mut self, walk: &mut Walk, out: &mut Vec<u8>) -> bool {
        let (db, cursor) = walk.at;
        if usize::from(db) >= self.shard.db_count() {
            walk.found.encode(out);
            return true;
        }
        let range = self.node.range(self.id);
        let cursor = cursor.unwrap_or(Shard::cursor_at(Slot(range.start as u16)));
        let first = Shard::cursor_slot(cursor).index();
        // Slots on a visit elsewhere are looked at when they are home.
        let is_away = |slot: &usize| self.locks.is_held(Slot(*slot as u16));
        let end = if self.locks.is_empty() {
            range.end
        } else {
            (first..range.end).find(is_away).unwrap_or(range.end)
        };
        if end == first {
            return false;
        }
        let (shard, found) = (&self.shard, &mut walk.found);
        let next = shard.scan(db, cursor, end, KEYS_PER_TURN_MAX, |key, _| {
            let value = shard.peek(&Key::new(db, key));
            if let Some((kind, bin)) = value.and_then(place) {
                found.add(db, kind, bin, 1);
            }
        });
        walk.at = match next {
            Some(cursor) => (db, Some(cursor)),
            None if end < range.end => (db, Some(Shard::cursor_at(Slot(end as u16)))),
            None => (db + 1, None),
        };
        false
    }
}

#[cfg(test)]
mod tests {
    use super::{bin_of, label};
    use crate::testing::Bench;

    #[test]
    fn bins_are_powers_of_two() {
        let of = |len: usize| label(bin_of(len));
        let lens = [
            0,
            1,
            2,
            3,
            4,
            1023,
            1024,
            (1 << 20) + 1,
            1 << 40,
            usize::MAX,
        ];
        let labels = ["0", "1", "2", "2", "4", "512", "1K", "1M", "1T", "8E"];
        assert_eq!(lens.map(of), labels);
    }

    #[test]
    fn every_key_of_every_core_counts_once() {
        for cores in [1, 2, 3] {
            let mut bench = Bench::new(cores);
            let client = bench.connect(0);
            let mut setup = String::new();
            for n in 0..5000 {
                setup += &format!("SET s{n} {n}\r\nRPUSH l{n} a b c\r\n");
            }
            setup += "SET e x\r\nSETRANGE e 2999 x\r\nHSET h a 1 b 2\r\nSADD t 1\r\nZADD z 1 a\r\nXADD x * f v\r\n";
            setup += "SELECT 3\r\nRPUSH l a\r\nSELECT 0\r\n";
            bench.send(client, setup.as_bytes());
            bench.received(client);
            let info = bench.call(client, "INFO keysizes");
            let expected = "# Keysizes\r\n\
                db0_distrib_strings_sizes:1=10,2=990,4=4000,2K=1\r\n\
                db0_distrib_lists_items:2=5000\r\n\
                db0_distrib_sets_items:1=1\r\n\
                db0_distrib_zsets_items:1=1\r\n\
                db0_distrib_hashes_items:2=1\r\n\
                db3_distrib_lists_items:1=1\r\n";
            assert!(info.ends_with(&format!("{expected}\r\n")), "{info}");
            let everything = bench.call(client, "INFO everything");
            assert!(!everything.contains("distrib_"), "only by its name");
        }
    }
}
