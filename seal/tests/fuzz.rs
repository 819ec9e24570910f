//! Random changes of sealed bytes, for a bounded time: never a panic, never a byte that was not sealed, and no more memory than
//! the bytes account for. `FUZZ_SECONDS=600 cargo test -p seal --release --test fuzz` runs each target for ten minutes; a failure
//! prints the seed of its case; `FUZZ_SEED=n` begins there.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "a time limit is the point of it")]

use std::time::{Duration, Instant};

use seal::{
    CHUNK_BYTES, DataKey, HEAD_BYTES, Keys, Kind, Opener, RANDOM_BYTES, SEALED_CHUNK_BYTES, Sealer,
    make, open, open_frame, seal_frame,
};

const KEYS: &[u8] = b"k1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
                      k2 ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff";

/// A small generator of its own (splitmix64).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Calls `case` with one seed after the other until the time is over.
fn fuzz(case: impl Fn(&mut Rng)) {
    let end = Instant::now() + Duration::from_secs(variable("FUZZ_SECONDS").unwrap_or(1));
    let mut seed = variable("FUZZ_SEED").unwrap_or(1);
    while Instant::now() < end {
        let run = std::panic::AssertUnwindSafe(|| case(&mut Rng(seed)));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("FUZZ_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
        seed += 1;
    }
    eprintln!("seeds up to {seed}");
}

fn head(rng: &mut Rng, kind: Kind) -> (Keys, [u8; HEAD_BYTES], DataKey) {
    let keys = Keys::parse(KEYS).unwrap();
    let random: [u8; RANDOM_BYTES] = core::array::from_fn(|_| rng.next() as u8);
    let (head, key) = make(keys.current(), kind, b"binds", &random).unwrap();
    (keys, head, key)
}

/// Flips, cuts, inserts, repeats or forgets some bytes; whether anything has changed.
fn change(rng: &mut Rng, bytes: &mut Vec<u8>) -> bool {
    let before = bytes.clone();
    for _ in 0..=rng.below(3) {
        let at = rng.below(bytes.len());
        let len = rng.below(40).min(bytes.len() - at);
        match rng.below(6) {
            0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
            2 => bytes.truncate(at),
            3 => drop(bytes.splice(at..at, (0..len).map(|_| rng.next() as u8))),
            4 => drop(bytes.drain(at..at + len)),
            _ => {
                let part = bytes[at..at + len].to_vec();
                let to = rng.below(bytes.len());
                drop(bytes.splice(to..to, part));
            }
        }
    }
    *bytes != before
}

/// A head opens as it was made, or not at all.
#[test]
fn heads() {
    fuzz(|rng| {
        let (keys, made, _) = head(rng, Kind::Segment);
        for _ in 0..50 {
            let mut bytes = made.to_vec();
            change(rng, &mut bytes);
            let is_changed = bytes.get(..HEAD_BYTES) != Some(&made[..]);
            let opened = open(Some(&keys), Kind::Segment, b"binds", &bytes);
            assert_eq!(opened.is_err(), is_changed);
            let bytes: Vec<u8> = (0..rng.below(300)).map(|_| rng.next() as u8).collect();
            assert!(open(Some(&keys), Kind::Segment, b"", &bytes).is_err());
        }
    });
}

/// A stream that was changed opens up to the change at most, and says that it does not end there.
#[test]
fn chunks() {
    fuzz(|rng| {
        let (keys, head, key) = head(rng, Kind::Snapshot);
        let lens = [0, 1, 100, CHUNK_BYTES, CHUNK_BYTES + 1, 150_000];
        let plain: Vec<u8> = (0..lens[rng.below(lens.len())])
            .map(|at| at as u8)
            .collect();
        let (mut sealer, mut sealed) = (Sealer::new(key), Vec::new());
        for piece in plain.chunks(1 + rng.below(100_000)) {
            sealer.push(piece, &mut sealed).unwrap();
        }
        sealer.finish(&mut sealed).unwrap();
        let is_changed = change(rng, &mut sealed);
        let key = open(Some(&keys), Kind::Snapshot, b"binds", &head).unwrap();
        let (mut opener, mut opened, mut rest) = (Opener::new(key), Vec::new(), &mut sealed[..]);
        let whole = loop {
            let (chunk, after) = rest.split_at_mut(rest.len().min(SEALED_CHUNK_BYTES));
            match opener.open(chunk, after.is_empty()) {
                Ok(bytes) => opened.extend_from_slice(bytes),
                Err(_) => break false,
            }
            if after.is_empty() {
                break true;
            }
            rest = after;
        };
        assert_eq!(whole, !is_changed);
        assert!(plain.starts_with(&opened));
        assert!(!whole || plain == opened);
    });
}

/// A frame opens with its number, its head and all of its bytes, or not at all.
#[test]
fn frames() {
    fuzz(|rng| {
        let (_, _, key) = head(rng, Kind::Segment);
        let lens = [0, 1, 100, 3000, CHUNK_BYTES, CHUNK_BYTES + 1];
        let plain: Vec<u8> = (0..lens[rng.below(lens.len())])
            .map(|at| at as u8)
            .collect();
        let (own, about) = (rng.next(), rng.next().to_le_bytes());
        let mut sealed = Vec::new();
        seal_frame(&key, own, &about, &plain, &mut sealed).unwrap();
        for _ in 0..10 {
            let (mut sealed, mut about, mut out) = (sealed.clone(), about.to_vec(), Vec::new());
            let is_changed = match rng.below(3) {
                0 => change(rng, &mut about),
                _ => change(rng, &mut sealed),
            };
            about.truncate(48);
            let number = own ^ u64::from(rng.below(20) == 0);
            let opened = open_frame(&key, number, &about, &sealed, &mut out);
            assert!(out.capacity() <= 2 * sealed.len().max(64));
            if opened.is_ok() {
                assert_eq!(out, plain);
            }
            assert_eq!(opened.is_err(), is_changed || number != own);
        }
    });
}
