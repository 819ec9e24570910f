//! ns per request of the parser and of small replies. Run: `cargo bench -p protocol`.
//!
//! Hypothesis: a GET of two words is parsed in well under 50 ns; each word costs a few ns.
#![allow(missing_docs, reason = "a program")]

use std::hint::black_box;
use std::time::Instant;

use protocol::{Args, Limits, Parsed, Parser, Reply, Resp, request};

const REQUESTS: usize = 200;
const ROUNDS: usize = 20_000;
const REPEATS: usize = 5;

/// The best of some repeats, in ns per operation.
fn measure(name: &str, operations: usize, mut run: impl FnMut()) {
    let best = (0..REPEATS)
        .map(|_| {
            let begin = Instant::now();
            (0..ROUNDS).for_each(|_| run());
            begin.elapsed().as_secs_f64() * 1e9 / (ROUNDS * operations) as f64
        })
        .fold(f64::INFINITY, f64::min);
    println!("{name:<44} {best:7.1} ns");
}

/// Parses a pipeline of the same request, as a connection does.
fn parse(name: &str, request: &[u8]) {
    let input = request.repeat(REQUESTS);
    let (mut parser, mut words) = (Parser::default(), Vec::new());
    let limits = Limits::DEFAULT;
    measure(name, REQUESTS, || {
        let mut rest = black_box(&input[..]);
        while !rest.is_empty() {
            words.clear();
            let Parsed::Request { consumed } = parser.parse(rest, &limits, &mut words) else {
                return;
            };
            black_box(Args::new(rest, &words).word(1));
            rest = &rest[consumed..];
        }
    });
}

fn encoded(words: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    request::encode(words, &mut out);
    out
}

fn reply(name: &str, mut write: impl FnMut(&mut Reply<'_>)) {
    let mut out = Vec::with_capacity(1 << 16);
    measure(name, REQUESTS, || {
        out.clear();
        for _ in 0..REQUESTS {
            write(&mut Reply::new(black_box(&mut out), Resp::V2));
        }
    });
}

fn main() {
    let key = [b'k'; 16];
    parse("parse PING", &encoded(&[b"PING"]));
    parse("parse GET, key of 16", &encoded(&[b"GET", &key]));
    parse(
        "parse SET, key of 16, value of 64",
        &encoded(&[b"SET", &key, &[b'v'; 64]]),
    );
    parse(
        "parse SET, key of 16, value of 1000",
        &encoded(&[b"SET", &key, &[b'v'; 1000]]),
    );
    let mget: Vec<&[u8]> = std::iter::once(&b"MGET"[..])
        .chain((0..20).map(|_| &key[..]))
        .collect();
    parse("parse MGET of 20 keys of 16", &encoded(&mget));
    parse("parse inline GET", b"GET kkkkkkkkkkkkkkkk\r\n");
    reply("reply OK", |r| r.ok());
    reply("reply small integer", |r| r.int(black_box(1)));
    reply("reply integer", |r| r.int(black_box(123_456)));
    reply("reply bulk of 16", |r| r.bulk(black_box(&key)));
    reply("reply bulk of 1000", |r| r.bulk(black_box(&[b'v'; 1000])));
    reply("reply double 0.1", |r| r.double(black_box(0.1)));
}
