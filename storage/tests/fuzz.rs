//! Random bytes against every decoder and whatever acts on what it read, for a bounded time.
//!
//! `cargo test -p storage --release --test fuzz` runs each target for a second;
//! `FUZZ_SECONDS=600 ...` runs each for ten minutes. A failure prints the seed of its case;
//! `FUZZ_SEED=n` begins there. With `--features testing` the shard is walked after each case.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::expect_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "a time limit is the point of it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use storage::log::{FrameHead, FrameKind, Scan, SegmentHead, Step, look_behind, payload_sum};
use storage::rdb::{self, Reader};
use storage::{
    Effect, Limits, Rng, SLOTS, Shard, Side, Slot, StreamChange, StreamId, Ttl, decode, encode,
    read_value, write_value,
};

/// Counts what a thread holds, and the most it held, in blocks of up to `COUNTED_BYTES_MAX`.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
    static COUNTED_BYTES_MAX: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn count(block_bytes: usize, sign: isize) {
    let _ = COUNTED_BYTES_MAX.try_with(|max| {
        if block_bytes <= max.get() {
            HELD.set(HELD.get() + sign * block_bytes as isize);
            MOST.set(MOST.get().max(HELD.get()));
        }
    });
}

/// The most that the thread holds more than now while `act` runs, bytes.
fn most_held(act: impl FnOnce()) -> isize {
    let before = HELD.get();
    MOST.set(before);
    act();
    MOST.get() - before
}

// SAFETY: every call goes to the system's allocator unchanged.
#[allow(unsafe_code, reason = "an allocator that counts")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promise, passed on; as below.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Calls `case` with one seed after the other until the time is over.
fn fuzz(case: impl Fn(&mut Rng)) {
    let end = Instant::now() + Duration::from_secs(variable("FUZZ_SECONDS").unwrap_or(1));
    let mut seed = variable("FUZZ_SEED").unwrap_or(1);
    while Instant::now() < end {
        for _ in 0..4 {
            let run = std::panic::AssertUnwindSafe(|| case(&mut Rng::new(seed)));
            if let Err(panic) = std::panic::catch_unwind(run) {
                eprintln!("FUZZ_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
            seed += 1;
        }
    }
    eprintln!("seeds up to {seed}");
}

fn bytes(rng: &mut Rng) -> Vec<u8> {
    let len = [0, 1, 2, 5, 8, 30, 70, 600][rng.index(8)];
    let first = rng.next_u64() as u8 % 4;
    (0..len).map(|i| first.wrapping_add(i as u8 % 3)).collect()
}

fn number(rng: &mut Rng) -> u64 {
    match rng.index(8) {
        0 => rng.next_u64(),
        1 => u64::MAX,
        2 => (512 << 20) - rng.below(40),
        3 => rng.below(3000),
        _ => rng.below(6),
    }
}

fn value(rng: &mut Rng) -> Vec<u8> {
    let mut out = vec![rng.next_u64() as u8 % 8];
    for _ in 0..rng.index(12) {
        match rng.index(3) {
            0 => out.push(rng.next_u64() as u8),
            1 => out.push(rng.below(5) as u8),
            _ => out.extend(rng.next_u64().to_le_bytes()),
        }
    }
    out
}

/// Records of any kind, with numbers that fit and that do not.
fn record(rng: &mut Rng) -> (u8, Vec<u8>) {
    let (key, a, b, n, m) = (bytes(rng), bytes(rng), bytes(rng), number(rng), number(rng));
    let key = &key[..key.len().min(2)];
    let value_bytes = value(rng);
    let side = if rng.index(2) == 0 {
        Side::Left
    } else {
        Side::Right
    };
    let ttl = [Ttl::Clear, Ttl::Keep, Ttl::At(n), Ttl::At(n & 0xfff)][rng.index(4)];
    let effect = match rng.index(38) {
        0 => Effect::PutString {
            key,
            value: &a,
            ttl,
        },
        1 => Effect::PutInt {
            key,
            value: n.cast_signed(),
            ttl,
        },
        2 => Effect::WriteString {
            key,
            offset: n,
            bytes: &a,
        },
        3 => Effect::PutValue {
            key,
            value: &value_bytes,
            ttl,
        },
        4 => Effect::Remove { key },
        5 => Effect::Expire { key },
        6 => Effect::ExpireAt { key, at_ms: n },
        7 => Effect::Persist { key },
        8 | 9 => Effect::ListPush {
            key,
            side,
            value: &a,
        },
        10 => Effect::ListPop { key, side },
        11 => Effect::ListSet {
            key,
            index: n,
            value: &a,
        },
        12 => Effect::ListInsert {
            key,
            index: n,
            value: &a,
        },
        13 => Effect::ListRemove { key, index: n },
        14 => Effect::ListTrim {
            key,
            start: n,
            end: m,
        },
        15 | 16 => Effect::HashSet {
            key,
            field: &a,
            value: &b,
        },
        17 => Effect::HashRemove { key, field: &a },
        18 => Effect::SetAdd { key, member: &a },
        19 => Effect::SetRemove { key, member: &a },
        20 => Effect::ZsetAdd {
            key,
            member: &a,
            score: f64::from_bits(n),
        },
        21 => Effect::ZsetRemove { key, member: &a },
        24 => Effect::HashExpireAt {
            key,
            field: &a,
            at_ms: n,
        },
        25 => Effect::HashPersist { key, field: &a },
        22 if rng.index(20) == 0 => Effect::FlushAll,
        22 if n == 0 => Effect::FlushSlots {
            first: 0,
            last: m as u16 % SLOTS as u16,
        },
        22 if n == 1 => Effect::SourceAt {
            replid: &[b'7'; 40],
            offset: m,
        },
        22 if n == 2 => Effect::LineAt {
            line: m as u16,
            replid: &[b'7'; 40],
            offset: m,
        },
        22 => Effect::FlushDb,
        23 => Effect::SwapDb { with: n as u8 },
        _ => Effect::Stream {
            key,
            change: stream_change(rng, n, &a, &b),
        },
    };
    let mut out = Vec::new();
    encode(rng.below(4) as u8, &effect, &mut out);
    (out[0], out)
}

/// A change of a stream, its words mostly pairs.
fn stream_change<'a>(rng: &mut Rng, n: u64, a: &'a [u8], b: &'a [u8]) -> StreamChange<'a> {
    const PAIRS: [&[u8]; 4] = [&[1, b'f', 0], &[0, 0, 0, 1, b'x', 0], &[0], &[9, 9]];
    let id = StreamId::new(rng.below(4), number(rng));
    let (group, consumer) = (&a[..a.len().min(1)], &b[..b.len().min(1)]);
    let optional = [None, Some(n)][rng.index(2)];
    match rng.index(14) {
        0 => StreamChange::Make,
        1..=3 => StreamChange::Add {
            id,
            words: PAIRS[rng.index(PAIRS.len())],
        },
        4 => StreamChange::Remove { id },
        5 => StreamChange::RemoveThrough { id },
        6 => StreamChange::SetIds {
            last: id,
            added: n,
            max_deleted: id,
        },
        7 => StreamChange::PutGroup {
            group,
            last: id,
            read: optional,
        },
        8 => StreamChange::RemoveGroup { group },
        9 => StreamChange::PutConsumer {
            group,
            consumer,
            seen_ms: n,
            active_ms: optional,
        },
        10 => StreamChange::RemoveConsumer { group, consumer },
        11 | 12 => StreamChange::PutPending {
            group,
            consumer,
            id,
            delivered_ms: n,
            count: n,
        },
        _ => StreamChange::RemovePending { group, id },
    }
}

/// A log: records, some with bytes replaced, removed or repeated.
fn log(rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..rng.index(60) {
        let (_, mut record) = record(rng);
        if rng.index(12) == 0 {
            let at = rng.index(record.len());
            match rng.index(3) {
                0 => record[at] = rng.next_u64() as u8,
                1 => record.truncate(at),
                _ => record.insert(at, 0xff),
            }
        }
        out.extend(record);
    }
    out
}

/// What is read, acted on or refused: never a panic, and no more memory than the bytes account for, but
/// for strings as long as WriteString says and for the tables of a database.
#[test]
fn effects() {
    COUNTED_BYTES_MAX.set(64 << 10);
    fuzz(|rng| {
        let log = log(rng);
        let slots = (0..SLOTS).map(|slot| Slot(slot as u16));
        let mut shard = Shard::new(3, slots, Limits::default(), 1_000);
        let most = most_held(|| {
            let mut rest = &log[..];
            while let Ok((db, effect, after)) = decode(rest) {
                let _ = shard.apply(db, &effect);
                rest = after;
            }
        });
        // What a byte of a record becomes at most in a table of small elements, and strings that doubled.
        let allowed = (256 << 10) + 300 * log.len() as isize;
        assert!(most < allowed, "{most} bytes for {}", log.len());
        #[cfg(feature = "testing")]
        shard.check();
        shard.set_now(u64::MAX >> 1);
        while shard.expire_due(100) {}
    });
}

#[test]
fn values() {
    fuzz(|rng| {
        for _ in 0..200 {
            let bytes = value(rng);
            let mut read = Err(storage::Corrupt);
            let most = most_held(|| read = read_value(&bytes, &Limits::default()));
            assert!(most < 1000 + 100 * bytes.len() as isize);
            if let Ok(value) = read {
                let mut again = Vec::new();
                write_value(&value, &mut again);
                assert!(read_value(&again, &Limits::default()).is_ok());
            }
        }
    });
}

#[test]
fn records() {
    fuzz(|rng| {
        for _ in 0..200 {
            let log = log(rng);
            let Ok((db, effect, rest)) = decode(&log) else {
                continue;
            };
            let mut again = Vec::new();
            encode(db, &effect, &mut again);
            let (db2, effect2, none) = decode(&again).expect("what was written is read");
            assert_eq!((db2, effect2, none.len()), (db, effect, 0));
            assert!(rest.len() < log.len());
        }
    });
}

/// A value in Redis's serialisation, mostly of a type that is read: lengths, packed blocks, strings of all forms.
fn serialised(rng: &mut Rng) -> (u8, Vec<u8>) {
    let kind = rng.next_u64() as u8 % 28;
    let mut out = Vec::new();
    if rng.index(3) > 0 {
        out.push(rng.below(4) as u8);
    }
    for _ in 0..rng.index(8) {
        match rng.index(6) {
            0 => out.push(rng.next_u64() as u8),
            1 => {
                // A block with a header that is nearly right.
                let body: Vec<u8> = (0..rng.index(30))
                    .map(|_| [1, 0x81, 2, 0xf1, 0, 255, 3, 97][rng.index(8)])
                    .collect();
                let total = body.len() as u32 + 7;
                out.push(total as u8);
                out.extend(total.to_le_bytes());
                out.extend((rng.below(6) as u16).to_le_bytes());
                out.extend(body);
                out.push(0xff);
            }
            2 => {
                // A compressed string that claims much.
                let body = bytes(rng);
                let len = body.len().min(60) as u8;
                out.extend([
                    0xc3,
                    len,
                    0x80,
                    0,
                    rng.below(3) as u8,
                    rng.next_u64() as u8,
                    0,
                ]);
                out.extend(&body[..usize::from(len)]);
            }
            3 => out.extend([0x81, 0, 0, 0, rng.below(2) as u8, 0xff, 0, 0, 0]),
            _ => {
                let text = bytes(rng);
                let len = text.len().min(60);
                out.push(len as u8);
                out.extend(&text[..len]);
            }
        }
    }
    (kind, out)
}

/// What Redis's serialisation says is read or refused: never a panic, and no more memory than the bytes account for. A value
/// that was read is the same after it was written.
#[test]
fn redis_values() {
    fuzz(|rng| {
        for _ in 0..200 {
            let (kind, mut bytes) = serialised(rng);
            let limits = Limits::default();
            let mut read = Err(rdb::Fault::Format);
            let most = most_held(|| read = rdb::read_body(kind, &mut Reader::new(&bytes), &limits));
            // A byte of a compressed string is 88 at most, and those a list with room to grow.
            assert!(
                most < 20_000 + 400 * bytes.len() as isize,
                "{most} for {}",
                bytes.len()
            );
            if let Ok(value) = read {
                let key = storage::Key::new(0, b"k");
                let slots = (0..SLOTS).map(|slot| Slot(slot as u16));
                let mut shard = Shard::new(1, slots, limits.clone(), 1_000);
                shard.edit().put_value(&key, value.clone(), Ttl::Clear);
                let payload = shard.value(&key).map(rdb::dump).expect("a value was put");
                assert_eq!(rdb::restore(&payload, &limits), Ok(value));
            }
            bytes.insert(0, kind);
            let _ = rdb::restore(&bytes, &limits);
            let version = [11, 12, 80][rng.index(3)];
            sign(&mut bytes, version);
            let _ = rdb::restore(&bytes, &limits);
        }
    });
}

/// Puts a right footer behind a value.
fn sign(value: &mut Vec<u8>, version: u16) {
    value.extend(version.to_le_bytes());
    value.extend(rdb::crc64(0, value).to_le_bytes());
}

/// Payloads of which some bytes were replaced, removed or repeated, with a right footer: as above.
#[test]
fn redis_payloads() {
    let slots = (0..SLOTS).map(|slot| Slot(slot as u16));
    let shard = std::cell::RefCell::new(Shard::new(1, slots, Limits::default(), 1_000));
    fuzz(|rng| {
        let (key, limits) = (storage::Key::new(0, b"k"), Limits::default());
        for _ in 0..200 {
            let Ok(value) = read_value(&value(rng), &limits) else {
                continue;
            };
            let mut shard = shard.borrow_mut();
            shard.edit().put_value(&key, value, Ttl::Clear);
            let Some(mut payload) = shard.value(&key).map(rdb::dump) else {
                continue;
            };
            payload.truncate(payload.len() - 10);
            for _ in 0..rng.index(3) {
                let at = rng.index(payload.len());
                match rng.index(3) {
                    0 => payload[at] = rng.next_u64() as u8,
                    1 => drop(payload.remove(at)),
                    _ => payload.insert(at, 0xff),
                }
                if payload.is_empty() {
                    break;
                }
            }
            sign(&mut payload, 12);
            let most = most_held(|| drop(rdb::restore(&payload, &limits)));
            assert!(most < 20_000 + 400 * payload.len() as isize);
        }
    });
}

/// A segment of the log whose bytes have been changed is read up to the change at most, with no memory beyond its own size.
#[test]
fn segments() {
    fuzz(|rng| {
        let head = SegmentHead {
            first_sequence: rng.below(3),
            begun: 0,
            seal_bytes: rng.below(2) as u32 * 128,
        };
        let mut file = head.encode().to_vec();
        file.resize(head.end() as usize, b's');
        for sequence in head.first_sequence..head.first_sequence + rng.below(6) {
            let payload = log(rng);
            let head = FrameHead {
                len: payload.len() as u64,
                sequence,
                synced: sequence.saturating_sub(rng.below(4)),
                time_ms: 0,
                core: 0,
                kind: FrameKind::Effects,
                payload_sum: payload_sum(&payload),
            };
            file.extend(head.encode());
            file.extend(payload);
        }
        let at = rng.index(file.len());
        match rng.index(4) {
            0 => file[at] ^= 1 << rng.index(8),
            1 => file.truncate(at),
            2 => drop(file.splice(at..at, bytes(rng))),
            _ => {}
        }
        let most = most_held(|| {
            let (mut scan, mut fed) = (Scan::new(file.len() as u64), 0);
            loop {
                match scan.step() {
                    Step::More(bytes) => {
                        let end = fed + bytes as usize;
                        scan.feed(file.get(fed..end).expect("no more than the file has"));
                        fed = end;
                    }
                    Step::Frame(_) => {}
                    Step::End => break,
                    Step::Bad(bad) => {
                        look_behind(&file[bad.offset as usize..], bad.sequence);
                        break;
                    }
                }
            }
        });
        assert!(most < 200 + 3 * file.len() as isize, "{most}");
    });
}

/// Whole files of which some bytes were replaced, removed or repeated, in pieces: read or refused, never a panic, and no more
/// memory than the bytes account for.
#[test]
fn redis_files() {
    let style = |rng: &mut Rng| rdb::Style {
        version: 9 + rng.below(3) as u16,
        compress: rng.index(2) == 0,
        drops_field_deadlines: rng.index(2) == 0,
    };
    let slots = (0..SLOTS).map(|slot| Slot(slot as u16));
    let shard = std::cell::RefCell::new(Shard::new(1, slots, Limits::default(), 1_000));
    fuzz(|rng| {
        let (key, limits) = (storage::Key::new(0, b"k"), Limits::default());
        let mut file = Vec::new();
        rdb::write_magic([6, 9, 10, 11, 12, 80][rng.index(6)], &mut file);
        for _ in 0..rng.index(20) {
            let mut shard = shard.borrow_mut();
            let info = rdb::KeyInfo {
                deadline_ms: (rng.index(3) == 0).then(|| number(rng)),
                idle_s: (rng.index(5) == 0).then(|| number(rng)),
                frequency: None,
            };
            match (rng.index(4), read_value(&value(rng), &limits)) {
                (0, _) => {
                    let (kind, bytes) = serialised(rng);
                    file.extend([kind, 1, b'k']);
                    file.extend(bytes);
                }
                (1, _) => {
                    file.push(
                        [255, 254, 253, 252, 251, 250, 249, 247, 246, 245, 244, 7][rng.index(12)],
                    );
                    file.extend(bytes(rng));
                }
                (_, Ok(value)) => {
                    shard.edit().put_value(&key, value, Ttl::Clear);
                    if let Some(value) = shard.value(&key) {
                        rdb::write_key(b"k", info, value, style(rng), &mut file);
                    }
                }
                _ => {}
            }
        }
        rdb::write_end(&mut file);
        file.extend(rdb::crc64(0, &file).to_le_bytes());
        for _ in 0..rng.index(4) {
            let at = rng.index(file.len());
            file[at] = rng.next_u64() as u8;
        }
        let most = most_held(|| {
            let mut splitter = rdb::Splitter::new(4, rng.index(2) == 0);
            for piece in file.chunks(1 + rng.index(100)) {
                splitter.feed(piece);
                loop {
                    match splitter.next_part() {
                        Ok(Some(rdb::Part::Key(raw))) => drop(raw.decode(&limits)),
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(damage) => {
                            assert!(damage.offset <= file.len() as u64);
                            return drop(damage.to_string());
                        }
                    }
                }
            }
            let _ = splitter.finish();
        });
        assert!(most < 20_000 + 400 * file.len() as isize);
    });
}
