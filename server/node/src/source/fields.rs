//! Positions as fields of an RDB file, that of a single source under the names that Redis gives them, and as effects of the log.
//!
//! ```text
//!  repl-id, repl-offset, repl-stream-db      of a single source
//!  meridian-line-<number>  "<history> <offset> <db>"   of each of several
//! ```

use std::collections::BTreeMap;

use migration::{Position, ReplId};
use storage::{Effect, REPLID_BYTES};

const ID: &str = "repl-id";
const OFFSET: &str = "repl-offset";
const DB: &str = "repl-stream-db";
const LINE: &str = "meridian-line-";

/// How far the data goes in whose history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Positions {
    /// It is this node's own.
    #[default]
    None,
    /// That of a single source.
    One(Position),
    /// Of several, by their numbers; one that is missing has to be copied.
    Lines(BTreeMap<u16, Position>),
}

impl Positions {
    /// What an effect of the log says of it; false when it says nothing.
    pub fn take(&mut self, db: u8, effect: &Effect<'_>) -> bool {
        match *effect {
            Effect::SourceAt { replid, offset } => {
                *self = position_of(db, replid, offset).map_or(Positions::None, Positions::One);
            }
            Effect::LineAt {
                line,
                replid,
                offset,
            } => self.set(line, position_of(db, replid, offset)),
            _ => return false,
        }
        true
    }

    fn set(&mut self, line: u16, position: Option<Position>) {
        if !matches!(self, Positions::Lines(_)) {
            *self = Positions::Lines(BTreeMap::new());
        }
        if let Positions::Lines(lines) = self {
            match position {
                Some(position) => lines.insert(line, position),
                None => lines.remove(&line),
            };
        }
    }
}

/// What a file has said so far.
#[derive(Default)]
pub struct Fields {
    replid: Option<ReplId>,
    offset: Option<u64>,
    db: u8,
    lines: BTreeMap<u16, Position>,
}

impl Fields {
    /// A field of the file.
    pub fn note(&mut self, name: &[u8], value: &[u8]) {
        let text = core::str::from_utf8(value).ok();
        let number = || text?.parse::<u64>().ok();
        if name == ID.as_bytes() {
            self.replid = ReplId::of(value);
        } else if name == OFFSET.as_bytes() {
            self.offset = number();
        } else if name == DB.as_bytes() {
            self.db = number().and_then(|db| u8::try_from(db).ok()).unwrap_or(0);
        } else if let Some(line) = name.strip_prefix(LINE.as_bytes()) {
            let line = core::str::from_utf8(line).ok().and_then(|n| n.parse().ok());
            let position = text.and_then(read_line);
            self.lines.extend(line.zip(position));
        }
    }

    /// The positions, as far as they have been said as a whole.
    pub fn positions(self) -> Positions {
        if !self.lines.is_empty() {
            return Positions::Lines(self.lines);
        }
        match self.replid.zip(self.offset) {
            Some((replid, offset)) => Positions::One(Position {
                replid,
                offset,
                db: self.db,
            }),
            None => Positions::None,
        }
    }
}

fn read_line(text: &str) -> Option<Position> {
    let words: Vec<&str> = text.split(' ').collect();
    let [replid, offset, db] = words.as_slice() else {
        return None;
    };
    Some(Position {
        replid: ReplId::of(replid.as_bytes())?,
        offset: offset.parse().ok()?,
        db: db.parse().ok()?,
    })
}

/// The fields of positions.
pub(super) fn of(positions: &Positions) -> Vec<(String, String)> {
    let named = |name: &str, value: String| (name.to_owned(), value);
    match positions {
        Positions::None => Vec::new(),
        Positions::One(position) => vec![
            named(DB, position.db.to_string()),
            named(ID, position.replid.text().to_owned()),
            named(OFFSET, position.offset.to_string()),
        ],
        Positions::Lines(lines) => lines
            .iter()
            .map(|(number, at)| {
                let value = format!("{} {} {}", at.replid.text(), at.offset, at.db);
                (format!("{LINE}{number}"), value)
            })
            .collect(),
    }
}

/// The position of an effect; none when it is nobody's.
fn position_of(db: u8, replid: &[u8; REPLID_BYTES], offset: u64) -> Option<Position> {
    let replid = ReplId::of(replid).filter(|replid| *replid != ReplId::NONE)?;
    Some(Position { replid, offset, db })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position {
            replid: ReplId::of(&[b'a'; 40]).unwrap(),
            offset,
            db: 3,
        }
    }

    fn through_fields(positions: &Positions) -> Positions {
        let mut fields = Fields::default();
        for (name, value) in of(positions) {
            fields.note(name.as_bytes(), value.as_bytes());
        }
        fields.positions()
    }

    #[test]
    fn positions_come_back() {
        let lines = Positions::Lines([(0, at(1)), (7, at(u64::MAX))].into());
        for positions in [Positions::None, Positions::One(at(7)), lines] {
            assert_eq!(through_fields(&positions), positions);
        }
        // What is no position is none.
        let mut fields = Fields::default();
        fields.note(ID.as_bytes(), b"short");
        fields.note(OFFSET.as_bytes(), b"7");
        fields.note(b"meridian-line-0", b"short 1 0");
        fields.note(
            b"meridian-line-x",
            format!("{} 1 0", "a".repeat(40)).as_bytes(),
        );
        assert_eq!(fields.positions(), Positions::None);
    }

    #[test]
    fn effects_say_one_source_or_each_of_several() {
        let replid = &[b'a'; 40];
        let mut found = Positions::default();
        let line = |line, replid, offset| Effect::LineAt {
            line,
            replid,
            offset,
        };
        assert!(found.take(3, &Effect::SourceAt { replid, offset: 7 }));
        assert_eq!(found, Positions::One(at(7)));
        assert!(found.take(3, &line(1, replid, 8)) && found.take(3, &line(0, replid, 9)));
        assert_eq!(found, Positions::Lines([(0, at(9)), (1, at(8))].into()));
        // One is to be copied anew; then all is this node's own.
        let none = ReplId::NONE;
        assert!(found.take(0, &line(1, none.bytes(), 0)));
        assert_eq!(found, Positions::Lines([(0, at(9))].into()));
        let own = Effect::SourceAt {
            replid: none.bytes(),
            offset: 0,
        };
        assert!(found.take(0, &own) && !found.take(0, &Effect::FlushAll));
        assert_eq!(found, Positions::None);
    }
}
