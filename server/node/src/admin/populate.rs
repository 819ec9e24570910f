//! DEBUG POPULATE: many strings at once, for tests and measurements.
//!
//! Every core counts through all keys and adds those of its slots, some a turn; others are served meanwhile. Each key is a
//! change like any other: logged, told, counted.

use commands::Refused;
use protocol::{Args, Refusal, number};
use storage::{Key, Ttl};

use crate::admin::{Context, Done};
use crate::core::Core;
use crate::gather::Join;
use crate::mail::Ask;

/// Keys that a turn adds at most, those that it looks at, and bytes.
const ADDED_PER_TURN_MAX: usize = 512;
const SEEN_PER_TURN_MAX: usize = 4096;
const BYTES_PER_TURN_MAX: usize = 1 << 20;
/// A key's bytes at most: Redis makes it in a buffer of this size.
const KEY_BYTES_MAX: usize = 127;
/// More keys than this are refused at once, as Redis does with a number that its table cannot hold.
const KEYS_MAX: u64 = 1 << 32;
/// The prefix of who gives none.
const PREFIX: &[u8] = b"key";

/// Keys under way.
#[derive(Clone, Debug)]
pub struct Populate {
    db: u8,
    prefix: Box<[u8]>,
    /// Bytes of each value; 0: as many as its text has.
    size: usize,
    count: u64,
    next: u64,
}

/// How far a core has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// All keys are there.
    Done,
    /// It goes on in another turn.
    More,
    /// The next key's slot is elsewhere.
    Waits,
}

impl Populate {
    /// The next key's bytes.
    fn key(&self) -> Vec<u8> {
        let mut key = self.prefix.to_vec();
        key.extend_from_slice(format!(":{}", self.next).as_bytes());
        key.truncate(KEY_BYTES_MAX);
        key
    }

    /// The next key's value: its text, cut or filled with zeros to the size.
    fn value(&self) -> Vec<u8> {
        let mut value = format!("value:{}", self.next).into_bytes();
        if self.size > 0 {
            value.resize(self.size, 0);
        }
        value
    }
}

/// `DEBUG POPULATE count [prefix] [size]`, the cursor behind POPULATE.
pub(super) fn populate(cx: &mut Context<'_>, mut words: Args<'_>) -> Result<Done, Refused> {
    let positive = |word: &[u8]| {
        let number = number::parse_i64(word).and_then(|number| u64::try_from(number).ok());
        number.ok_or(Refusal::Text("ERR value is out of range, must be positive"))
    };
    let count = positive(words.bytes()?)?;
    if count > KEYS_MAX {
        return Err(Refusal::Text("ERR OOM in dictTryExpand").into());
    }
    let prefix = words.bytes().unwrap_or(PREFIX);
    // (A text of C ends at its first zero.)
    let prefix = prefix.split(|byte| *byte == 0).next().unwrap_or_default();
    let prefix = &prefix[..prefix.len().min(KEY_BYTES_MAX)];
    let size = words.bytes().map_or(Ok(0), positive)?;
    if size > cx.core.config.proto_max_bulk_len {
        return Err(Refusal::StringTooLong.into());
    }
    if cx.inside_exec {
        return Err(Refusal::Text("ERR DEBUG POPULATE is not for MULTI").into());
    }
    let populate = Populate {
        db: cx.conn.db,
        prefix: prefix.into(),
        size: usize::try_from(size).unwrap_or(usize::MAX),
        count,
        next: 0,
    };
    Ok(Done::Ask(Ask::Populate(Box::new(populate)), Join::Ok))
}

impl Core {
    /// Adds the next keys of this core's slots. What is there already stays as it is.
    pub(crate) fn populate(&mut self, populate: &mut Populate) -> Progress {
        let (mut added, mut bytes) = (0, 0);
        for _ in 0..SEEN_PER_TURN_MAX {
            let is_stopping = self
                .node
                .stopping
                .load(std::sync::atomic::Ordering::Relaxed);
            if populate.next >= populate.count || is_stopping {
                return Progress::Done;
            }
            let name = populate.key();
            let key = Key::new(populate.db, &name);
            if self.is_here(key.slot) {
                if self.locks.is_held(key.slot) {
                    return Progress::Waits;
                }
                if self.shard.peek(&key).is_none() {
                    let value = populate.value();
                    self.shard.edit().put_string(&key, &value, Ttl::Clear);
                    (added, bytes) = (added + 1, bytes + value.len());
                }
            }
            populate.next += 1;
            if added >= ADDED_PER_TURN_MAX || bytes >= BYTES_PER_TURN_MAX {
                break;
            }
        }
        Progress::More
    }
}

#[cfg(test)]
mod tests {
    use crate::config::ProtectedAction;
    use crate::control::log::tests::MemoryDisk;
    use crate::testing::Bench;

    fn bench(cores: usize, logs: bool) -> Bench {
        Bench::with(cores, |config| {
            config.enable_debug_command = ProtectedAction::Local;
            config.appendonly = logs;
        })
    }

    #[test]
    fn keys_and_values_are_redis_s() {
        for cores in [1, 2, 3] {
            let mut bench = bench(cores, false);
            let client = bench.connect(0);
            bench.call(client, "SET key:7 mine");
            assert_eq!(bench.call(client, "DEBUG POPULATE 5000"), "+OK\r\n");
            assert_eq!(bench.call(client, "DBSIZE"), ":5000\r\n");
            let long = "p".repeat(200);
            let cut = long[..127].to_owned();
            let cases = [
                ("DEBUG POPULATE 3 p 3", "+OK\r\n"),
                ("DEBUG POPULATE 3 q 12", "+OK\r\n"),
                (&format!("DEBUG POPULATE 3 {long}"), "+OK\r\n"),
                ("DEBUG POPULATE 0", "+OK\r\n"),
                ("GET key:4999", "$10\r\nvalue:4999\r\n"),
                ("GET key:7", "$4\r\nmine\r\n"),
                ("GET p:2", "$3\r\nval\r\n"),
                ("GET q:0", "$12\r\nvalue:0\0\0\0\0\0\r\n"),
                (&format!("GET {cut}"), "$7\r\nvalue:0\r\n"),
                ("DBSIZE", ":5007\r\n"),
                ("SELECT 1", "+OK\r\n"),
                ("DEBUG POPULATE 1 k", "+OK\r\n"),
                ("DBSIZE", ":1\r\n"),
                (
                    "DEBUG POPULATE -1",
                    "-ERR value is out of range, must be positive\r\n",
                ),
                (
                    "DEBUG POPULATE 1 k x",
                    "-ERR value is out of range, must be positive\r\n",
                ),
                (
                    "DEBUG POPULATE 9223372036854775807",
                    "-ERR OOM in dictTryExpand\r\n",
                ),
                (
                    "DEBUG POPULATE 1 k 9223372036854775807",
                    "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n",
                ),
                (
                    "DEBUG POPULATE 1 2 3 4",
                    "-ERR unknown subcommand or wrong number of arguments for 'POPULATE'. Try DEBUG HELP.\r\n",
                ),
            ];
            for (request, expected) in cases {
                assert_eq!(bench.call(client, request), expected, "{request}");
            }
            bench.check();
        }
    }

    #[test]
    fn keys_are_in_the_log() {
        for cores in [1, 2] {
            let disk = MemoryDisk::default();
            let mut digests = Vec::new();
            for writes in [true, false] {
                let mut bench = bench(cores, true);
                bench.log_to(&disk);
                let client = bench.connect(0);
                if writes {
                    assert_eq!(bench.call(client, "DEBUG POPULATE 2000 k 100"), "+OK\r\n");
                    assert_eq!(bench.call(client, "DBSIZE"), ":2000\r\n");
                }
                digests.push(bench.call(client, "DEBUG DIGEST"));
            }
            assert_eq!(digests[0], digests[1]);
        }
    }
}
