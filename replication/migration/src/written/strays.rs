//! Writers that are left at an old Redis that nobody bars: they are not stopped, but seen in its counts of commands (INFO commandstats).
//!
//! ```text
//! a command that this node never sends there (INCR, LPUSHX, …)    each call is somebody else's
//! one that it sends, and counts (SET, HSET, …)                    those beyond what it has sent
//! one that its scripts call as well (RPUSH, RESTORE, …)           not counted
//! ```

use std::collections::BTreeMap;

/// Commands that this node sends, by names as INFO has them; none of them is called by its scripts.
const COUNTED: [&str; 15] = [
    "set",
    "append",
    "pexpireat",
    "persist",
    "lpush",
    "hset",
    "hdel",
    "sadd",
    "srem",
    "zadd",
    "zrem",
    "lpop",
    "rpop",
    "ltrim",
    "flushdb",
];
/// Commands that it sends or its scripts call, how often is not known; streams' (x…) are among them.
const UNCOUNTED: [&str; 12] = [
    "setrange",
    "unlink",
    "rpush",
    "lset",
    "linsert",
    "lrem",
    "restore",
    "flushall",
    "swapdb",
    "eval",
    "function|restore",
    "function",
];

/// The name under which a request of this node's is counted; None if it is not.
pub fn counted(name: &[u8]) -> Option<&'static str> {
    let found = COUNTED
        .iter()
        .find(|known| name.eq_ignore_ascii_case(known.as_bytes()));
    found.copied()
}

/// Calls by command, lower case.
pub type Calls = BTreeMap<String, u64>;

/// What INFO commandstats says; names longer than any command's are passed over.
pub fn calls_of(info: &str) -> Calls {
    let lines = info.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let (calls, _) = rest.split_once(',')?;
        Some((name.to_ascii_lowercase(), calls.parse().ok()?))
    });
    lines.collect()
}

/// Writes at the old Redis since `before` that are not this node's, which has sent `sent` since then. `now` must have been read before
/// `sent` was. `writes` tells which commands write.
pub fn foreign(
    before: &Calls,
    now: &Calls,
    sent: &BTreeMap<&'static str, u64>,
    writes: impl Fn(&str) -> bool,
) -> u64 {
    let mut sum = 0;
    for (name, calls) in now {
        let known = before.get(name).copied().unwrap_or(0);
        // (Fewer than before: its counts began anew.)
        let since = if *calls < known {
            *calls
        } else {
            *calls - known
        };
        let base = name.split('|').next().unwrap_or(name);
        sum += match counted(name.as_bytes()) {
            Some(counted) => since.saturating_sub(sent.get(counted).copied().unwrap_or(0)),
            None if UNCOUNTED.contains(&name.as_str()) || name.starts_with('x') => 0,
            None if writes(base) => since,
            None => 0,
        };
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_is_seen() {
        let info = |set, incr, get| {
            format!(
                "# Commandstats\r\ncmdstat_set:calls={set},usec=1\r\ncmdstat_incr:calls={incr},usec=1\r\ncmdstat_get:calls={get},usec=1\r\ncmdstat_eval:calls={set},usec=9\r\ncmdstat_x"
            )
        };
        let writes = |name: &str| matches!(name, "set" | "incr" | "eval");
        let before = calls_of(&info(10, 5, 1));
        assert_eq!(before.len(), 4);
        let sent = BTreeMap::from([("set", 7)]);
        for (set, incr, get, expected) in [
            (17, 5, 100, 0),
            (16, 5, 1, 0),
            (19, 5, 1, 2),
            (17, 8, 1, 3),
            (2, 1, 0, 1),
        ] {
            let now = calls_of(&info(set, incr, get));
            assert_eq!(
                foreign(&before, &now, &sent, writes),
                expected,
                "{set} {incr}"
            );
        }
        assert_eq!(counted(b"SET"), Some("set"));
        assert_eq!(counted(b"RPUSH"), None);
    }
}
