//! Where the keys of a request are, and the search for them.
//!
//! Key specs follow <https://redis.io/docs/latest/develop/reference/key-specs/>: a rule says where
//! to begin (at a word, or after a keyword) and how to go on (a range, or a count of keys). Two old
//! commands, SORT and MIGRATE, follow no rule and have their own functions here.

use crate::args::Args;
use crate::number;
use crate::refusal::Refusal;
use crate::spec::{Flags, KeyFlags, Spec};

/// One rule that finds keys in a request: where to begin, then how to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// Where the search begins.
    pub begin: Begin,
    /// How keys are found from there.
    pub find: Find,
    /// What is done with them.
    pub flags: KeyFlags,
}

/// Where a key spec begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this word.
    Index(u16),
    /// At the word after `word` (ASCII case ignored).
    Keyword {
        /// The keyword, upper case.
        word: &'static str,
        /// Where to start looking; negative counts from the end and looks backwards.
        from: i16,
    },
    /// Cannot be said.
    Unknown,
}

impl Begin {
    /// The word at which this request's keys begin, if there is one.
    fn index(self, args: &Args<'_>) -> Option<usize> {
        match self {
            Self::Index(index) => Some(usize::from(index)),
            Self::Keyword { word, from } => {
                let is_word = |index: &usize| {
                    args.word(*index)
                        .is_some_and(|w| w.eq_ignore_ascii_case(word.as_bytes()))
                };
                let at = if from >= 0 {
                    // The last word has nothing after it, so it is no keyword.
                    let from = usize::from(from.unsigned_abs()).max(1);
                    (from..args.total().saturating_sub(1)).find(is_word)
                } else {
                    let from = args.total().checked_sub(usize::from(from.unsigned_abs()))?;
                    (2..=from).rev().find(is_word)
                };
                at.map(|index| index + 1)
            }
            Self::Unknown => None,
        }
    }
}

/// How a key spec finds keys from where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Every `step`-th word from the beginning to `last`.
    Range {
        /// Relative to the beginning; negative: to the end of the request, -1 being its last word.
        last: i16,
        /// Distance between keys, 1 or more.
        step: u16,
        /// With `last` -1: keys are in the first 1/`limit` of the words that are left; 0 and 1: all.
        limit: u16,
    },
    /// A word says how many keys follow.
    KeyNum {
        /// The word with the count, relative to the beginning.
        count_at: u16,
        /// The first key, relative to the beginning.
        first: u16,
        /// Distance between keys, 1 or more.
        step: u16,
    },
    /// Cannot be said.
    Unknown,
}

impl KeySpec {
    /// One key at word `index`.
    pub const fn one(index: u16, flags: KeyFlags) -> Self {
        Self {
            begin: Begin::Index(index),
            find: Find::Range {
                last: 0,
                step: 1,
                limit: 0,
            },
            flags,
        }
    }

    /// Every `step`-th word from `index` to `last` (negative: from the end, -1 the last word).
    pub const fn range(index: u16, last: i16, step: u16, flags: KeyFlags) -> Self {
        Self {
            begin: Begin::Index(index),
            find: Find::Range {
                last,
                step,
                limit: 0,
            },
            flags,
        }
    }

    /// A count of keys at word `index`, the keys right after it.
    pub const fn counted(index: u16, flags: KeyFlags) -> Self {
        Self {
            begin: Begin::Index(index),
            find: Find::KeyNum {
                count_at: 0,
                first: 1,
                step: 1,
            },
            flags,
        }
    }

    /// One key right after `word`, looked for from word `from` on.
    pub const fn after(word: &'static str, from: i16, flags: KeyFlags) -> Self {
        Self {
            begin: Begin::Keyword { word, from },
            find: Find::Range {
                last: 0,
                step: 1,
                limit: 0,
            },
            flags,
        }
    }

    /// Keys exist but positions cannot be said.
    pub const fn unknown(flags: KeyFlags) -> Self {
        Self {
            begin: Begin::Unknown,
            find: Find::Unknown,
            flags,
        }
    }
}

const RO: KeyFlags = KeyFlags::RO;
const RW: KeyFlags = KeyFlags::RW;
const RO_ACCESS_FLAGS: KeyFlags = RO.and(KeyFlags::ACCESS);

/// One key at 1: metadata is read (EXISTS-like, TTL, TYPE).
pub const ONE_RO: &[KeySpec] = &[KeySpec::one(1, RO)];
/// One key at 1: its value is read.
pub const ONE_RO_ACCESS: &[KeySpec] = &[KeySpec::one(1, RO_ACCESS_FLAGS)];
/// One key at 1: changed.
pub const ONE_RW_UPDATE: &[KeySpec] = &[KeySpec::one(1, RW.and(KeyFlags::UPDATE))];
/// One key at 1: read and changed.
pub const ONE_RW_ACCESS_UPDATE: &[KeySpec] = &[KeySpec::one(
    1,
    RW.and(KeyFlags::ACCESS).and(KeyFlags::UPDATE),
)];
/// One key at 1: something is added.
pub const ONE_RW_INSERT: &[KeySpec] = &[KeySpec::one(1, RW.and(KeyFlags::INSERT))];
/// One key at 1: something is removed.
pub const ONE_RW_DELETE: &[KeySpec] = &[KeySpec::one(1, RW.and(KeyFlags::DELETE))];
/// One key at 1: something is removed and told.
pub const ONE_RW_ACCESS_DELETE: &[KeySpec] = &[KeySpec::one(
    1,
    RW.and(KeyFlags::ACCESS).and(KeyFlags::DELETE),
)];
/// One key at 1: replaced.
pub const ONE_OW_UPDATE: &[KeySpec] = &[KeySpec::one(1, KeyFlags::OW.and(KeyFlags::UPDATE))];
/// All words from 1 on: values are read.
pub const ALL_RO_ACCESS: &[KeySpec] = &[KeySpec::range(1, -1, 1, RO_ACCESS_FLAGS)];
/// All words from 1 on: metadata is read.
pub const ALL_RO: &[KeySpec] = &[KeySpec::range(1, -1, 1, RO)];
/// All words from 1 on: removed.
pub const ALL_RM_DELETE: &[KeySpec] =
    &[KeySpec::range(1, -1, 1, KeyFlags::RM.and(KeyFlags::DELETE))];

// A Spec row is built thousands of times nowhere, but its parts are compared on the request path.
const _: () = assert!(size_of::<KeySpec>() <= 48);

impl Spec {
    /// Calls `found` with the index of each key word of a request, and the spec that found it.
    ///
    /// Words that are only routed like keys (`KeyFlags::NOT_KEY`: channels of SSUBSCRIBE) are
    /// reported too; who wants keys proper looks at the flags. A keyword that is absent finds
    /// nothing. `found` may have been called before an error is returned.
    ///
    /// # Errors
    /// `Refusal::NoKeyArguments` if the command has no key specs. `Refusal::InvalidKeyArguments` if
    /// the request is too short for them or its count of keys is not a number: COMMAND GETKEYS
    /// replies so; a router lets the handler say what is wrong.
    pub fn keys_of(
        &self,
        args: &Args<'_>,
        mut found: impl FnMut(usize, &KeySpec),
    ) -> Result<(), Refusal> {
        if self.keys.is_empty() {
            return Err(Refusal::NoKeyArguments);
        }
        match self.name {
            "sort" => return self.keys_of_sort(args, found),
            "migrate" => return self.keys_of_migrate(args, found),
            _ => {}
        }
        for spec in self.keys {
            let Some(begin) = spec.begin.index(args) else {
                continue;
            };
            let (first, last, step) = match spec.find {
                Find::Unknown => continue,
                Find::Range { last, step, limit } => {
                    (begin, range_end(begin, args.total(), last, limit), step)
                }
                Find::KeyNum {
                    count_at,
                    first,
                    step,
                } => {
                    let count = key_count(args, begin.saturating_add(usize::from(count_at)))?;
                    let first = begin.saturating_add(usize::from(first));
                    if count == 0 && self.flags.contains(Flags::NO_MANDATORY_KEYS) {
                        continue;
                    }
                    // `step` words for each key; the last key's own companions do not count.
                    let span = count
                        .saturating_sub(1)
                        .saturating_mul(usize::from(step.max(1)));
                    let last = (count > 0).then(|| first.saturating_add(span));
                    (first, last, step)
                }
            };
            let last = last.ok_or(Refusal::InvalidKeyArguments)?;
            if last >= args.total() || last < first {
                return Err(Refusal::InvalidKeyArguments);
            }
            for index in (first..=last).step_by(usize::from(step.max(1))) {
                found(index, spec);
            }
        }
        Ok(())
    }

    /// What a request does with a key, where that depends on more than the command: `flags` are those of the key's spec.
    pub fn flags_of_key(&self, args: &Args<'_>, flags: KeyFlags) -> KeyFlags {
        if !flags.contains(KeyFlags::VARIABLE_FLAGS) {
            return flags;
        }
        let reads_and_writes = KeyFlags::RW.and(KeyFlags::ACCESS).and(KeyFlags::UPDATE);
        match self.name {
            "set" => {
                let mut options = (3..args.total()).filter_map(|index| args.word(index));
                if options.any(|word| word.eq_ignore_ascii_case(b"get")) {
                    reads_and_writes
                } else {
                    KeyFlags::OW.and(KeyFlags::UPDATE)
                }
            }
            "bitfield" if only_reads_bits(args) => KeyFlags::RO.and(KeyFlags::ACCESS),
            "bitfield" => reads_and_writes,
            _ => flags.without(KeyFlags::VARIABLE_FLAGS),
        }
    }

    /// SORT: its STORE cannot be told from a pattern or a LIMIT by position; the last one counts.
    fn keys_of_sort(
        &self,
        args: &Args<'_>,
        mut found: impl FnMut(usize, &KeySpec),
    ) -> Result<(), Refusal> {
        // What patterns name lies between them and cannot be told.
        let [source, .., store] = self.keys else {
            return Err(Refusal::InvalidKeyArguments);
        };
        if args.total() < 2 {
            return Err(Refusal::InvalidKeyArguments);
        }
        found(1, source);
        let mut stored = None;
        let mut index = 2;
        while let Some(word) = args.word(index) {
            index += match word {
                w if w.eq_ignore_ascii_case(b"limit") => 3,
                w if w.eq_ignore_ascii_case(b"get") || w.eq_ignore_ascii_case(b"by") => 2,
                w if w.eq_ignore_ascii_case(b"store") && index + 1 < args.total() => {
                    stored = Some(index + 1);
                    1
                }
                _ => 1,
            };
        }
        if let Some(index) = stored {
            found(index, store);
        }
        Ok(())
    }

    /// MIGRATE: one key at 3, or all the words after KEYS if the word at 3 is empty.
    fn keys_of_migrate(
        &self,
        args: &Args<'_>,
        mut found: impl FnMut(usize, &KeySpec),
    ) -> Result<(), Refusal> {
        let [one, ..] = self.keys else {
            return Err(Refusal::InvalidKeyArguments);
        };
        let single = args.word(3).ok_or(Refusal::InvalidKeyArguments)?;
        let mut index = 6;
        while let Some(word) = args.word(index) {
            index += match word {
                w if w.eq_ignore_ascii_case(b"keys") => {
                    if !single.is_empty() {
                        return Err(Refusal::InvalidKeyArguments);
                    }
                    (index + 1..args.total()).for_each(|at| found(at, one));
                    return Ok(());
                }
                w if w.eq_ignore_ascii_case(b"auth") => 2,
                w if w.eq_ignore_ascii_case(b"auth2") => 3,
                _ => 1,
            };
        }
        found(3, one);
        Ok(())
    }
}

/// Whether a BITFIELD has nothing but GET and OVERFLOW. One with a mistake in it counts as one that writes.
fn only_reads_bits(args: &Args<'_>) -> bool {
    let mut index = 2;
    while let Some(word) = args.word(index) {
        let left = args.total() - index - 1;
        index += match word {
            w if w.eq_ignore_ascii_case(b"get") && left >= 2 => 3,
            w if w.eq_ignore_ascii_case(b"overflow") && left >= 1 => 2,
            _ => return false,
        };
    }
    true
}

/// The last key's index of a range; `None` if it would lie before the first word.
fn range_end(begin: usize, total: usize, last: i16, limit: u16) -> Option<usize> {
    let back = usize::from(last.unsigned_abs());
    if last >= 0 {
        return Some(begin.saturating_add(back));
    }
    match usize::from(limit) {
        0 | 1 => total.checked_sub(back),
        limit => begin
            .saturating_add(total.saturating_sub(begin) / limit)
            .checked_sub(back),
    }
}

/// Reads the word that says how many keys follow.
fn key_count(args: &Args<'_>, index: usize) -> Result<usize, Refusal> {
    args.word(index)
        .and_then(number::parse_i64)
        .and_then(|count| usize::try_from(count).ok())
        .ok_or(Refusal::InvalidKeyArguments)
}

#[cfg(test)]
mod tests {
    use super::{ALL_RO_ACCESS, Begin, Find, KeySpec, ONE_RW_UPDATE};
    use crate::args::{Args, flatten};
    use crate::refusal::Refusal;
    use crate::spec::{Acl, Arity, Flags, Group, KeyFlags, Spec};

    const RO: KeyFlags = KeyFlags::RO;

    const fn spec(name: &'static str, flags: Flags, keys: &'static [KeySpec]) -> Spec {
        Spec {
            name,
            summary: "",
            group: Group::Generic,
            since: "1.0.0",
            arity: Arity::at_least(1),
            flags,
            acl: Acl::NONE,
            keys,
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        }
    }

    fn keys(spec: &Spec, request: &str) -> Result<Vec<usize>, Refusal> {
        let (mut buf, mut words) = (Vec::new(), Vec::new());
        let owned: Vec<Vec<u8>> = request
            .split(' ')
            .map(|w| w.trim_matches('_').into())
            .collect();
        flatten(&owned, &mut buf, &mut words);
        let mut found = Vec::new();
        spec.keys_of(&Args::new(&buf, &words), |index, _| found.push(index))?;
        Ok(found)
    }

    #[test]
    fn ranges() {
        let get = spec("get", Flags::READONLY, ONE_RW_UPDATE);
        assert_eq!(keys(&get, "get a"), Ok(vec![1]));
        assert_eq!(get.first_key_index(), Some(1));
        assert_eq!(keys(&get, "get"), Err(Refusal::InvalidKeyArguments));
        let mget = spec("mget", Flags::READONLY, ALL_RO_ACCESS);
        assert_eq!(keys(&mget, "mget a b c"), Ok(vec![1, 2, 3]));
        const PAIRS: &[KeySpec] = &[KeySpec::range(1, -1, 2, RO)];
        assert_eq!(
            keys(&spec("mset", Flags::NONE, PAIRS), "mset a 1 b 2"),
            Ok(vec![1, 3])
        );
        const BLPOP: &[KeySpec] = &[KeySpec::range(1, -2, 1, RO)];
        assert_eq!(
            keys(&spec("blpop", Flags::NONE, BLPOP), "blpop a b 0"),
            Ok(vec![1, 2])
        );
        assert_eq!(
            keys(&spec("blpop", Flags::NONE, BLPOP), "blpop a"),
            Err(Refusal::InvalidKeyArguments)
        );
        let ping = spec("ping", Flags::NONE, &[]);
        assert_eq!(keys(&ping, "ping"), Err(Refusal::NoKeyArguments));
        assert!(!ping.has_keys() && mget.has_keys() && ping.first_key_index().is_none());
    }

    #[test]
    fn counts() {
        const EVAL: &[KeySpec] = &[KeySpec::counted(2, RO)];
        let eval = spec("eval", Flags::NO_MANDATORY_KEYS, EVAL);
        assert_eq!(keys(&eval, "eval s 2 a b x"), Ok(vec![3, 4]));
        assert_eq!(keys(&eval, "eval s 0 x"), Ok(vec![]));
        assert_eq!(keys(&eval, "eval s 2 a"), Err(Refusal::InvalidKeyArguments));
        assert_eq!(
            keys(&eval, "eval s -1 a"),
            Err(Refusal::InvalidKeyArguments)
        );
        assert_eq!(keys(&eval, "eval s x a"), Err(Refusal::InvalidKeyArguments));
        assert_eq!(
            keys(&eval, "eval s 9223372036854775807 a"),
            Err(Refusal::InvalidKeyArguments)
        );
        const STORE: &[KeySpec] = &[KeySpec::one(1, RO), KeySpec::counted(2, RO)];
        let store = spec("zunionstore", Flags::NONE, STORE);
        assert_eq!(
            keys(&store, "zunionstore d 2 a b weights 1 2"),
            Ok(vec![1, 3, 4])
        );
        assert_eq!(
            keys(&store, "zunionstore d 0 a"),
            Err(Refusal::InvalidKeyArguments)
        );
        assert_eq!(eval.first_key_index(), None);
    }

    #[test]
    fn keywords() {
        const STREAMS: &[KeySpec] = &[KeySpec {
            begin: Begin::Keyword {
                word: "STREAMS",
                from: 1,
            },
            find: Find::Range {
                last: -1,
                step: 1,
                limit: 2,
            },
            flags: RO,
        }];
        let xread = spec("xread", Flags::NONE, STREAMS);
        assert_eq!(
            keys(&xread, "xread count 2 streams a b 0 0"),
            Ok(vec![4, 5])
        );
        assert_eq!(keys(&xread, "xread count 2"), Ok(vec![]));
        assert_eq!(keys(&xread, "xread count streams"), Ok(vec![]));
        const GEO: &[KeySpec] = &[KeySpec::one(1, RO), KeySpec::after("STORE", 6, RO)];
        let georadius = spec("georadius", Flags::NONE, GEO);
        assert_eq!(
            keys(&georadius, "georadius k 1 2 3 km store d"),
            Ok(vec![1, 7])
        );
        assert_eq!(keys(&georadius, "georadius k 1 2 store km"), Ok(vec![1]));
    }

    #[test]
    fn sort_and_migrate_are_irregular() {
        const SORT: &[KeySpec] = &[
            KeySpec::one(1, RO),
            KeySpec::unknown(RO),
            KeySpec::unknown(KeyFlags::OW),
        ];
        let sort = spec("sort", Flags::NONE, SORT);
        let mut flags = Vec::new();
        let request: Vec<Vec<u8>> = ["sort", "k", "store", "d"].map(Into::into).into();
        let (mut buf, mut words) = (Vec::new(), Vec::new());
        flatten(&request, &mut buf, &mut words);
        sort.keys_of(&Args::new(&buf, &words), |_, spec| flags.push(spec.flags))
            .unwrap();
        assert_eq!(flags, [RO, KeyFlags::OW]);
        assert_eq!(keys(&sort, "sort k"), Ok(vec![1]));
        assert_eq!(
            keys(&sort, "sort k by store limit 0 1 store d"),
            Ok(vec![1, 8])
        );
        assert_eq!(keys(&sort, "sort k store c store d"), Ok(vec![1, 5]));
        assert_eq!(keys(&sort, "sort k store"), Ok(vec![1]));
        const MIGRATE: &[KeySpec] = &[KeySpec::one(3, RO)];
        let migrate = spec("migrate", Flags::NONE, MIGRATE);
        assert_eq!(keys(&migrate, "migrate h 1 k 0 10 copy"), Ok(vec![3]));
        assert_eq!(
            keys(&migrate, "migrate h 1 _ 0 10 auth keys keys a b"),
            Ok(vec![9, 10])
        );
        assert_eq!(
            keys(&migrate, "migrate h 1 k 0 10 keys a"),
            Err(Refusal::InvalidKeyArguments)
        );
    }

    #[test]
    fn what_is_only_routed_like_a_key_is_reported() {
        const CHANNEL: &[KeySpec] = &[KeySpec::range(1, -1, 1, KeyFlags::NOT_KEY)];
        let ssubscribe = spec("ssubscribe", Flags::PUBSUB, CHANNEL);
        assert!(!ssubscribe.has_keys());
        assert_eq!(keys(&ssubscribe, "ssubscribe a b"), Ok(vec![1, 2]));
    }
}
