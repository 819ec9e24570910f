//! A position as fields of an RDB file, under the names that Redis gives them, and as an effect of the log.

use migration::{Position, ReplId};
use storage::REPLID_BYTES;

const ID: &str = "repl-id";
const OFFSET: &str = "repl-offset";
const DB: &str = "repl-stream-db";

/// What a file has said so far.
#[derive(Default)]
pub struct Fields {
    replid: Option<ReplId>,
    offset: Option<u64>,
    db: u8,
}

impl Fields {
    /// A field of the file.
    pub fn note(&mut self, name: &[u8], value: &[u8]) {
        let number = || core::str::from_utf8(value).ok()?.parse::<u64>().ok();
        if name == ID.as_bytes() {
            self.replid = ReplId::of(value);
        } else if name == OFFSET.as_bytes() {
            self.offset = number();
        } else if name == DB.as_bytes() {
            self.db = number().and_then(|db| u8::try_from(db).ok()).unwrap_or(0);
        }
    }

    /// The position, if both halves of it have been said.
    pub fn position(&self) -> Option<Position> {
        Some(Position {
            replid: self.replid?,
            offset: self.offset?,
            db: self.db,
        })
    }
}

/// The fields of a position.
pub(super) fn of(position: Position) -> Vec<(&'static str, String)> {
    vec![
        (DB, position.db.to_string()),
        (ID, position.replid.text().to_owned()),
        (OFFSET, position.offset.to_string()),
    ]
}

/// The position of an effect; none when it is nobody's.
pub fn position_of(db: u8, replid: &[u8; REPLID_BYTES], offset: u64) -> Option<Position> {
    let replid = ReplId::of(replid).filter(|replid| *replid != ReplId::NONE)?;
    Some(Position { replid, offset, db })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back() {
        let replid = ReplId::of(&[b'a'; 40]).unwrap();
        let position = Position {
            replid,
            offset: 7,
            db: 3,
        };
        let mut fields = Fields::default();
        assert_eq!(fields.position(), None);
        for (name, value) in of(position) {
            fields.note(name.as_bytes(), value.as_bytes());
        }
        assert_eq!(fields.position(), Some(position));
        assert_eq!(position_of(3, replid.bytes(), 7), Some(position));
        assert_eq!(position_of(3, ReplId::NONE.bytes(), 7), None);
        // What is no position is none.
        fields.note(ID.as_bytes(), b"short");
        assert_eq!(fields.position(), None);
        assert_eq!(position_of(3, &[0xff; 40], 7), None);
    }
}
