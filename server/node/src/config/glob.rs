//! Redis's glob patterns: `*`, `?`, `[a-z]`, `[^a]`, and `\` before a byte to be taken as it is.

/// Whether the whole of `text` matches `pattern`; `nocase` compares ASCII letters without case.
///
/// Bytes, not characters. Never recursive: on a mismatch only the last `*` seen takes one byte more, so
/// the work is at most pattern times text, whatever a hostile client sends.
pub fn glob_match(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    let (mut rest, mut left) = (pattern, text);
    let mut retry: Option<(&[u8], &[u8])> = None; // after the last star; the text it must still match
    loop {
        if let [b'*', tail @ ..] = rest {
            if tail.is_empty() {
                return true;
            }
            retry = Some((tail, left));
            rest = tail;
            continue;
        }
        let step = match left {
            [] if rest.is_empty() => return true,
            [] => return false,
            [byte, after @ ..] => one(rest, *byte, nocase).map(|tail| (tail, after)),
        };
        match (step, retry) {
            (Some((tail, after)), _) => (rest, left) = (tail, after),
            (None, Some((tail, [_, shorter @ ..]))) => {
                retry = Some((tail, shorter));
                (rest, left) = (tail, shorter);
            }
            (None, _) => return false,
        }
    }
}

/// Matches one byte against the pattern's next element; gives the pattern after it.
fn one(pattern: &[u8], byte: u8, nocase: bool) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', tail @ ..] => Some(tail),
        [b'[', tail @ ..] => class(tail, byte, nocase),
        [b'\\', literal, tail @ ..] | [literal, tail @ ..] => {
            (fold(*literal, nocase) == fold(byte, nocase)).then_some(tail)
        }
    }
}

/// A class after its `[`. A missing `]` counts as one at the end; a backslash makes the next byte plain
/// and, as in Redis, compares it with case.
fn class(pattern: &[u8], byte: u8, nocase: bool) -> Option<&[u8]> {
    let (negated, mut rest) = match pattern {
        [b'^', tail @ ..] => (true, tail),
        _ => (false, pattern),
    };
    let mut hit = false;
    loop {
        rest = match rest {
            [] => break,
            [b'\\', literal, tail @ ..] => {
                hit |= *literal == byte;
                tail
            }
            [b']', tail @ ..] => {
                rest = tail;
                break;
            }
            [from, b'-', to, tail @ ..] => {
                hit |= in_range(*from, *to, byte, nocase);
                tail
            }
            [literal, tail @ ..] => {
                hit |= fold(*literal, nocase) == fold(byte, nocase);
                tail
            }
        };
    }
    (hit != negated).then_some(rest)
}

/// A range may be written backwards.
fn in_range(from: u8, to: u8, byte: u8, nocase: bool) -> bool {
    let (low, high) = (from.min(to), from.max(to));
    (fold(low, nocase)..=fold(high, nocase)).contains(&fold(byte, nocase))
}

fn fold(byte: u8, nocase: bool) -> u8 {
    if nocase {
        byte.to_ascii_lowercase()
    } else {
        byte
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        let yes = [
            ("*", ""),
            ("*", "abc"),
            ("a*c", "abc"),
            ("a*c", "ac"),
            ("a?c", "abc"),
            ("**b", "aab"),
            ("h[ae]llo", "hello"),
            ("h[^e]llo", "hallo"),
            ("h[a-c]llo", "hbllo"),
            ("h[c-a]llo", "hbllo"),
            ("a\\*b", "a*b"),
            ("[\\]]", "]"),
            ("[abc", "b"),
            ("*max*len*", "slowlog-max-len"),
            ("", ""),
            ("a\\", "a\\"),
            ("abc***", "abc"),
        ];
        for (pattern, text) in yes {
            assert!(
                glob_match(pattern.as_bytes(), text.as_bytes(), false),
                "{pattern} {text}"
            );
        }
        let no = [
            ("", "a"),
            ("a", ""),
            ("a?", "a"),
            ("h[^e]llo", "hello"),
            ("a*d", "abc"),
            ("a\\*b", "axb"),
            ("[", "a"),
            ("[]", "a"),
            ("ABC", "abc"),
            ("*b", "abc"),
        ];
        for (pattern, text) in no {
            assert!(
                !glob_match(pattern.as_bytes(), text.as_bytes(), false),
                "{pattern} {text}"
            );
        }
        assert!(glob_match(b"MAX*", b"maxmemory", true));
        assert!(glob_match(b"[A-C]x", b"bX", true));
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
        let pattern = b"a*".repeat(2000);
        let text = vec![b'a'; 4000];
        assert!(!glob_match(&[&pattern[..], b"b"].concat(), &text, false));
    }
}
