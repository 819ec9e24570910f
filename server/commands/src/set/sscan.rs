//! SSCAN, and the words after the key that the scans of collections share.

use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Reply, Spec, spec};

use crate::key::glob;
use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "sscan",
        summary: "Walks over the members of a set, some at each call.",
        group: Group::Set,
        since: "2.8.0",
        arity: Arity::at_least(3),
        flags: Flags::READONLY,
        acl: Acl::READ.and(Acl::SET).and(Acl::SLOW),
        keys: spec::ONE_RO_ACCESS,
        range: (1, 1, 1),
        tips: &["nondeterministic_output"],
        deprecated_since: None,
    },
    run: Run::Read(sscan),
    spread: Spread::Keys,
}];

/// Elements that a call shows, about, unless the client says otherwise.
const COUNT_DEFAULT: usize = 10;

fn sscan(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let cursor = cursor(args.bytes()?)?;
    let Some(set) = cx.shard.set(&key)? else {
        write_page(&mut cx.reply, 0, 0, &[]);
        return Ok(());
    };
    let options = Options::parse(&mut args)?;
    let (mut page, mut len) = (Vec::new(), 0);
    let mut inner = Reply::new(&mut page, cx.reply.resp());
    let next = set.scan(cursor, options.count, |member| {
        if options.shows(member) {
            inner.bulk(member);
            len += 1;
        }
    });
    write_page(&mut cx.reply, next, len, &page);
    Ok(())
}

/// Reads a cursor as C's `strtoul` does, which is what Redis asks.
///
/// # Errors
/// `Refusal::InvalidCursor`
pub(crate) fn cursor(word: &[u8]) -> Result<u64, Refusal> {
    let text = word.split(|b| *b == 0).next().unwrap_or_default();
    let (negative, digits) = match text {
        // No digits at all are a zero only if there is nothing at all.
        [] => return Ok(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return Err(Refusal::InvalidCursor);
    }
    let number = digits.iter().try_fold(0u64, |n, byte| {
        let digit = byte.wrapping_sub(b'0');
        let shifted = n.checked_mul(10).filter(|_| digit <= 9)?;
        shifted.checked_add(u64::from(digit))
    });
    let number = number.ok_or(Refusal::InvalidCursor)?;
    Ok(if negative {
        number.wrapping_neg()
    } else {
        number
    })
}

/// `MATCH pattern` and `COUNT count`.
pub(crate) struct Options<'a> {
    /// About how many elements to look at.
    pub(crate) count: usize,
    pattern: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    /// Takes all words left.
    ///
    /// # Errors
    /// `Refusal::Syntax`, or `Refusal::NotInteger` for the count.
    pub(crate) fn parse(args: &mut Args<'a>) -> Result<Self, Refusal> {
        let mut options = Options {
            count: COUNT_DEFAULT,
            pattern: None,
        };
        while args.left() > 0 {
            if args.keyword("COUNT") && args.left() > 0 {
                let count = args.int()?;
                if count < 1 {
                    return Err(Refusal::Syntax);
                }
                options.count = usize::try_from(count).unwrap_or(usize::MAX);
            } else if args.keyword("MATCH") && args.left() > 0 {
                options.pattern = Some(args.bytes()?).filter(|pattern| *pattern != b"*");
            } else {
                return Err(Refusal::Syntax);
            }
        }
        Ok(options)
    }

    /// Whether an element is shown.
    pub(crate) fn shows(&self, element: &[u8]) -> bool {
        self.pattern
            .is_none_or(|pattern| glob::matches(pattern, element))
    }
}

/// Writes the next cursor and `len` strings that are encoded already.
pub(crate) fn write_page(reply: &mut Reply<'_>, next: u64, len: usize, encoded: &[u8]) {
    reply.array(2);
    match i64::try_from(next) {
        Ok(next) => reply.bulk_int(next),
        Err(_) => reply.bulk(next.to_string().as_bytes()),
    }
    reply.array(len);
    reply.raw(encoded);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use protocol::Refusal;

    use super::cursor;
    use crate::testing::Bench;

    #[test]
    fn cursors_are_read_by_strtoul() {
        let table: &[(&[u8], Option<u64>)] = &[
            (b"", Some(0)),
            (b"0", Some(0)),
            (b"+17", Some(17)),
            (b"007", Some(7)),
            (b"-1", Some(u64::MAX)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"1x", None),
            (b" 1", None),
            (b"-", None),
            (b"0x10", None),
            (b"5\0x", Some(5)),
        ];
        for (word, number) in table {
            assert_eq!(
                cursor(word),
                number.ok_or(Refusal::InvalidCursor),
                "{word:?}"
            );
        }
    }

    #[test]
    fn small_sets_are_shown_whole() {
        Bench::new().table(
            "
            SET str x -> +OK
            SADD s 1 2 12 -> :3
            SSCAN s 0 -> *2 $1 0 *3 $1 1 $1 2 $2 12
            SSCAN s 99 COUNT 1 -> *2 $1 0 *3 $1 1 $1 2 $2 12
            SSCAN s 0 MATCH 1* -> *2 $1 0 *2 $1 1 $2 12
            SSCAN s 0 MATCH * COUNT 5 -> *2 $1 0 *3 $1 1 $1 2 $2 12
            SSCAN s x -> -ERR invalid cursor
            SSCAN str x -> -ERR invalid cursor
            SSCAN none 0 WHAT -> *2 $1 0 *0
            SSCAN str 0 WHAT -> -WRONGTYPE Operation against a key holding the wrong kind of value
            SSCAN s 0 WHAT -> -ERR syntax error
            SSCAN s 0 COUNT -> -ERR syntax error
            SSCAN s 0 COUNT 0 -> -ERR syntax error
            SSCAN s 0 COUNT x -> -ERR value is not an integer or out of range
            SSCAN s 0 MATCH -> -ERR syntax error
            ",
        );
    }

    #[test]
    fn a_large_set_is_shown_in_pages() {
        let mut bench = Bench::new();
        let members: String = (0..1000).map(|i| format!(" m{i}")).collect();
        bench.run(&format!("SADD s{members}"));
        let (mut seen, mut next, mut pages) = (BTreeSet::new(), "0".to_owned(), 0);
        loop {
            let reply = bench.run(&format!("SSCAN s {next} COUNT 20"));
            let words: Vec<&str> = reply.split(' ').collect();
            seen.extend(
                words[4..]
                    .iter()
                    .filter(|w| w.starts_with('m'))
                    .map(|w| w.to_string()),
            );
            next = words[2].to_owned();
            pages += 1;
            if next == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), 1000);
        assert!(pages > 10, "{pages}");
    }
}
