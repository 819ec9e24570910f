//! The rows of every option, by subject, and how one is found by name.

mod access_options;
mod cluster_options;
mod disk_options;
mod form_options;
mod memory_options;
mod network_options;
mod observe_options;
mod process_options;
mod replica_options;
mod tls_options;

use super::row::Row;

/// A subject and its rows, in the order of the documentation.
const GROUPS: &[(&str, &[Row])] = &[
    ("Network", network_options::ROWS),
    ("Cores and control plane", network_options::OWN_ROWS),
    ("TLS", tls_options::ROWS),
    ("Access", access_options::ROWS),
    ("Memory and eviction", memory_options::ROWS),
    ("Compact forms of values", form_options::ROWS),
    ("Snapshots and log", disk_options::ROWS),
    ("Replication", replica_options::ROWS),
    ("Cluster", cluster_options::ROWS),
    ("Process", process_options::ROWS),
    ("Observation", observe_options::ROWS),
];

/// Names that files of other releases of Redis hold and 7.2 does not: taken with one value, which does
/// nothing.
pub(super) const PASSED_OVER: &[&str] = &[
    "list-max-ziplist-entries",
    "list-max-ziplist-value",
    "lua-replicate-commands",
    "hide-user-data-from-log",
    "max-new-connections-per-cycle",
    "max-new-tls-connections-per-cycle",
];

/// Subjects with their rows.
pub fn groups() -> &'static [(&'static str, &'static [Row])] {
    GROUPS
}

/// Every row, in the order of the documentation.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    GROUPS.iter().flat_map(|(_, rows)| rows.iter())
}

/// The row of a name or an alias, in any case, with that name as declared.
pub fn find(name: &[u8]) -> Option<(&'static Row, &'static str)> {
    rows().find_map(|row| row.named(name).map(|own| (row, own)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::fields::Config;
    use crate::config::row::{Kind, Source, Standing, Unit};

    /// Words that the row must take, other than its default where its standing allows.
    fn another(row: &Row) -> Vec<u8> {
        if let Standing::Refused(_) = row.standing {
            return row.shown(&Config::default());
        }
        match row.kind {
            Kind::Flag if row.default == "yes" => b"no".into(),
            Kind::Flag => b"yes".into(),
            Kind::Int {
                unit: Unit::Octal, ..
            } => b"700".into(),
            Kind::Int {
                unit: Unit::MemoryOrPercent,
                ..
            } => b"5%".into(),
            Kind::Int { max, .. } => if row.default == max.to_string() {
                (max - 1).to_string()
            } else {
                max.to_string()
            }
            .into_bytes(),
            Kind::OneOf(words) => words
                .iter()
                .rev()
                .find(|w| **w != row.default)
                .unwrap()
                .as_bytes()
                .into(),
            Kind::Text { .. } if row.name == "proc-title-template" => b"{title} {port}".into(),
            Kind::Text { .. } => b"abc".into(),
            Kind::Secret => b"\xff secret".into(),
            Kind::Several(_) => match row.name {
                "bind" | "admin-bind" => "10.0.0.1 ::1",
                "save" => "60 7",
                "client-output-buffer-limit" => "normal 1 2 3 slave 4 5 6 pubsub 7 8 9",
                "oom-score-adj-values" => "-1 2 3",
                "latency-tracking-info-percentiles" => "1.5 100",
                "notify-keyspace-events" => "g$KE",
                "dir" => "/tmp",
                "replicaof" => "10.0.0.2 6400",
                "shutdown-on-sigint" | "shutdown-on-sigterm" => "nosave now force",
                other => panic!("no other value known for {other}"),
            }
            .into(),
        }
    }

    #[test]
    fn names_are_unique_and_every_row_says_something() {
        let mut seen = BTreeSet::new();
        for row in rows() {
            for name in std::iter::once(&row.name).chain(row.aliases) {
                assert!(seen.insert(*name), "{name} twice");
                assert!(
                    !PASSED_OVER.contains(name),
                    "{name} is passed over and declared"
                );
            }
            assert!(row.summary.ends_with('.'), "{}", row.name);
            assert!(row.summary.len() > 15, "{}", row.name);
        }
        assert!(seen.len() > 210, "{}", seen.len());
    }

    #[test]
    fn every_row_takes_its_default_and_shows_it() {
        let mut config = Config::blank();
        for row in rows() {
            row.take_default(&mut config);
            match row.kind {
                Kind::Int {
                    unit: Unit::Memory, ..
                }
                | Kind::Several(_) => {}
                _ => assert_eq!(row.shown(&config), row.default.as_bytes(), "{}", row.name),
            }
        }
        assert_eq!(config, Config::default());
    }

    #[test]
    fn every_row_reads_back_what_it_took() {
        let base = Config::default();
        for row in rows() {
            let text = another(row);
            let words: Vec<&[u8]> = if row.takes_many() {
                text.split(|b| *b == b' ')
                    .filter(|word| !word.is_empty())
                    .collect()
            } else {
                vec![&text]
            };
            let mut config = base.clone();
            row.take(&mut config, &words, Source::Client).unwrap();
            assert_eq!(row.shown(&config), text, "{}", row.name);
            let changed: Vec<&str> = rows()
                .filter(|r| r.shown(&config) != r.shown(&base))
                .map(|r| r.name)
                .collect();
            let want: &[&str] = match row.standing {
                Standing::Refused(_) => &[],
                _ => &[row.name],
            };
            assert_eq!(changed, want, "two rows share a field");
        }
    }

    #[test]
    fn refused_rows_say_why() {
        for row in rows() {
            if let Standing::Refused(why) = row.standing {
                let value: &[&[u8]] = match row.kind {
                    Kind::Flag if row.default == "no" => &[b"yes"],
                    Kind::Flag => &[b"no"],
                    Kind::Int { .. } => &[b"1"],
                    Kind::Text { .. } | Kind::Secret => &[b"abc"],
                    Kind::Several(_) => &[b"10.0.0.1", b"6379"],
                    _ => panic!("{}", row.name),
                };
                let refusal = row
                    .take(&mut Config::default(), value, Source::File)
                    .unwrap_err();
                assert_eq!(refusal.text(), why);
            }
        }
    }
}
