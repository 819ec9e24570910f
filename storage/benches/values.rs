//! Nanoseconds per operation of the collection values. The bar is redis-server: on a 2-core EPYC
//! virtual machine 7.0 spends 4.6 us in a ZADD, 3.3 us in a ZRANK and 1.0 us in a ZSCORE among 1 M members. Run: `cargo bench -p storage --bench values`.
#![allow(
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench measures time; nothing links to it"
)]

use std::hint::black_box;
use std::time::Instant;

use storage::{Hash, Limits, List, Rng, Set, Side, Zset};

fn main() {
    let limits = Limits::default();
    println!("{:<44}{:>10}{:>12}", "operation", "ns/op", "B/element");
    for n in [100, 10_000, 1_000_000] {
        zset(n, &limits);
    }
    for n in [10, 100, 1_000_000] {
        hash(n, &limits);
        set(n, &limits);
    }
    for n in [10, 500, 1_000_000] {
        list(n, &limits);
    }
}

/// Runs `f` once per number and prints the mean.
fn time(name: &str, n: usize, ops: usize, mut f: impl FnMut(usize)) {
    let start = Instant::now();
    for i in 0..ops {
        f(i);
    }
    let ns = start.elapsed().as_nanos() as f64 / ops as f64;
    println!("{:<44}{ns:>10.1}", format!("{name} ({n})"));
}

/// The name of element `i`, 15 bytes, made without touching memory that the structures compete for.
fn name(i: usize) -> [u8; 15] {
    let mut name = *b"mem:00000000000";
    let mut rest = i;
    for digit in name[4..].iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    name
}

/// So many operations that a run takes a moment, but at least one pass.
fn ops(n: usize) -> usize {
    n.max(1_000_000)
}

fn zset(n: usize, limits: &Limits) {
    let mut rng = Rng::new(1);
    let mut pick = move || rng.index(n);
    let mut zset = Zset::new();
    time("zset add new, random score", n, n, |i| {
        zset.add(&name(i), (pick() * 7) as f64, limits);
    });
    println!("{:>66}", zset.heap_bytes() / n);
    time("zset add old, random score", n, ops(n), |_| {
        zset.add(&name(pick()), (pick() * 7) as f64, limits);
    });
    time("zset add old, near score", n, ops(n), |_| {
        let member = &name(pick());
        let score = zset.score(member).unwrap_or_default();
        zset.add(member, score + 1.0, limits);
    });
    time("zset score", n, ops(n), |_| {
        black_box(zset.score(&name(pick())));
    });
    time("zset rank", n, ops(n), |_| {
        black_box(zset.rank(&name(pick())));
    });
    time("zset by rank", n, ops(n), |_| {
        black_box(zset.by_rank(pick()));
    });
    let mut all = zset.iter();
    time("zset iterate", n, ops(n), |_| {
        if black_box(all.next()).is_none() {
            all = zset.iter();
        }
    });
    time("zset remove", n, n, |i| {
        zset.remove(&name(i));
    });
    let mut ordered = Zset::new();
    time("zset add new, rising score", n, n, |i| {
        ordered.add(&name(i), i as f64, limits);
    });
    println!("{:>66}", ordered.heap_bytes() / n);
    time("zset of equal scores, add new", n, n, |i| {
        let at = i.wrapping_mul(7_919) % n;
        if i == 0 {
            ordered = Zset::new();
        }
        ordered.add(&name(at), 0.0, limits);
    });
}

fn hash(n: usize, limits: &Limits) {
    let mut rng = Rng::new(1);
    let mut pick = move || rng.index(n);
    let mut hash = Hash::new();
    time("hash set new", n, n, |i| {
        hash.set(&name(i), b"12345678", limits);
    });
    println!("{:>66}", hash.heap_bytes() / n);
    time("hash set old, same length", n, ops(n), |_| {
        hash.set(&name(pick()), b"87654321", limits);
    });
    time("hash set old, other length", n, ops(n), |i| {
        hash.set(&name(pick()), &b"87654321abcdefgh"[..8 + i % 8], limits);
    });
    time("hash get", n, ops(n), |_| {
        black_box(hash.get(&name(pick())));
    });
}

fn set(n: usize, limits: &Limits) {
    let mut rng = Rng::new(1);
    let mut pick = move || rng.index(n);
    let mut set = Set::new();
    time("set add new", n, n, |i| {
        set.add(&name(i), limits);
    });
    println!("{:>66}", set.heap_bytes() / n);
    time("set add old", n, ops(n), |_| {
        set.add(&name(pick()), limits);
    });
    time("set contains", n, ops(n), |_| {
        black_box(set.contains(&name(pick())));
    });
}

fn list(n: usize, limits: &Limits) {
    let mut rng = Rng::new(1);
    let mut pick = move || rng.index(n);
    for side in [Side::Left, Side::Right] {
        let mut list = List::new();
        time(&format!("list push {side:?}"), n, n, |_| {
            list.push(side, b"12345678", limits)
        });
        println!("{:>66}", list.heap_bytes() / n);
        time(&format!("list push and pop {side:?}"), n, ops(n), |_| {
            list.push(side, b"12345678", limits);
            list.drop_end(side);
        });
        time(
            &format!("list push {side:?}, pop other end"),
            n,
            ops(n),
            |_| {
                list.push(side, b"12345678", limits);
                list.drop_end(if side == Side::Left {
                    Side::Right
                } else {
                    Side::Left
                });
            },
        );
        time("list get", n, ops(n), |_| {
            black_box(list.get(pick()));
        });
        let bytes = |range: usize| {
            list.iter_from(range)
                .take(100)
                .map(<[u8]>::len)
                .sum::<usize>()
        };
        time("list range of up to 100", n, ops(n) / 100, |_| {
            black_box(bytes(pick()));
        });
        time("list pop", n, n, |_| {
            list.drop_end(side);
        });
    }
}
