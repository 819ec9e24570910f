//! Nanoseconds and bytes per key of a shard, and the longest insert.
//!
//! `taskset -c 1 cargo bench -p storage --bench shard -- speed [millions]` | `bytes` | `stall [millions]` |
//! `BENCH_ONLY=prefetched` shows only the lines with that word. `count` (a few operations, for `valgrind --tool=callgrind --toggle-collect='shard::counted*'`).
//!
//! The bar: a prefetched GET hit under 60 ns and an overwriting SET under 90 ns at 1 M keys; no single
//! insert over 200 us; at most 100 bytes of RSS a key (16 B keys, 32 B values), 112 with a deadline.
#![allow(
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench measures time; nothing links to it"
)]

use std::hint::black_box;

use storage::{Key, Limits, Rng, SLOTS, Shard, Slot, Ttl};

#[global_allocator]
static ALLOCATOR: heap::Small<mimalloc::MiMalloc> = heap::Small(mimalloc::MiMalloc);

const NOW_MS: u64 = 1_700_000_000_000;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let what = args.next().unwrap_or_default();
    let millions = args.next().and_then(|n| n.parse::<usize>().ok());
    match what.as_str() {
        "bytes" => bytes(),
        "stall" => stall(millions.unwrap_or(10) * 1_000_000),
        "count" => count(),
        _ => {
            println!("{:<44}{:>8}{:>8}", "operation", "keys", "ns/op");
            let sizes = millions.map_or(vec![1, 5], |n| vec![n]);
            for n in sizes {
                [32, 64]
                    .into_iter()
                    .for_each(|len| speed(n * 1_000_000, len));
            }
        }
    }
}

/// What this thread has run so far: on a machine with other work, wall time measures that.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn new_shard() -> Shard {
    let slots = (0..SLOTS).map(|slot| Slot(slot as u16));
    Shard::new(1, slots, Limits::default(), NOW_MS)
}

/// Key `i`, 16 bytes.
fn name(i: usize) -> [u8; 16] {
    let mut name = *b"key:000000000000";
    let mut rest = i;
    for digit in name[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    name
}

fn value(len: usize) -> Vec<u8> {
    vec![b'v'; len]
}

fn fill(shard: &mut Shard, n: usize, len: usize, ttl: impl Fn(usize) -> Ttl) {
    let value = value(len);
    for i in 0..n {
        shard
            .edit()
            .put_string(&Key::new(0, &name(i)), &value, ttl(i));
    }
}

/// Runs `f` over `ops` keys (picked in `0..n`) in batches, as a turn does: hash all, three steps of
/// prefetching if asked for, then one after the other.
fn time(
    what: &str,
    shard: &mut Shard,
    n: usize,
    batch: usize,
    prefetch: bool,
    pick: impl Fn(&mut Rng, usize) -> usize,
    mut f: impl FnMut(&mut Shard, &Key<'_>),
) {
    let how = if prefetch {
        format!("batches of {batch}, prefetched")
    } else {
        "plain".into()
    };
    let what = format!("{what}, {how}");
    if std::env::var("BENCH_ONLY").is_ok_and(|only| !what.contains(&only)) {
        return;
    }
    let ops = 2_000_000.max(n / 2);
    let mut rng = Rng::new(3);
    let mut best = f64::MAX;
    for _ in 0..3 {
        let start = cpu_ns();
        let mut done = 0;
        while done < ops {
            let names: Vec<[u8; 16]> = (0..batch).map(|i| name(pick(&mut rng, done + i))).collect();
            let keys: Vec<Key<'_>> = names.iter().map(|name| Key::new(0, name)).collect();
            if prefetch {
                keys.iter().for_each(|key| shard.prefetch_table(key));
                keys.iter().for_each(|key| shard.prefetch_bucket(key));
                keys.iter().for_each(|key| shard.prefetch_item(key));
            }
            keys.iter().for_each(|key| f(shard, key));
            done += batch;
        }
        best = best.min((cpu_ns() - start) as f64 / done as f64);
    }
    println!("{:<44}{:>7}M{best:>8.1}", what, n / 1_000_000);
}

fn speed(n: usize, len: usize) {
    println!("-- values of {len} bytes");
    let mut shard = new_shard();
    let start = cpu_ns();
    fill(&mut shard, n, len, |_| Ttl::Clear);
    let ns = (cpu_ns() - start) as f64 / n as f64;
    println!(
        "{:<44}{:>7}M{ns:>8.1}",
        "insert, in order, plain",
        n / 1_000_000
    );
    let any = move |rng: &mut Rng, _| rng.index(n);
    let (old, long) = (value(len), value(len + 1));
    time(
        "nothing (names, hashes, slots)",
        &mut shard,
        n,
        32,
        false,
        any,
        |_, key| {
            black_box(key);
        },
    );
    for (batch, prefetch) in [(32, false), (16, true), (32, true), (64, true)] {
        time(
            "get, hit",
            &mut shard,
            n,
            batch,
            prefetch,
            any,
            |shard, key| {
                black_box(shard.text(key).is_ok());
            },
        );
        time(
            "get, miss",
            &mut shard,
            n,
            batch,
            prefetch,
            |rng, _| n + rng.index(n),
            |shard, key| {
                black_box(shard.text(key).is_ok());
            },
        );
        time(
            "set, same size",
            &mut shard,
            n,
            batch,
            prefetch,
            any,
            |shard, key| {
                shard.edit().put_string(key, &old, Ttl::Clear);
            },
        );
    }
    for (batch, prefetch) in [(32, false), (32, true)] {
        time(
            "set, sizes of one class",
            &mut shard,
            n,
            batch,
            prefetch,
            any,
            |shard, key| {
                let value = if key.hash & 64 == 0 { &old } else { &long };
                shard.edit().put_string(key, value, Ttl::Clear);
            },
        );
        time(
            "set with a deadline",
            &mut shard,
            n,
            batch,
            prefetch,
            any,
            |shard, key| {
                shard
                    .edit()
                    .put_string(key, &old, Ttl::At(NOW_MS + 3_600_000));
            },
        );
        time(
            "set and remove a new key",
            &mut shard,
            n,
            batch,
            prefetch,
            |rng, _| n + rng.index(n),
            |shard, key| {
                shard.edit().put_string(key, &old, Ttl::Clear);
                shard.edit().remove(key);
            },
        );
    }
}

/// Resident bytes of this process.
fn rss() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

/// Each size in a process of its own, so that none finds memory that another left behind.
fn bytes() {
    if let Ok(n) = std::env::var("BENCH_KEYS") {
        let n: usize = n.parse().unwrap_or(1_000_000);
        let with_deadline = std::env::var("BENCH_DEADLINE").is_ok();
        let before = rss();
        let mut shard = new_shard();
        fill(&mut shard, n, 32, |i| {
            if with_deadline {
                Ttl::At(NOW_MS + 1_000 + (i as u64 * 7_919) % 3_600_000)
            } else {
                Ttl::Clear
            }
        });
        let (held, used) = ((rss() - before) as f64, shard.used_bytes() as f64);
        println!(
            "{:>5} M keys{:>20} {:>10.1} B/key RSS {:>8.1} B/key counted",
            n / 1_000_000,
            if with_deadline {
                ", with a deadline"
            } else {
                ""
            },
            held / n as f64,
            used / n as f64
        );
        return;
    }
    let Ok(this) = std::env::current_exe() else {
        return;
    };
    for with_deadline in [false, true] {
        for n in [1, 3, 5, 7] {
            let mut child = std::process::Command::new(&this);
            child
                .arg("bytes")
                .env("BENCH_KEYS", (n * 1_000_000).to_string());
            if with_deadline {
                child.env("BENCH_DEADLINE", "1");
            }
            let _ = child.status();
        }
    }
}

/// The longest single insert. Each is timed in several runs and the shortest of its times counts: what
/// the shard does at insert n it does in every run, while other processes come at another moment.
fn stall(n: usize) {
    const RUNS: usize = 3;
    for (what, tag, ttl) in [
        ("many slots", false, false),
        ("many slots, with a deadline", false, true),
        ("one hash tag", true, false),
        ("one hash tag, with a deadline", true, true),
    ] {
        if std::env::var("BENCH_ONLY").is_ok_and(|only| only != what) {
            continue;
        }
        let mut times = vec![u32::MAX; n];
        for _ in 0..RUNS {
            let (mut shard, mut key) = (new_shard(), *b"{tag}0123456789abcdef");
            for (i, time) in times.iter_mut().enumerate() {
                key[5..].copy_from_slice(&name(i));
                let key = if tag { &key[..] } else { &key[5..] };
                let at_ms = NOW_MS + 3_600_000 + i as u64;
                let ttl = if ttl { Ttl::At(at_ms) } else { Ttl::Clear };
                let start = cpu_ns();
                shard.edit().put_string(&Key::new(0, key), &[b'v'; 32], ttl);
                *time = (*time).min((cpu_ns() - start) as u32);
            }
        }
        let slow = times.iter().filter(|ns| **ns > 100_000).count();
        let mean = times.iter().map(|ns| u64::from(*ns)).sum::<u64>() / n as u64;
        let mut longest: Vec<_> = times
            .into_iter()
            .enumerate()
            .map(|(i, ns)| (ns, i))
            .collect();
        longest.sort_unstable_by_key(|at| std::cmp::Reverse(*at));
        println!("{n} inserts, {what}: mean {mean} ns, {slow} over 100 us, the longest (ns, at):");
        println!("    {:?}; the 1000th {} ns", &longest[..8], longest[999].0);
    }
}

#[inline(never)]
fn counted_get(shard: &mut Shard, keys: &[Key<'_>]) {
    keys.iter().for_each(|key| {
        black_box(shard.text(key).is_ok());
    });
}

#[inline(never)]
fn counted_set(shard: &mut Shard, keys: &[Key<'_>], value: &[u8]) {
    keys.iter()
        .for_each(|key| shard.edit().put_string(key, value, Ttl::Clear));
}

#[inline(never)]
fn counted_ttl(shard: &mut Shard, keys: &[Key<'_>], value: &[u8]) {
    keys.iter().for_each(|key| {
        shard
            .edit()
            .put_string(key, value, Ttl::At(NOW_MS + 3_600_000))
    });
}

#[inline(never)]
fn counted_hash(names: &[[u8; 16]]) {
    names.iter().for_each(|name| {
        black_box(Key::new(0, name));
    });
}

/// A thousand of each: callgrind's instructions divided by 1000 are those of one.
fn count() {
    let mut shard = new_shard();
    fill(&mut shard, 100_000, 32, |_| Ttl::Clear);
    let names: Vec<[u8; 16]> = (0..1000).map(|i| name(i * 97)).collect();
    let keys: Vec<Key<'_>> = names.iter().map(|name| Key::new(0, name)).collect();
    counted_hash(&names);
    counted_get(&mut shard, &keys);
    counted_set(&mut shard, &keys, &value(32));
    keys.iter().for_each(|key| {
        shard
            .edit()
            .put_string(key, &value(32), Ttl::At(NOW_MS + 9))
    });
    counted_ttl(&mut shard, &keys, &value(32));
}
