//! CONFIG GET and CONFIG SET over a `Config`.

use std::fmt;

use super::fields::Config;
use super::glob::glob_match;
use super::row::{Change, Row, Source};
use super::rows::{find, rows};
use super::value::Reject;

/// What CONFIG SET must know of the client and of the moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller {
    /// The connection comes from this machine.
    pub local: bool,
    /// A data set is loading.
    pub loading: bool,
}

/// Why a CONFIG SET changed nothing. Its text goes after `ERR `, but for `Loading`, which has its own reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// No option has this name.
    Unknown(String),
    /// An option refused its value.
    Failed {
        /// The option, by the name that the error shows.
        name: String,
        /// Why.
        why: Reject,
    },
    /// An option that may not change while a data set is loading.
    Loading,
}

impl SetError {
    /// For the node: an option was taken, but could not be acted on.
    pub fn failed(row: &Row, why: impl Into<String>) -> Self {
        Self::Failed {
            name: row.name.to_owned(),
            why: Reject::System(why.into()),
        }
    }
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                write!(
                    f,
                    "Unknown option or number of arguments for CONFIG SET - '{name}'"
                )
            }
            Self::Failed { name, why } => {
                write!(
                    f,
                    "CONFIG SET failed (possibly related to argument '{name}') - {why}"
                )
            }
            Self::Loading => f.write_str("data is loading"),
        }
    }
}

const IMMUTABLE: Reject = Reject::Rule("can't set immutable config");
const PROTECTED: Reject = Reject::Rule("can't set protected config");
const DUPLICATE: Reject = Reject::Rule("duplicate parameter");

impl Config {
    /// CONFIG GET: names and values, each option once. A pattern is matched with every name that is not
    /// hidden; a word without wildcards is a name, and is answered as the client wrote it.
    pub fn get(&self, patterns: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut add = |name: &[u8], row: &Row| {
            if !found
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
            {
                found.push((name.to_vec(), row.shown(self)));
            }
        };
        for pattern in patterns {
            if pattern.iter().any(|b| matches!(b, b'*' | b'?' | b'[')) {
                for (name, row) in matching(pattern) {
                    add(name.as_bytes(), row);
                }
            } else if let Some((row, _)) = find(pattern) {
                add(pattern, row);
            }
        }
        found
    }

    /// CONFIG SET: all pairs or none. Gives the rows whose value changed, for the node to act on.
    pub fn set(
        &mut self,
        pairs: &[(&[u8], &[u8])],
        caller: Caller,
    ) -> Result<Vec<&'static Row>, SetError> {
        let targets = self.targets(pairs, caller)?;
        let mut next = self.clone();
        for (&(row, name), &(_, value)) in targets.iter().zip(pairs) {
            let words: Vec<&[u8]> = match value {
                [] if row.takes_many() => Vec::new(),
                _ if row.takes_many() => value.split(|b| *b == b' ').collect(),
                _ => vec![value],
            };
            let taken = row.take(&mut next, &words, Source::Client);
            taken.map_err(|why| SetError::Failed {
                name: name.to_owned(),
                why,
            })?;
        }
        next.settle();
        let changed = |row: &&'static Row| row.volatile || row.shown(&next) != row.shown(self);
        let changed = targets
            .into_iter()
            .map(|(row, _)| row)
            .filter(changed)
            .collect();
        *self = next;
        Ok(changed)
    }

    /// The rows that the pairs name, if all of them may change now. The first that may not is told, but
    /// that data is loading is told before anything else.
    fn targets(
        &self,
        pairs: &[(&[u8], &[u8])],
        caller: Caller,
    ) -> Result<Vec<(&'static Row, &'static str)>, SetError> {
        let mut targets: Vec<(&'static Row, &'static str)> = Vec::new();
        for (given, _) in pairs {
            let (row, name) = find(given).ok_or_else(|| SetError::Unknown(told(given)))?;
            let may = self.may_change(row, caller)?;
            let twice = targets.iter().any(|(_, known)| *known == name);
            let refused = may.or(twice.then_some(DUPLICATE));
            if let Some(why) = refused {
                return Err(SetError::Failed {
                    name: told(given),
                    why,
                });
            }
            targets.push((row, name));
        }
        Ok(targets)
    }

    /// Why a row may not change now, if so.
    fn may_change(&self, row: &Row, caller: Caller) -> Result<Option<Reject>, SetError> {
        let protected = !self.enable_protected_configs.allows(caller.local);
        match row.change {
            Change::AtStart => Ok(Some(IMMUTABLE)),
            Change::Protected | Change::ProtectedNotWhileLoading if protected => {
                Ok(Some(PROTECTED))
            }
            Change::NotWhileLoading | Change::ProtectedNotWhileLoading if caller.loading => {
                Err(SetError::Loading)
            }
            _ => Ok(None),
        }
    }
}

/// Names that match, aliases included, in the order of the rows.
fn matching(pattern: &[u8]) -> impl Iterator<Item = (&'static str, &'static Row)> {
    let shown = rows().filter(|row| !row.hidden);
    let named = shown.flat_map(|row| {
        std::iter::once(row.name)
            .chain(row.aliases.iter().copied())
            .map(move |name| (name, row))
    });
    named.filter(move |(name, _)| glob_match(pattern, name.as_bytes(), true))
}

/// A client's word for an error line: no byte of it may end the line.
fn told(word: &[u8]) -> String {
    let text = String::from_utf8_lossy(word);
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::choices::{MaxmemoryPolicy, ProtectedAction};
    use super::*;

    fn set(config: &mut Config, pairs: &[(&str, &str)]) -> Result<Vec<&'static str>, String> {
        let pairs: Vec<(&[u8], &[u8])> = pairs
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        let changed = config.set(&pairs, Caller::default());
        changed
            .map(|rows| rows.iter().map(|r| r.name).collect())
            .map_err(|e| e.to_string())
    }

    fn get(config: &Config, patterns: &[&str]) -> Vec<(String, String)> {
        let patterns: Vec<&[u8]> = patterns.iter().map(|p| p.as_bytes()).collect();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        config
            .get(&patterns)
            .into_iter()
            .map(|(n, v)| (text(n), text(v)))
            .collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn get_matches_names_patterns_and_aliases() {
        let config = Config::default();
        assert_eq!(get(&config, &["MaxMemory"]), [pair("MaxMemory", "0")]);
        assert_eq!(
            get(&config, &["hash-max-zip*-e*"]),
            [pair("hash-max-ziplist-entries", "512")]
        );
        assert_eq!(
            get(&config, &["port", "p?rt", "PORT"]),
            [pair("port", "6379")]
        );
        assert_eq!(get(&config, &["none", "none*"]), []);
        assert_eq!(
            get(&config, &["watchdog-period"]),
            [pair("watchdog-period", "0")]
        );
        assert!(
            !get(&config, &["*"])
                .iter()
                .any(|(name, _)| name == "watchdog-period")
        );
        assert!(get(&config, &["*"]).len() > 200);
    }

    #[test]
    fn values_are_spelled_as_in_redis() {
        let config = Config::default();
        let cases = [
            ("save", "3600 1 300 100 60 10000"),
            ("bind", "* -::*"),
            (
                "client-output-buffer-limit",
                "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
            ),
            ("oom-score-adj-values", "0 200 800"),
            ("proto-max-bulk-len", "536870912"),
            ("auto-aof-rewrite-min-size", "67108864"),
            ("unixsocketperm", "0"),
            ("latency-tracking-info-percentiles", "50 99 99.9"),
            ("replicaof", ""),
            ("shutdown-on-sigint", "default"),
        ];
        for (name, want) in cases {
            assert_eq!(get(&config, &[name]), [pair(name, want)]);
        }
    }

    #[test]
    fn set_changes_and_tells_what_changed() {
        let mut config = Config::default();
        let pairs = [
            ("maxmemory", "100mb"),
            ("maxmemory-policy", "ALLKEYS-LRU"),
            ("timeout", "0"),
        ];
        assert_eq!(
            set(&mut config, &pairs).unwrap(),
            ["maxmemory", "maxmemory-policy"]
        );
        assert_eq!(config.maxmemory, 100 << 20);
        assert_eq!(config.maxmemory_policy, MaxmemoryPolicy::AllkeysLru);
        set(&mut config, &[("save", "")]).unwrap();
        assert!(config.save.is_empty());
        set(
            &mut config,
            &[("save", "60 1 30 2"), ("maxmemory-clients", "5%")],
        )
        .unwrap();
        assert_eq!(
            get(&config, &["save", "maxmemory-clients"]),
            [pair("save", "60 1 30 2"), pair("maxmemory-clients", "5%")]
        );
        assert_eq!(
            set(&mut config, &[("tls-cert-file", "")]).unwrap(),
            ["tls-cert-file"]
        );
        set(
            &mut config,
            &[("oom-score-adj", "relative"), ("hz", "9999")],
        )
        .unwrap();
        assert_eq!(
            get(&config, &["oom-score-adj", "hz"]),
            [pair("oom-score-adj", "yes"), pair("hz", "500")]
        );
    }

    #[test]
    fn a_refused_set_changes_nothing() {
        let mut config = Config::default();
        let refused = |config: &mut Config, pairs: &[(&str, &str)]| set(config, pairs).unwrap_err();
        let failed = |name: &str, why: &str| {
            format!("CONFIG SET failed (possibly related to argument '{name}') - {why}")
        };
        let cases: [(&[(&str, &str)], String); 8] = [
            (
                &[("xyz", "1")],
                "Unknown option or number of arguments for CONFIG SET - 'xyz'".to_owned(),
            ),
            (
                &[("timeout", "1"), ("maxmemory", "x")],
                failed("maxmemory", "argument must be a memory value"),
            ),
            (
                &[("timeout", "1"), ("databases", "1")],
                failed("databases", "can't set immutable config"),
            ),
            (
                &[("timeout", "1"), ("TIMEOUT", "2")],
                failed("TIMEOUT", "duplicate parameter"),
            ),
            (
                &[("dbfilename", "x.rdb")],
                failed("dbfilename", "can't set protected config"),
            ),
            (
                &[("maxclients", "-1")],
                failed(
                    "maxclients",
                    "argument must be between 1 and 4294967295 inclusive",
                ),
            ),
            (
                &[("save", "60  1")],
                failed("save", "Invalid save parameters"),
            ),
            (
                &[("x\r\ny", "1")],
                "Unknown option or number of arguments for CONFIG SET - 'x  y'".to_owned(),
            ),
        ];
        for (pairs, want) in cases {
            assert_eq!(refused(&mut config, pairs), want);
        }
        assert_eq!(config, Config::default());
    }

    #[test]
    fn an_alias_and_its_name_are_not_duplicates() {
        let mut config = Config::default();
        let pairs = [
            ("hash-max-ziplist-entries", "1"),
            ("hash-max-listpack-entries", "2"),
        ];
        set(&mut config, &pairs).unwrap();
        assert_eq!(config.hash_max_listpack_entries, 2);
    }

    #[test]
    fn protection_and_loading() {
        let mut config = Config {
            enable_protected_configs: ProtectedAction::Local,
            ..Config::default()
        };
        let pairs: [(&[u8], &[u8]); 1] = [(b"dbfilename", b"x.rdb")];
        assert!(
            config
                .set(
                    &pairs,
                    Caller {
                        local: false,
                        loading: false
                    }
                )
                .is_err()
        );
        assert!(
            config
                .set(
                    &pairs,
                    Caller {
                        local: true,
                        loading: true
                    }
                )
                .is_ok()
        );
        let loading = config.set(
            &[(b"appendonly", b"no")],
            Caller {
                local: true,
                loading: true,
            },
        );
        assert_eq!(loading.unwrap_err(), SetError::Loading);
    }
}
