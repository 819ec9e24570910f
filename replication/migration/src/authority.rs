//! Who decides what a key holds: this node, or the Redis that it follows.

/// The one place where writes are executed, at any instant. The other side gets what came of them, in order, and never
/// executes a command a second time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Authority {
    /// This node: it executes writes, and keys end here by their deadlines.
    #[default]
    Own,
    /// The source: writes of clients are refused (READONLY), as by a replica of Redis; a key whose deadline has passed is
    /// hidden, and stays until the source says that it is gone.
    Source,
    /// The source, and writes of clients are passed on to it.
    Front,
    /// Nobody for a moment: requests wait, while the authority goes from one side to the other.
    Held,
}

impl Authority {
    /// Its number where it is kept in an atomic.
    pub fn number(self) -> u8 {
        match self {
            Authority::Own => 0,
            Authority::Source => 1,
            Authority::Front => 2,
            Authority::Held => 3,
        }
    }

    /// The authority with this number; the node's own for any other.
    pub fn of(number: u8) -> Authority {
        match number {
            1 => Authority::Source,
            2 => Authority::Front,
            3 => Authority::Held,
            _ => Authority::Own,
        }
    }

    /// Whether this node may end keys by their deadlines, and evict some.
    pub fn ends_keys(self) -> bool {
        self == Authority::Own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_what_they_came_from() {
        for authority in [
            Authority::Own,
            Authority::Source,
            Authority::Front,
            Authority::Held,
        ] {
            assert_eq!(Authority::of(authority.number()), authority);
        }
        assert_eq!(Authority::of(9), Authority::Own);
    }
}
