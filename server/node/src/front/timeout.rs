//! How long a request waits: where its words say so, and the same request with what is left of it.

use commands::deadline_ms;
use protocol::number::{parse_f64, parse_i64};
use protocol::{Args, Word};

use crate::connection::Request;
use crate::table::Row;

/// What a timeout counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    Seconds,
    Milliseconds,
}

/// The word of a request's timeout. None for a request that does not wait.
fn timeout_of(row: &Row, args: &Args<'_>) -> Option<(usize, Unit)> {
    let last = args.total().checked_sub(1)?;
    match row.spec.name {
        "blpop" | "brpop" | "bzpopmin" | "bzpopmax" | "brpoplpush" | "blmove" => {
            Some((last, Unit::Seconds))
        }
        "blmpop" | "bzmpop" => Some((1, Unit::Seconds)),
        "wait" | "waitaof" => Some((last, Unit::Milliseconds)),
        "xread" | "xreadgroup" => block_of(args).map(|word| (word, Unit::Milliseconds)),
        _ => None,
    }
}

/// The word behind BLOCK among the options of XREAD and XREADGROUP.
fn block_of(args: &Args<'_>) -> Option<usize> {
    let mut at = 1;
    loop {
        let word = args.word(at)?;
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        at += match () {
            () if is(b"BLOCK") => return Some(at + 1),
            () if is(b"GROUP") => 3,
            () if is(b"COUNT") => 2,
            () if is(b"NOACK") => 1,
            () => return None,
        };
    }
}

/// Whether a request may wait.
pub(super) fn may_wait(row: &Row, args: &Args<'_>) -> bool {
    timeout_of(row, args).is_some()
}

/// Until when a request waits that begins now, unix ms; None for ever, or when its words cannot be understood.
pub(super) fn until_ms(row: &Row, args: &Args<'_>, now_ms: u64) -> Option<u64> {
    let (at, unit) = timeout_of(row, args)?;
    let word = args.word(at)?;
    let ms = match unit {
        Unit::Milliseconds => parse_i64(word)?,
        Unit::Seconds => Some((parse_f64(word)? * 1000.0).ceil())
            .filter(|ms| *ms < i64::MAX as f64)
            .map(|ms| ms as i64)?,
    };
    deadline_ms(ms, now_ms).ok().filter(|_| ms > 0)
}

/// The same request, with so many ms (1 or more) to wait.
pub(super) fn with_left(request: Request, left_ms: u64) -> Request {
    let args = Args::new(&request.buf, &request.words);
    let Some((at, unit)) = timeout_of(request.row, &args) else {
        return request;
    };
    let text = match unit {
        Unit::Milliseconds => left_ms.to_string(),
        Unit::Seconds => format!("{}.{:03}", left_ms / 1000, left_ms % 1000),
    };
    let mut owned: Vec<Vec<u8>> = words(&request.buf, &request.words);
    if let Some(word) = owned.get_mut(at) {
        *word = text.into_bytes();
    }
    Request::of_words(request.row, &owned)
}

fn words(buf: &[u8], words: &[Word]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.of(buf).to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::table::Table;

    #[test]
    fn timeouts_are_found_and_replaced() {
        let table: &'static Table = Box::leak(Box::new(Table::build(&Config::default())));
        let cases = [
            ("BLPOP a b 2", Some(2000), "BLPOP a b 1.234"),
            ("BLPOP a 0", None, "BLPOP a 1.234"),
            ("BLPOP a x", None, "BLPOP a 1.234"),
            (
                "BLMOVE a b LEFT RIGHT 0.5",
                Some(500),
                "BLMOVE a b LEFT RIGHT 1.234",
            ),
            ("BLMPOP 3 1 a LEFT", Some(3000), "BLMPOP 1.234 1 a LEFT"),
            ("BZMPOP 3 1 a MIN", Some(3000), "BZMPOP 1.234 1 a MIN"),
            (
                "XREADGROUP GROUP block c COUNT 1 BLOCK 70 STREAMS s >",
                Some(70),
                "XREADGROUP GROUP block c COUNT 1 BLOCK 1234 STREAMS s >",
            ),
            ("XREAD STREAMS BLOCK 0", None, "XREAD STREAMS BLOCK 0"),
            ("WAIT 1 100", Some(100), "WAIT 1 1234"),
            ("LPOP a 7", None, "LPOP a 7"),
        ];
        for (text, until, replaced) in cases {
            let owned: Vec<Vec<u8>> = text.split(' ').map(|word| word.into()).collect();
            let row = table.find(&owned[0]).unwrap();
            let request = Request::of_words(row, &owned);
            let args = Args::new(&request.buf, &request.words);
            let found = until_ms(row, &args, 1_000_000).map(|until_ms| until_ms - 1_000_000);
            assert_eq!(found, until, "{text}");
            let changed = with_left(request, 1234);
            assert_eq!(
                words(&changed.buf, &changed.words).join(&b' '),
                replaced.as_bytes()
            );
        }
    }
}
