//! Random bytes against every decoder, for a bounded time.
//!
//! `cargo test -p protocol --release --test fuzz` runs each target for 2 seconds;
//! `FUZZ_SECONDS=600 ...` runs each for ten minutes. A failure prints the seed of its case;
//! `FUZZ_SEED=n` begins there.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "a time limit is the point of it")]

use std::time::{Duration, Instant};

use protocol::answer::AnswerParser;
use protocol::number::{LongDouble, parse_f64, parse_i64};
use protocol::{Args, Limits, Parsed, Parser, args};

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<'t>(&mut self, from: &[&'t [u8]]) -> &'t [u8] {
        from[self.below(from.len())]
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Calls `case` with one seed after the other until the time is over.
fn fuzz(case: impl Fn(&mut Random)) {
    let end = Instant::now() + Duration::from_secs(variable("FUZZ_SECONDS").unwrap_or(2));
    let mut seed = variable("FUZZ_SEED").unwrap_or(1);
    while Instant::now() < end {
        for _ in 0..64 {
            let run = std::panic::AssertUnwindSafe(|| case(&mut Random(seed)));
            if let Err(panic) = std::panic::catch_unwind(run) {
                eprintln!("FUZZ_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
            seed += 1;
        }
    }
    eprintln!("seeds up to {seed}");
}

const REQUEST: &[&[u8]] = &[
    b"*",
    b"$",
    b"\r\n",
    b"\n",
    b"\r",
    b"1",
    b"2",
    b"3",
    b"10",
    b"17",
    b"100",
    b"-1",
    b"0",
    b"abc",
    b"*1\r\n",
    b"*2\r\n",
    b"*20\r\n",
    b"$1\r\na\r\n",
    b"$0\r\n\r\n",
    b"$10\r\n",
    b"$100\r\n",
    b"\"",
    b"'",
    b"\\",
    b"\\x41",
    b" ",
    b"\t",
    b"\0",
    b"2147483647",
    b"536870912",
    b"9223372036854775807",
];
const ANSWER: &[&[u8]] = &[
    b"+OK\r\n",
    b"-ERR x\r\n",
    b":1\r\n",
    b"$1\r\na\r\n",
    b"$-1\r\n",
    b"_\r\n",
    b"*-1\r\n",
    b"*2\r\n",
    b"%1\r\n",
    b"~2\r\n",
    b">1\r\n",
    b"|1\r\n",
    b",1.5\r\n",
    b"#t\r\n",
    b"=5\r\ntxt:x\r\n",
    b"(1\r\n",
    b"!1\r\nx\r\n",
    b"\r\n",
    b"\n",
    b"*",
    b"$",
    b"9",
    b"4000000000",
    b"9223372036854775807",
    b"x",
];
const NUMBER: &[&[u8]] = &[
    b"-",
    b"+",
    b"0",
    b"1",
    b"9",
    b"0x",
    b"a",
    b"f",
    b".",
    b"e",
    b"p",
    b"E-",
    b"P+",
    b"inf",
    b"nan",
    b"99999999",
    b"00000000",
    b"18446744073709551616",
    b"4950",
    b" ",
];

/// Fragments of the language, with some bytes replaced.
fn text(random: &mut Random, fragments: &[&[u8]], count_max: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..random.below(count_max + 1) {
        text.extend_from_slice(random.pick(fragments));
    }
    if random.below(50) == 0 {
        let long = random.below(70_000);
        text.resize(text.len() + long, b'7');
    }
    for _ in 0..random.below(3) {
        if !text.is_empty() {
            let at = random.below(text.len());
            text[at] = random.next() as u8;
        }
    }
    text
}

/// Where the input is cut: nowhere, or now and then.
fn next_end(random: &mut Random, end: usize, len: usize, whole: bool) -> usize {
    if whole {
        len
    } else {
        (end + 1 + random.below(len / 8 + 1)).min(len)
    }
}

/// What a connection makes of `input`, cut or whole.
fn connection(random: &mut Random, input: &[u8], limits: &Limits, whole: bool) -> Vec<String> {
    let (mut parser, mut words, mut seen) = (Parser::default(), Vec::new(), Vec::new());
    let (mut begin, mut end) = (0, 0);
    loop {
        let bytes = &input[begin..end];
        words.clear();
        let consumed = match parser.parse(bytes, limits, &mut words) {
            Parsed::Request { consumed } => {
                for word in &words {
                    assert!(word.start as usize + word.len as usize <= consumed);
                }
                seen.push(all_words(&Args::new(bytes, &words)));
                consumed
            }
            Parsed::Inline { consumed, owned } => {
                let (mut buf, mut words) = (Vec::new(), Vec::new());
                args::flatten(&owned, &mut buf, &mut words);
                seen.push(all_words(&Args::new(&buf, &words)));
                consumed
            }
            Parsed::Empty { consumed } => consumed,
            Parsed::Incomplete { need } => {
                assert!(need >= 1 && words.is_empty());
                assert!(words.capacity() <= bytes.len().max(64));
                if let Some((start, len)) = parser.pending_bulk() {
                    assert!(start <= bytes.len() && bytes.len() < start + len + 2);
                }
                if end == input.len() {
                    return seen;
                }
                end = next_end(random, end, input.len(), whole);
                continue;
            }
            Parsed::Invalid { error } => {
                seen.push(format!("{error:?}"));
                return seen;
            }
        };
        assert!(consumed >= 1 && consumed <= bytes.len());
        begin += consumed;
    }
}

/// Every word, by every way that `Args` offers.
fn all_words(args: &Args<'_>) -> String {
    let mut seen = format!("{:?}", args.word(0));
    let mut taken = args.clone();
    let rest: Vec<_> = args.rest().collect();
    assert_eq!(rest.len() + 1, args.total());
    for word in rest {
        assert_eq!(taken.clone().int().ok(), parse_i64(word));
        assert_eq!(taken.clone().float().ok(), parse_f64(word));
        assert_eq!(
            taken.clone().keyword("ABC"),
            word.eq_ignore_ascii_case(b"abc")
        );
        assert_eq!(taken.bytes().ok(), Some(word));
        seen += &format!(" {word:?}");
    }
    assert!(taken.end().is_ok() && taken.bytes().is_err());
    seen
}

#[test]
fn parser() {
    fuzz(|random| {
        let input = text(random, REQUEST, 40);
        let limits = if random.below(4) == 0 {
            Limits::UNAUTHENTICATED
        } else {
            Limits::DEFAULT
        };
        let whole = connection(random, &input, &limits, true);
        assert_eq!(connection(random, &input, &limits, false), whole);
    });
}

#[test]
fn inline_arguments() {
    fuzz(|random| {
        let mut input = b"abc ".to_vec();
        input.extend(text(random, &REQUEST[13..], 30));
        input.extend_from_slice(b"\r\n");
        connection(random, &input, &Limits::DEFAULT, true);
    });
}

#[test]
fn answer() {
    fuzz(|random| {
        let input = text(random, ANSWER, 40);
        let whole = AnswerParser::default().parse(&input);
        let (mut parser, mut end) = (AnswerParser::default(), 0);
        let split = loop {
            let parsed = parser.parse(&input[..end]);
            if end == input.len() || !matches!(parsed, Ok(None)) {
                break parsed;
            }
            end = next_end(random, end, input.len(), false);
        };
        assert_eq!(split, whole);
        if let Ok(Some((answer, consumed))) = whole {
            assert!(consumed <= input.len());
            let mut encoded = Vec::new();
            answer.write(&mut encoded);
            assert_eq!(
                AnswerParser::default().parse(&encoded),
                Ok(Some((answer, encoded.len())))
            );
        }
    });
}

#[test]
fn numbers() {
    fuzz(|random| {
        let (a, b) = (text(random, NUMBER, 8), text(random, NUMBER, 8));
        let _ = (parse_i64(&a), parse_f64(&a));
        if let (Some(a), Some(b)) = (LongDouble::parse(&a), LongDouble::parse(&b)) {
            let mut text = Vec::new();
            a.add(b).write_human(&mut text);
            let read_back = LongDouble::parse(&text);
            assert_eq!(
                read_back.is_some(),
                text != b"nan",
                "{}",
                text.escape_ascii()
            );
        }
    });
}
