//! Relative deadlines made absolute: Redis 6 sends some of its stream so.
//!
//! ```text
//! SET k v EX 10 | SETEX k 10 v | PSETEX k 10000 v    SET k v PXAT at
//! EXPIRE k 10 | PEXPIRE k 10000                      PEXPIREAT k at
//! GETEX k EX 10 | GETEX k PX 10000                   GETEX k PXAT at
//! RESTORE k 10000 payload                            RESTORE k at payload ABSTTL
//! HEXPIRE h 10 FIELDS 1 f | HPEXPIRE …               HPEXPIREAT h at FIELDS 1 f
//! ```
//! What is absolute, or no number, stays as it is: it does here what it did there.

use protocol::{Args, number};

/// The words of a request as they are when its deadline is said as of `now_ms`, the source's clock, unix ms; none when it says no relative one.
pub fn absolute(args: &Args<'_>, now_ms: u64) -> Option<Vec<Vec<u8>>> {
    let name = args.word(0)?;
    // (The names that follow have between three and fourteen letters; this is asked of every request.)
    let mut lower = [0; 16];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let at = |word: usize, unit_ms: i64| deadline(args.word(word)?, unit_ms, now_ms);
    match &*lower {
        b"set" => option(args, 3, now_ms),
        b"getex" => option(args, 2, now_ms),
        b"setex" => set(args, at(2, 1000)?),
        b"psetex" => set(args, at(2, 1)?),
        b"expire" => Some(put(args, b"PEXPIREAT", at(2, 1000)?)),
        b"pexpire" => Some(put(args, b"PEXPIREAT", at(2, 1)?)),
        b"hexpire" => Some(put(args, b"HPEXPIREAT", at(2, 1000)?)),
        b"hpexpire" => Some(put(args, b"HPEXPIREAT", at(2, 1)?)),
        b"restore" | b"restore-asking" => {
            let is_given = (4..args.total()).any(|word| is(args, word, b"ABSTTL"));
            if is_given || args.word(2)? == b"0" {
                return None;
            }
            let mut words = put(args, name, at(2, 1)?);
            words.push(b"ABSTTL".to_vec());
            Some(words)
        }
        _ => None,
    }
}

fn is(args: &Args<'_>, word: usize, name: &[u8]) -> bool {
    args.word(word)
        .is_some_and(|word| word.eq_ignore_ascii_case(name))
}

/// The instant that a number says, as text; none if it says none.
fn deadline(word: &[u8], unit_ms: i64, now_ms: u64) -> Option<Vec<u8>> {
    let ms = number::parse_i64(word)?.checked_mul(unit_ms)?;
    let at_ms = ms.checked_add(i64::try_from(now_ms).ok()?)?;
    Some(at_ms.to_string().into_bytes())
}

fn words(args: &Args<'_>) -> Vec<Vec<u8>> {
    (0..args.total())
        .filter_map(|word| args.word(word))
        .map(<[u8]>::to_vec)
        .collect()
}

/// Under another name, with another third word.
fn put(args: &Args<'_>, name: &[u8], at_ms: Vec<u8>) -> Vec<Vec<u8>> {
    let mut words = words(args);
    for (place, word) in words
        .iter_mut()
        .zip([Some(name.to_vec()), None, Some(at_ms)])
    {
        if let Some(word) = word {
            *place = word;
        }
    }
    words
}

/// SETEX and PSETEX.
fn set(args: &Args<'_>, at_ms: Vec<u8>) -> Option<Vec<Vec<u8>>> {
    let (key, value) = (args.word(1)?.to_vec(), args.word(3)?.to_vec());
    (args.total() == 4).then(|| vec![b"SET".to_vec(), key, value, b"PXAT".to_vec(), at_ms])
}

/// EX and PX among options that begin at a word.
fn option(args: &Args<'_>, from: usize, now_ms: u64) -> Option<Vec<Vec<u8>>> {
    let mut at = from;
    while at < args.total() {
        let unit_ms = match () {
            () if is(args, at, b"EX") => 1000,
            () if is(args, at, b"PX") => 1,
            // Their own word follows them.
            () if is(args, at, b"EXAT") || is(args, at, b"PXAT") => return None,
            () => {
                at += 1;
                continue;
            }
        };
        let at_ms = deadline(args.word(at + 1)?, unit_ms, now_ms)?;
        let mut words = words(args);
        for (place, word) in words.iter_mut().skip(at).zip([b"PXAT".to_vec(), at_ms]) {
            *place = word;
        }
        return Some(words);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Option<String> {
        let owned: Vec<Vec<u8>> = text
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        let (mut buf, mut words) = (Vec::new(), Vec::new());
        protocol::args::flatten(&owned, &mut buf, &mut words);
        let found = absolute(&Args::new(&buf, &words), 1_000_000)?;
        let found: Vec<String> = found
            .into_iter()
            .map(|word| String::from_utf8(word).unwrap())
            .collect();
        Some(found.join(" "))
    }

    #[test]
    fn relative_deadlines_become_absolute() {
        for (says, becomes) in [
            ("SET k v EX 10", "SET k v PXAT 1010000"),
            ("set k v NX px 10 GET", "set k v NX PXAT 1000010 GET"),
            ("SET EX EX KEEPTTL EX 1", "SET EX EX KEEPTTL PXAT 1001000"),
            ("SETEX k 10 v", "SET k v PXAT 1010000"),
            ("PSETEX k 10 v", "SET k v PXAT 1000010"),
            ("EXPIRE k 10", "PEXPIREAT k 1010000"),
            ("PEXPIRE k 10 GT", "PEXPIREAT k 1000010 GT"),
            ("EXPIRE k -1", "PEXPIREAT k 999000"),
            ("GETEX k EX 10", "GETEX k PXAT 1010000"),
            ("GETEX PX PX 7", "GETEX PX PXAT 1000007"),
            (
                "RESTORE k 10 payload REPLACE",
                "RESTORE k 1000010 payload REPLACE ABSTTL",
            ),
            (
                "RESTORE-ASKING k 10 payload",
                "RESTORE-ASKING k 1000010 payload ABSTTL",
            ),
            ("HEXPIRE h 1 FIELDS 1 f", "HPEXPIREAT h 1001000 FIELDS 1 f"),
            (
                "HPEXPIRE h 1 NX FIELDS 1 f",
                "HPEXPIREAT h 1000001 NX FIELDS 1 f",
            ),
        ] {
            assert_eq!(said(says).as_deref(), Some(becomes), "{says}");
        }
    }

    #[test]
    fn what_is_absolute_or_no_number_stays() {
        for says in [
            "SET k v",
            "SET k EX",
            "SET k PX 10",
            "SET k v PXAT 10",
            "SET k v EXAT 10",
            "SET k v EX",
            "SET k v EX ten",
            "SET k v EX 9223372036854775807",
            "SET k v PX 9223372036854775807",
            "SETEX k ten v",
            "SETEX k 10",
            "GETEX k PERSIST",
            "GETEX EX",
            "EXPIRE k",
            "PEXPIREAT k 10",
            "RESTORE k 0 payload",
            "RESTORE k 10 payload ABSTTL",
            "RESTORE k",
            "INCR EX",
            "a-command-with-a-long-name k EX 1",
        ] {
            assert_eq!(said(says), None, "{says}");
        }
    }
}
