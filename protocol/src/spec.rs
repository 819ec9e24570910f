//! What can be said about a command without running it: name, arity, flags, categories, keys.
//!
//! A `Spec` is a constant. Everything that `COMMAND`, `ACL` and the router want to know of a
//! command is derived from it. Positions count words of the request: 0 is the command's name, and
//! for a subcommand (`object|encoding`) 1 is the subcommand's name.
//! Where the keys are is in `key_spec.rs`.

pub use crate::key_spec::{
    ALL_RM_DELETE, ALL_RO, ALL_RO_ACCESS, Begin, Find, KeySpec, ONE_OW_UPDATE, ONE_RO,
    ONE_RO_ACCESS, ONE_RW_ACCESS_DELETE, ONE_RW_ACCESS_UPDATE, ONE_RW_DELETE, ONE_RW_INSERT,
    ONE_RW_UPDATE,
};

/// A constant description of one command or subcommand.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Lower case; a subcommand is written `config|get`.
    pub name: &'static str,
    /// One sentence for people, ending in a period.
    pub summary: &'static str,
    /// The family under which COMMAND DOCS lists it.
    pub group: Group,
    /// The Redis version that brought it.
    pub since: &'static str,
    /// How many words a request may have, the name included.
    pub arity: Arity,
    /// What the gates before the handler must know.
    pub flags: Flags,
    /// The ACL categories that contain it.
    pub acl: Acl,
    /// Where its keys are; empty if it has none.
    pub keys: &'static [KeySpec],
    /// First key, last key and step as the older part of the COMMAND reply prints them.
    pub range: (i16, i16, i16),
    /// Hints for proxies, as COMMAND prints them.
    pub tips: &'static [&'static str],
    /// The Redis version since which another command is preferred.
    pub deprecated_since: Option<&'static str>,
}

impl Spec {
    /// True if at least one key spec names a real key (not only something routed like a key).
    pub const fn has_keys(&self) -> bool {
        let mut specs = self.keys;
        while let [first, rest @ ..] = specs {
            if !first.flags.contains(KeyFlags::NOT_KEY) {
                return true;
            }
            specs = rest;
        }
        false
    }

    /// The word of the first key where that is known without looking at the request.
    ///
    /// `None` means "ask `keys_of`", not "no keys".
    #[inline]
    pub const fn first_key_index(&self) -> Option<usize> {
        match self.keys {
            [
                KeySpec {
                    begin: Begin::Index(index),
                    find: Find::Range { .. },
                    ..
                },
                ..,
            ] => Some(*index as usize),
            _ => None,
        }
    }
}

/// How many words a request may have, the command's name (and subcommand's) included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arity(i16);

impl Arity {
    /// Exactly `words`.
    pub const fn exactly(words: i16) -> Self {
        assert!(words > 0);
        Self(words)
    }

    /// `words` or more.
    pub const fn at_least(words: i16) -> Self {
        assert!(words > 0);
        Self(-words)
    }

    /// True if a request of `words` words is allowed.
    #[inline]
    pub const fn accepts(self, words: usize) -> bool {
        let bound = self.0.unsigned_abs() as usize;
        words == bound || (self.0 < 0 && words > bound)
    }

    /// As COMMAND prints it: negative means "at least".
    pub const fn redis(self) -> i64 {
        self.0 as i64
    }
}

/// Declares a set of bits whose members have names; the order is that of Redis's replies.
macro_rules! named_bits {
    ($(#[$doc:meta])* $type:ident { $($(#[$bit_doc:meta])* $bit:ident = $at:literal $name:expr;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $type(u32);

        impl $type {
            /// The empty set.
            pub const NONE: Self = Self(0);
            $($(#[$bit_doc])* pub const $bit: Self = Self(1 << $at);)+
            const NAMES: &[(Self, Option<&'static str>)] = &[$((Self::$bit, $name)),+];

            /// The union of both.
            pub const fn and(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// True if every bit of `other` is in `self`.
            #[inline]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// True if at least one bit is in both.
            #[inline]
            pub const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// What is in `self` but not in `other`.
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// True if no bit is set.
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// The names of its members as COMMAND spells them and in its order; members that
            /// COMMAND hides are left out.
            pub fn names(self) -> impl Iterator<Item = &'static str> + Clone {
                Self::NAMES
                    .iter()
                    .filter(move |(bit, _)| self.contains(*bit))
                    .filter_map(|(_, name)| *name)
            }

            /// The members one by one, hidden ones included.
            pub fn iter(self) -> impl Iterator<Item = Self> + Clone {
                Self::NAMES.iter().map(|(bit, _)| *bit).filter(move |bit| self.contains(*bit))
            }

            /// The member of that name, ASCII case ignored.
            pub fn from_name(name: &[u8]) -> Option<Self> {
                Self::NAMES
                    .iter()
                    .find(|(_, known)| known.is_some_and(|k| name.eq_ignore_ascii_case(k.as_bytes())))
                    .map(|(bit, _)| *bit)
            }

            /// Every member that has a name, in COMMAND's order.
            pub fn all_names() -> impl Iterator<Item = &'static str> + Clone {
                Self::NAMES.iter().filter_map(|(_, name)| *name)
            }
        }
    };
}

named_bits! {
    /// What the gates before a handler must know of a command.
    Flags {
        /// May change data.
        WRITE = 0 Some("write");
        /// Only reads data.
        READONLY = 1 Some("readonly");
        /// Refused while memory is over its limit.
        DENYOOM = 2 Some("denyoom");
        /// For administrators.
        ADMIN = 3 Some("admin");
        /// Publish and subscribe.
        PUBSUB = 4 Some("pubsub");
        /// Not allowed from scripts.
        NOSCRIPT = 5 Some("noscript");
        /// May wait for a key.
        BLOCKING = 6 Some("blocking");
        /// Allowed while data is being loaded.
        LOADING = 7 Some("loading");
        /// Allowed on a replica that has lost its link.
        STALE = 8 Some("stale");
        /// Not shown to MONITOR.
        SKIP_MONITOR = 9 Some("skip_monitor");
        /// Not put in the slow log.
        SKIP_SLOWLOG = 10 Some("skip_slowlog");
        /// Counts as preceded by ASKING.
        ASKING = 11 Some("asking");
        /// Constant or logarithmic time.
        FAST = 12 Some("fast");
        /// Allowed before authentication.
        NO_AUTH = 13 Some("no_auth");
        /// May lead to replication although it is not a write.
        MAY_REPLICATE = 14 None;
        /// Valid although its keys may be absent from the request.
        NO_MANDATORY_KEYS = 15 Some("no_mandatory_keys");
        /// Refused during asynchronous loading.
        NO_ASYNC_LOADING = 16 Some("no_async_loading");
        /// Not allowed inside MULTI.
        NO_MULTI = 17 Some("no_multi");
        /// Positions of keys depend on the request.
        MOVABLEKEYS = 18 Some("movablekeys");
        /// Allowed while a script runs too long.
        ALLOW_BUSY = 19 Some("allow_busy");
        /// Refused unless the configuration enables it.
        PROTECTED = 20 None;
        /// Also known to a sentinel.
        SENTINEL = 21 None;
        /// Known to a sentinel only.
        ONLY_SENTINEL = 22 None;
        /// May touch keys that it does not declare.
        TOUCHES_ARBITRARY_KEYS = 23 None;
    }
}

named_bits! {
    /// The ACL categories of a command; names without the `@` that COMMAND puts before them.
    Acl {
        /// `@keyspace`
        KEYSPACE = 0 Some("keyspace");
        /// `@read`
        READ = 1 Some("read");
        /// `@write`
        WRITE = 2 Some("write");
        /// `@set`
        SET = 3 Some("set");
        /// `@sortedset`
        SORTEDSET = 4 Some("sortedset");
        /// `@list`
        LIST = 5 Some("list");
        /// `@hash`
        HASH = 6 Some("hash");
        /// `@string`
        STRING = 7 Some("string");
        /// `@bitmap`
        BITMAP = 8 Some("bitmap");
        /// `@hyperloglog`
        HYPERLOGLOG = 9 Some("hyperloglog");
        /// `@geo`
        GEO = 10 Some("geo");
        /// `@stream`
        STREAM = 11 Some("stream");
        /// `@pubsub`
        PUBSUB = 12 Some("pubsub");
        /// `@admin`
        ADMIN = 13 Some("admin");
        /// `@fast`
        FAST = 14 Some("fast");
        /// `@slow`
        SLOW = 15 Some("slow");
        /// `@blocking`
        BLOCKING = 16 Some("blocking");
        /// `@dangerous`
        DANGEROUS = 17 Some("dangerous");
        /// `@connection`
        CONNECTION = 18 Some("connection");
        /// `@transaction`
        TRANSACTION = 19 Some("transaction");
        /// `@scripting`
        SCRIPTING = 20 Some("scripting");
    }
}

named_bits! {
    /// What a command does with the keys that a key spec finds.
    KeyFlags {
        /// Reads the value.
        RO = 0 Some("RO");
        /// Reads and changes the value.
        RW = 1 Some("RW");
        /// Replaces the value whatever it was.
        OW = 2 Some("OW");
        /// Removes the key whatever its value.
        RM = 3 Some("RM");
        /// The value, or something of it, is told to the client or copied.
        ACCESS = 4 Some("access");
        /// The value is changed.
        UPDATE = 5 Some("update");
        /// Something is added without changing what was there.
        INSERT = 6 Some("insert");
        /// Something is removed from the value, or the whole value.
        DELETE = 7 Some("delete");
        /// Not a key, but routed as one.
        NOT_KEY = 8 Some("not_key");
        /// The spec may miss some keys.
        INCOMPLETE = 9 Some("incomplete");
        /// The flags depend on the request.
        VARIABLE_FLAGS = 10 Some("variable_flags");
    }
}

/// The family of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is its own name")]
pub enum Group {
    Generic,
    String,
    List,
    Set,
    SortedSet,
    Hash,
    PubSub,
    Transactions,
    Connection,
    Server,
    Scripting,
    HyperLogLog,
    Cluster,
    Sentinel,
    Geo,
    Stream,
    Bitmap,
}

impl Group {
    /// As COMMAND DOCS spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::SortedSet => "sorted-set",
            Self::Hash => "hash",
            Self::PubSub => "pubsub",
            Self::Transactions => "transactions",
            Self::Connection => "connection",
            Self::Server => "server",
            Self::Scripting => "scripting",
            Self::HyperLogLog => "hyperloglog",
            Self::Cluster => "cluster",
            Self::Sentinel => "sentinel",
            Self::Geo => "geo",
            Self::Stream => "stream",
            Self::Bitmap => "bitmap",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Acl, Arity, Flags};

    #[test]
    fn arity() {
        assert!(Arity::exactly(2).accepts(2) && !Arity::exactly(2).accepts(3));
        assert!(Arity::at_least(2).accepts(3) && !Arity::at_least(2).accepts(1));
        assert_eq!(
            (Arity::exactly(2).redis(), Arity::at_least(3).redis()),
            (2, -3)
        );
    }

    #[test]
    fn names_are_in_commands_order_and_hidden_ones_left_out() {
        let flags = Flags::FAST
            .and(Flags::WRITE)
            .and(Flags::SENTINEL)
            .and(Flags::DENYOOM);
        assert_eq!(
            flags.names().collect::<Vec<_>>(),
            ["write", "denyoom", "fast"]
        );
        assert_eq!(flags.iter().count(), 4);
        assert!(flags.contains(Flags::FAST) && !flags.contains(Flags::FAST.and(Flags::ADMIN)));
        assert!(flags.intersects(Flags::FAST.and(Flags::ADMIN)));
        assert_eq!(Acl::from_name(b"SortedSet"), Some(Acl::SORTEDSET));
        assert_eq!(Acl::all_names().count(), 21);
        assert_eq!(flags.without(Flags::FAST).iter().count(), 3);
    }
}
