//! The law of the feed: what a shard does, said to a Redis, leaves the same data there. Skipped aloud without redis-server,
//! unless CI is set. `MERIDIAN_TEST_REDIS` names another one (an older one, say).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail by panic"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use migration::{Feed, Reader};
use protocol::answer::{Answer, AnswerParser};
use storage::log::FrameKind;
use storage::rdb::Style;
use storage::{
    Key, Limits, OwnedValue, Rng, SLOTS, Shard, Side, Slot, StreamId, Trim, TrimTo, Ttl, Value, rdb,
};

const NOW_MS: u64 = 1_700_000_000_000;
/// Long after any run of this test: no deadline passes by itself.
const FUTURE_MS: u64 = 4_000_000_000_000;
const DBS: u8 = 3;
const KEYS: u64 = 6;
const FRAMES: usize = 4000;
const ABOUT_MS: u64 = 5000;

/// A redis-server of our own.
struct Redis {
    child: Child,
    stream: TcpStream,
    parser: AnswerParser,
    input: Vec<u8>,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

impl Redis {
    /// None where there is no redis-server.
    fn start() -> Option<Redis> {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let program = std::env::var_os("MERIDIAN_TEST_REDIS");
        let child = Command::new(program.unwrap_or("redis-server".into()))
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        for _ in 0..400 {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                stream
                    .set_read_timeout(Some(Duration::from_secs(60)))
                    .unwrap();
                let (parser, input) = (AnswerParser::default(), Vec::new());
                return Some(Redis {
                    child,
                    stream,
                    parser,
                    input,
                });
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("redis-server does not answer");
    }

    fn answer(&mut self) -> Answer {
        loop {
            if let Some((answer, used)) = self.parser.parse(&self.input).unwrap() {
                self.input.drain(..used);
                self.parser.reset();
                return answer;
            }
            let mut chunk = [0; 65536];
            let read = self.stream.read(&mut chunk).unwrap();
            assert!(read > 0, "redis-server has closed the connection");
            self.input.extend_from_slice(&chunk[..read]);
        }
    }

    fn call(&mut self, words: &[&[u8]]) -> Answer {
        let mut request = Vec::new();
        protocol::request::encode(words, &mut request);
        self.stream.write_all(&request).unwrap();
        self.answer()
    }

    /// A key's deadline, unix ms; of a Redis before 7.0 to [`ABOUT_MS`].
    fn deadline(&mut self, name: &[u8]) -> Option<u64> {
        match self.call(&[b"PEXPIRETIME", name]) {
            Answer::Int(at) => return u64::try_from(at).ok(),
            Answer::Error(_) => {}
            _ => panic!("PEXPIRETIME"),
        }
        let Answer::Int(left) = self.call(&[b"PTTL", name]) else {
            panic!("PTTL")
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let left = u64::try_from(left).ok()?;
        Some(left + now.as_millis() as u64)
    }

    /// The version that it says it is.
    fn version(&mut self) -> (u64, u64) {
        let Answer::Bulk(info) = self.call(&[b"INFO", b"server"]) else {
            panic!("INFO")
        };
        migration::assess::version(&String::from_utf8_lossy(&info))
    }

    /// Runs requests; none of them may fail, within a transaction neither.
    fn run(&mut self, requests: &[u8]) {
        self.stream.write_all(requests).unwrap();
        self.stream
            .write_all(b"*2\r\n$4\r\nECHO\r\n$3\r\nend\r\n")
            .unwrap();
        let shown = || String::from_utf8_lossy(&requests[..requests.len().min(2000)]).into_owned();
        loop {
            match self.answer() {
                Answer::Bulk(text) if text == b"end" => return,
                Answer::Error(why) => panic!("{}: {}", String::from_utf8_lossy(&why), shown()),
                Answer::Array(parts) => {
                    for part in parts {
                        assert!(!part.is_error(), "{part:?}: {}", shown());
                    }
                }
                _ => {}
            }
        }
    }
}

fn shard() -> Shard {
    let slots = (0..SLOTS as u16).map(Slot);
    Shard::new(usize::from(DBS), slots, Limits::default(), NOW_MS)
}

/// Some bytes, few of them different: elements come twice.
fn text(rng: &mut Rng) -> Vec<u8> {
    match rng.below(12) {
        0 => Vec::new(),
        1 => vec![0; rng.below(3) as usize],
        2 => b"\x000".to_vec(),
        3 => vec![0xff; 1 + rng.below(700) as usize],
        4 => (rng.below(1000) as i64 - 500).to_string().into_bytes(),
        n => vec![b'a' + n as u8 % 4],
    }
}

fn ttl(rng: &mut Rng) -> Ttl {
    match rng.below(4) {
        0 => Ttl::At(FUTURE_MS + rng.below(1000)),
        1 => Ttl::Keep,
        _ => Ttl::Clear,
    }
}

fn side(rng: &mut Rng) -> Side {
    if rng.below(2) == 0 {
        Side::Left
    } else {
        Side::Right
    }
}

fn score(rng: &mut Rng) -> f64 {
    match rng.below(8) {
        0 => f64::INFINITY,
        1 => f64::NEG_INFINITY,
        2 => -0.0,
        3 => f64::MIN_POSITIVE / 4.0,
        4 => f64::MAX,
        5 => 0.1 * rng.below(100) as f64,
        _ => rng.below(20) as f64,
    }
}

fn id(rng: &mut Rng) -> StreamId {
    StreamId::new(rng.below(40), rng.below(3))
}

fn change_list(shard: &mut Shard, key: &Key<'_>, rng: &mut Rng) {
    let (side, value) = (side(rng), text(rng));
    let mut edit = shard.edit();
    let mut list = edit.edit_list_or_new(key).unwrap();
    let at = rng.below(list.len() as u64 + 2) as usize;
    match rng.below(8) {
        0..3 => list.push(side, &value),
        3 => drop(list.drop_end(side)),
        4 => drop(list.set(at, &value)),
        5 => list.insert(at, &value),
        6 => drop(list.remove(at)),
        _ => list.trim(at / 2, at + 4),
    }
}

fn change_stream(shard: &mut Shard, key: &Key<'_>, rng: &mut Rng) {
    let (group, consumer) = (
        [b'g', b'0' + rng.below(2) as u8],
        [b'c', b'0' + rng.below(2) as u8],
    );
    let (id, words) = (id(rng), [text(rng), text(rng), text(rng), text(rng)]);
    let mut edit = shard.edit();
    let mut stream = edit.edit_stream_or_new(key).unwrap();
    match rng.below(12) {
        0 => stream.make(),
        1..5 => {
            let last = stream.last_id();
            let id = StreamId::new(last.ms + rng.below(2), last.seq + 1);
            let pairs = 2 * (1 + rng.below(2) as usize);
            stream.add(id, words[..pairs].iter().map(Vec::as_slice));
        }
        5 => drop(stream.remove(id)),
        6 => {
            let to = TrimTo::Len(rng.below(8));
            stream.trim(&Trim {
                to,
                whole_nodes: false,
                limit: 0,
            });
        }
        7 if !stream.is_vacant() => {
            let last = stream.last_id();
            let (added, deleted) = (stream.entries_added() + 1, stream.max_deleted_id());
            stream.set_ids(StreamId::new(last.ms + 1, 0), added, deleted);
        }
        8 => {
            let last = stream.last_id();
            stream.put_group(&group, last, (rng.below(2) == 0).then_some(3));
        }
        9 => drop(stream.remove_group(&group)),
        10 if stream.group(&group).is_some() => {
            stream.put_consumer(&group, &consumer, 5, None);
            let entry = stream
                .range(StreamId::MIN, StreamId::MAX)
                .map(|entry| entry.id)
                .last();
            if let Some(id) = entry {
                stream.put_pending(&group, &consumer, id, NOW_MS - rng.below(50), rng.below(5));
            }
        }
        11 if stream.group(&group).is_some() => match rng.below(2) {
            0 => drop(stream.remove_consumer(&group, &consumer)),
            _ => drop(stream.remove_pending(&group, id)),
        },
        _ => {}
    }
}

/// One change; keys are of one type by their first letter, unless something else is put there.
fn change(shard: &mut Shard, rng: &mut Rng) {
    let kind = b"sblhmze"[rng.below(7) as usize];
    let name = [kind, b'0' + rng.below(KEYS) as u8];
    let key = Key::new(rng.below(u64::from(DBS)) as u8, &name);
    let (value, ttl) = (text(rng), ttl(rng));
    if rng.below(12) == 0 {
        let mut edit = shard.edit();
        let is_there = edit.exists(&key);
        match rng.below(60) {
            0..20 => drop(edit.remove(&key)),
            20..30 => drop(edit.expire_at(&key, FUTURE_MS + rng.below(100))),
            30..40 => drop(edit.persist(&key)),
            40..55 if is_there => {
                // (To a key of its type.)
                let name = [kind, b'0'];
                let other = Key::new(rng.below(u64::from(DBS)) as u8, &name);
                let copy = edit.clone_value(&key).map(|(value, _)| value);
                edit.put_value(&other, copy.unwrap(), ttl);
            }
            55 => edit.flush_db(key.db),
            56 => edit.flush_all(),
            57 => edit.swap_db(key.db, rng.below(u64::from(DBS)) as u8),
            _ => {}
        }
        return;
    }
    match kind {
        b's' if rng.below(3) == 0 => shard.edit().put_int(&key, rng.below(9) as i64, ttl),
        b's' => shard.edit().put_bytes(&key, &value, ttl),
        b'b' => drop(
            shard
                .edit()
                .write_string(&key, rng.below(9) as usize, &value),
        ),
        b'l' => change_list(shard, &key, rng),
        b'h' => {
            let field = text(rng);
            let mut edit = shard.edit();
            let mut hash = edit.edit_hash_or_new(&key).unwrap();
            match rng.below(3) {
                0 => drop(hash.remove(&field)),
                _ => drop(hash.set(&field, &value)),
            }
        }
        b'm' => {
            let mut edit = shard.edit();
            let mut set = edit.edit_set_or_new(&key).unwrap();
            match rng.below(3) {
                0 => drop(set.remove(&value)),
                _ => drop(set.add(&value)),
            }
        }
        b'z' => {
            let score = score(rng);
            let mut edit = shard.edit();
            let mut zset = edit.edit_zset_or_new(&key).unwrap();
            match rng.below(3) {
                0 => drop(zset.remove(&value)),
                _ => drop(zset.add(&value, score)),
            }
        }
        _ => change_stream(shard, &key, rng),
    }
}

/// A shard of these keys, without the times of consumers: those are each server's own.
fn of(keys: Vec<(u8, Vec<u8>, OwnedValue, Option<u64>)>) -> Shard {
    let mut copy = shard();
    for (db, name, value, deadline) in keys {
        let key = Key::new(db, &name);
        let deadline = deadline.map_or(Ttl::Clear, Ttl::At);
        copy.edit().put_value(&key, value, deadline);
        let mut edit = copy.edit();
        let Ok(Some(mut stream)) = edit.edit_stream(&key) else {
            continue;
        };
        let consumers = stream.groups().flat_map(|group| {
            let consumers = group.consumers();
            consumers.map(|consumer| (group.name().to_vec(), consumer.name().to_vec()))
        });
        let consumers: Vec<_> = consumers.collect();
        for (group, consumer) in consumers {
            stream.put_consumer(&group, &consumer, 0, None);
        }
    }
    copy
}

fn keys_here(shard: &mut Shard) -> Vec<(u8, Vec<u8>, OwnedValue, Option<u64>)> {
    let mut names = Vec::new();
    (0..DBS).for_each(|db| shard.keys(db, |name| names.push((db, name.to_vec()))));
    let mut keys = Vec::new();
    for (db, name) in names {
        let (value, deadline) = shard.edit().clone_value(&Key::new(db, &name)).unwrap();
        keys.push((db, name, value, deadline));
    }
    keys.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    keys
}

fn keys_there(redis: &mut Redis) -> Vec<(u8, Vec<u8>, OwnedValue, Option<u64>)> {
    let mut keys = Vec::new();
    for db in 0..DBS {
        redis.call(&[b"SELECT", db.to_string().as_bytes()]);
        let Answer::Array(names) = redis.call(&[b"KEYS", b"*"]) else {
            panic!("KEYS");
        };
        for name in names {
            let Answer::Bulk(name) = name else {
                panic!("a name")
            };
            let Answer::Bulk(payload) = redis.call(&[b"DUMP", &name]) else {
                panic!("DUMP")
            };
            let value = rdb::restore(&payload, &Limits::default()).unwrap();
            keys.push((db, name.clone(), value, redis.deadline(&name)));
        }
    }
    keys.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    keys
}

#[test]
fn what_a_shard_does_is_done_by_redis_that_is_told() {
    let Some(mut redis) = Redis::start() else {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must have redis-server"
        );
        eprintln!("SKIPPED: there is no redis-server in PATH");
        return;
    };
    let version = redis.version();
    for reader in [
        Reader::of_rdb(10),
        Reader::of_redis((6, 2)),
        Reader::of_redis((6, 0)),
    ] {
        if reader.and(Reader::of_redis(version)) == reader {
            redis.call(&[b"FLUSHALL"]);
            is_told(&mut redis, reader);
        }
    }
}

/// What a reader of this version keeps of a value.
fn kept(value: &OwnedValue, reader: Reader) -> OwnedValue {
    let style = Style {
        version: reader.rdb_version,
        drops_field_deadlines: true,
        ..Style::DUMP
    };
    let payload = rdb::dump_as(Value::from(value), style);
    rdb::restore(&payload, &Limits::default()).unwrap()
}

fn is_told(redis: &mut Redis, reader: Reader) {
    let (mut shard, mut feed) = (shard(), Feed::new(reader));
    shard.effects().set_recording(true);
    let is_early = redis.version() < (7, 0);
    let mut rng = Rng::new(20_26);
    for frame in 0..FRAMES {
        for _ in 0..1 + rng.below(4) {
            change(&mut shard, &mut rng);
        }
        let mut requests = Vec::new();
        let record = shard.effects().take();
        feed.say(FrameKind::Effects, &record, &mut requests)
            .unwrap();
        redis.run(&requests);
        if frame % 50 == 49 {
            let (here, there) = (keys_here(&mut shard), keys_there(redis));
            feed.forget_db();
            let names = |keys: &[(u8, Vec<u8>, OwnedValue, Option<u64>)]| {
                let names = keys.iter().map(|key| (key.0, key.1.clone()));
                names.collect::<Vec<_>>()
            };
            assert_eq!(names(&here), names(&there), "{reader:?}, frame {frame}");
            for (mut here, mut there) in here.into_iter().zip(there) {
                let near = match (here.3, there.3) {
                    (Some(a), Some(b)) => a == b || is_early && a.abs_diff(b) < ABOUT_MS,
                    (a, b) => a == b,
                };
                assert!(
                    near,
                    "{reader:?}, frame {frame}: {:?} {:?}",
                    here.3, there.3
                );
                there.3 = here.3;
                (here.2, there.2) = (kept(&here.2, reader), kept(&there.2, reader));
                let name = String::from_utf8_lossy(&here.1).into_owned();
                let (left, right) = (format!("{:?}", here.2), format!("{:?}", there.2));
                let (here, there) = (of(vec![here]), of(vec![there]));
                let same = here.digest_all() == there.digest_all();
                assert!(same, "{reader:?}, frame {frame}, {name}:\n{left}\n{right}");
            }
        }
    }
}

/// The slots of some keys in a database are emptied, and no others.
#[test]
fn slots_are_flushed_by_number() {
    let Some(mut redis) = Redis::start() else {
        eprintln!("SKIPPED: there is no redis-server in PATH");
        return;
    };
    let names: Vec<Vec<u8>> = (0..3000)
        .map(|n| match n % 3 {
            0 => format!("key:{n}").into_bytes(),
            1 => format!("x{{tag{n}}}y{{z}}").into_bytes(),
            _ => [b"{}\xff\x00", n.to_string().as_bytes()].concat(),
        })
        .collect();
    let (mut feed, mut requests) = (Feed::new(Reader::of_rdb(10)), Vec::new());
    let mut payload = Vec::new();
    for name in &names {
        let effect = storage::Effect::PutInt {
            key: name,
            value: 1,
            ttl: Ttl::Clear,
        };
        storage::encode(1, &effect, &mut payload);
    }
    let (first, last) = (3000, 9000);
    storage::encode(
        1,
        &storage::Effect::FlushSlots { first, last },
        &mut payload,
    );
    feed.say(FrameKind::Effects, &payload, &mut requests)
        .unwrap();
    redis.run(&requests);
    redis.call(&[b"SELECT", b"1"]);
    let mut gone = 0;
    for name in &names {
        let is_flushed = (first..=last).contains(&Slot::of(name).0);
        gone += usize::from(is_flushed);
        let left = redis.call(&[b"EXISTS", name]);
        assert_eq!(left, Answer::Int(i64::from(!is_flushed)), "{name:?}");
    }
    assert!((500..2500).contains(&gone));
}
