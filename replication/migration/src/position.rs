//! Where in whose history the data of this node stands.

use core::fmt;

/// Characters of a history's name.
const LEN: usize = 40;

/// The name of a history of writes: forty hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReplId([u8; LEN]);

impl ReplId {
    /// Nobody's history.
    pub const NONE: ReplId = ReplId([b'0'; LEN]);

    /// A name as a server writes it; none if it is no name.
    pub fn of(text: &[u8]) -> Option<ReplId> {
        let id: [u8; LEN] = text.try_into().ok()?;
        id.iter()
            .all(u8::is_ascii_alphanumeric)
            .then_some(ReplId(id))
    }

    /// The same as text.
    pub fn text(&self) -> &str {
        // (Only letters and digits are taken in.)
        core::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; LEN] {
        &self.0
    }
}

impl fmt::Debug for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Up to where a source's stream has been executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Whose history.
    pub replid: ReplId,
    /// The offset of the last byte that has been executed.
    pub offset: u64,
    /// The database that the stream had selected there.
    pub db: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_as_servers_write_them() {
        let id = ReplId::of(b"0123456789abcdef0123456789abcdef01234567").unwrap();
        assert_eq!(
            format!("{id:?}"),
            "0123456789abcdef0123456789abcdef01234567"
        );
        assert_eq!(id.bytes().len(), 40);
        for bad in [
            &b"0123"[..],
            &[b' '; 40],
            &[b'a'; 41],
            "é".repeat(20).as_bytes(),
        ] {
            assert_eq!(ReplId::of(bad), None, "{bad:?}");
        }
    }
}
