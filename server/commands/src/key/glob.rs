//! Glob patterns as KEYS, SCAN and the channel patterns use them.

/// Whether `text` matches `pattern`: `*`, `?`, `[a-z]`, `[^a]`, `\x`.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (pattern, text);
    // Where to go on when what follows the last `*` did not match: the star may take one byte more.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match (p, t) {
            ([b'*', rest @ ..], _) => {
                retry = Some((rest, t));
                Some((rest, t))
            }
            ([], []) => return true,
            (_, [byte, after @ ..]) => one(p, *byte).map(|rest| (rest, after)),
            _ => None,
        };
        (p, t) = match (step, retry) {
            (Some(next), _) => next,
            (None, Some((rest, [_, after @ ..]))) => {
                retry = Some((rest, after));
                (rest, after)
            }
            (None, _) => return false,
        };
    }
}

/// Matches one byte; the pattern after what matched it.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => class(rest, byte),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte).then_some(rest),
        [] => None,
    }
}

/// Matches one byte against `a-z]...`; a class that is not closed ends with the pattern.
fn class(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, pattern),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [] => break,
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [b'\\', literal, after @ ..] => {
                found |= *literal == byte;
                after
            }
            [a, b'-', b, after @ ..] => {
                found |= (*a.min(b)..=*a.max(b)).contains(&byte);
                after
            }
            [literal, after @ ..] => {
                found |= *literal == byte;
                after
            }
        };
    }
    (found != negated).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("*a*b*", "xxaxxbxx", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern}"
            );
        }
    }
}
