//! SCAN on several cores: one request goes on to the next core when the one before has shown all that it has.
//!
//! ```text
//! SCAN 0 ──> core 0: 3 keys, "goes on at core 1" ──> core 1: 2 keys, "done" ──> one reply: cursor 0, 5 keys
//!            core 0: COUNT keys, a cursor of its own ─────────────────────────> that reply as it is
//! ```
//! So a small database is shown by one request, as in Redis; of a large one a request asks two cores at the most.

use protocol::{Args, Reply, Resp};

use crate::gather::header;
use crate::table::Row;

/// COUNT of a request that does not say.
const COUNT_DEFAULT: usize = 10;

/// A request under way.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The command.
    pub row: &'static Row,
    /// Its words, the cursor first.
    words: Vec<Vec<u8>>,
    /// About how many keys are wanted.
    count: usize,
    /// The keys so far, as they are in the reply.
    keys: Vec<u8>,
    shown: usize,
}

/// What is to be done after a core has answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Another core is asked from this cursor on, see [`Scan::words`].
    Ask(u64),
    /// This is the reply.
    Reply(Vec<u8>),
}

impl Scan {
    /// A request with these words; what is wrong with them the core tells that is asked first.
    pub fn new(row: &'static Row, args: &Args<'_>) -> Scan {
        let words: Vec<Vec<u8>> = args.clone().rest().map(<[u8]>::to_vec).collect();
        let mut options = words.iter().skip(1);
        let named = options.find(|word| word.eq_ignore_ascii_case(b"COUNT"));
        let count = named.and_then(|_| options.next());
        let count = count.and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
        Scan {
            row,
            words,
            count: count.unwrap_or(COUNT_DEFAULT),
            keys: Vec::new(),
            shown: 0,
        }
    }

    /// The request for the next core.
    pub fn words(&self, cursor: u64) -> Vec<Vec<u8>> {
        let options = self.words.iter().skip(1).cloned();
        let first = [b"SCAN".to_vec(), cursor.to_string().into_bytes()];
        first.into_iter().chain(options).collect()
    }

    /// A core has answered; `begins` tells whether with a cursor the keys of a core begin.
    pub fn on_reply(&mut self, reply: &[u8], resp: Resp, begins: impl Fn(u64) -> bool) -> Step {
        let Some((next, count, keys)) = parse(reply) else {
            return Step::Reply(reply.to_vec());
        };
        let is_enough = self.shown + count >= self.count;
        if next != 0 && begins(next) && !is_enough {
            self.shown += count;
            self.keys.extend_from_slice(keys);
            return Step::Ask(next);
        }
        if self.shown == 0 {
            return Step::Reply(reply.to_vec());
        }
        let mut out = Vec::with_capacity(self.keys.len() + reply.len() + 16);
        let mut reply = Reply::new(&mut out, resp);
        reply.array(2);
        reply.bulk(next.to_string().as_bytes());
        reply.array(self.shown + count);
        reply.raw(&self.keys);
        reply.raw(keys);
        Step::Reply(out)
    }
}

/// The cursor, how many keys, and the keys of a reply; None of an error.
fn parse(reply: &[u8]) -> Option<(u64, usize, &[u8])> {
    let (2, rest) = reply.starts_with(b"*").then(|| header(reply))? else {
        return None;
    };
    let (len, rest) = header(rest);
    let cursor = rest.get(..usize::try_from(len).ok()?)?;
    let cursor = std::str::from_utf8(cursor).ok()?.parse().ok()?;
    let (count, keys) = header(rest.get(len as usize + 2..)?);
    Some((cursor, usize::try_from(count).ok()?, keys))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::testing::Bench;

    #[test]
    fn a_small_database_is_shown_by_one_request_a_large_one_whole() {
        for cores in 1..=4 {
            let mut bench = Bench::new(cores);
            let client = bench.connect(0);
            let mut keys = BTreeSet::new();
            for (many, options) in [(5, ""), (400, " MATCH key:* COUNT 30")] {
                for n in 0..many {
                    let key = format!("key:{n}");
                    bench.call(client, &format!("SET {key} x"));
                    keys.insert(key);
                }
                let (mut cursor, mut seen, mut requests) = ("0".to_owned(), Vec::new(), 0);
                loop {
                    let reply = bench.call(client, &format!("SCAN {cursor}{options}"));
                    let mut lines = reply.split("\r\n").skip(2).step_by(2);
                    cursor = lines.next().expect("a cursor").to_owned();
                    let mut words = reply.split("\r\n").skip(5).step_by(2);
                    seen.extend(
                        words
                            .by_ref()
                            .map(str::to_owned)
                            .filter(|key| !key.is_empty()),
                    );
                    requests += 1;
                    if cursor == "0" {
                        break;
                    }
                }
                assert_eq!(requests == 1, many == 5, "{cores} cores");
                assert_eq!(seen.len(), keys.len());
                assert_eq!(BTreeSet::from_iter(seen), keys);
            }
            let calls = bench.call(client, "INFO commandstats");
            let scans = calls.split("cmdstat_scan:calls=").nth(1).expect("calls");
            let scans: usize = scans
                .split(',')
                .next()
                .and_then(|n| n.parse().ok())
                .expect("a number");
            assert!(
                scans < 400 / 30 + 4,
                "the part of another core is no call: {scans}"
            );
            assert!(
                bench
                    .call(client, "SCAN 0 COUNT x")
                    .starts_with("-ERR value")
            );
        }
    }

    fn page(cursor: u64, keys: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, Resp::V2);
        reply.array(2);
        reply.bulk(cursor.to_string().as_bytes());
        reply.array(keys.len());
        keys.iter().for_each(|key| reply.bulk(key.as_bytes()));
        out
    }

    #[test]
    fn what_several_cores_show_is_one_reply() {
        let begins = |cursor| cursor % 100 == 0;
        let node = Bench::new(1).node();
        let row = node.table().find(b"scan").expect("SCAN is there");
        let mut scan = Scan {
            row,
            words: vec![b"0".to_vec(), b"COUNT".to_vec(), b"4".to_vec()],
            count: 4,
            keys: Vec::new(),
            shown: 0,
        };
        let mut on = |reply: Vec<u8>| scan.on_reply(&reply, Resp::V2, begins);
        assert_eq!(on(page(100, &["a", "b"])), Step::Ask(100));
        assert_eq!(on(page(200, &[])), Step::Ask(200));
        let all = page(300, &["a", "b", "c", "d"]);
        assert_eq!(on(page(300, &["c", "d"])), Step::Reply(all));
        for whole in [page(7, &["x"]), page(0, &[]), b"-ERR no\r\n".to_vec()] {
            let mut scan = Scan {
                keys: Vec::new(),
                shown: 0,
                ..scan.clone()
            };
            let step = scan.on_reply(&whole, Resp::V2, begins);
            assert_eq!(step, Step::Reply(whole));
        }
    }
}
