//! Glob patterns as Redis reads them: `*`, `?`, `[a-c]`, `[^a]`, `\` before a literal.
//!
//! Every element but `*` takes exactly one byte, so after a mismatch only the last `*` can help:
//! the worst case is pattern times text, not exponential. Odd cases follow Redis: a class that is not
//! closed ends with the pattern, `]` cannot be the first member of a class, a range may be written
//! backwards, bytes compare as signed, no star matches a text that is empty from the beginning, and nothing matches a pattern
//! with more than a thousand stars that count.

/// Runs of stars that a match may go through: Redis nests no deeper.
const STARS_MAX: usize = 1000;

/// Whether the whole `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    glob(pattern, text, |byte| byte)
}

/// As [`matches`], ASCII case ignored.
pub fn matches_nocase(pattern: &[u8], text: &[u8]) -> bool {
    glob(pattern, text, |byte| byte.to_ascii_lowercase())
}

/// `fold` maps bytes that count as the same to one.
fn glob(mut pattern: &[u8], mut text: &[u8], fold: impl Fn(u8) -> u8) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    // What follows the last star, and the text it was last tried on.
    let mut retry: Option<(&[u8], &[u8])> = None;
    let mut stars = 0;
    while let [byte, text_rest @ ..] = text {
        if pattern.starts_with(b"*") {
            pattern = without_stars(pattern);
            if pattern.is_empty() {
                return true;
            }
            stars += 1;
            if stars > STARS_MAX {
                return false;
            }
            retry = Some((pattern, text));
        } else if let Some(pattern_rest) = element(pattern, *byte, &fold) {
            (pattern, text) = (pattern_rest, text_rest);
        } else {
            let Some((after_star, [_, tried_rest @ ..])) = retry else {
                return false;
            };
            (pattern, text) = (after_star, tried_rest);
            retry = Some((after_star, tried_rest));
        }
    }
    without_stars(pattern).is_empty()
}

fn without_stars(pattern: &[u8]) -> &[u8] {
    let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
    pattern.get(stars..).unwrap_or_default()
}

/// What is left of the pattern behind its first element, if that matches `byte`.
fn element<'p>(pattern: &'p [u8], byte: u8, fold: &impl Fn(u8) -> u8) -> Option<&'p [u8]> {
    let (found, rest) = match pattern {
        [b'?', rest @ ..] => (true, rest),
        [b'[', rest @ ..] => class(rest, byte, fold),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (fold(*literal) == fold(byte), rest),
        [] => return None,
    };
    found.then_some(rest)
}

/// Whether `byte` is in the class that `pattern` begins with (its `[` is taken), and what follows it.
fn class<'p>(pattern: &'p [u8], byte: u8, fold: &impl Fn(u8) -> u8) -> (bool, &'p [u8]) {
    let (negated, mut pattern) = match pattern.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let mut found = false;
    let rest = loop {
        let (hit, rest) = match pattern {
            // Case counts behind a backslash.
            [b'\\', literal, rest @ ..] => (*literal == byte, rest),
            [b']', rest @ ..] => break rest,
            [from, b'-', to, rest @ ..] => (in_range(*from, *to, byte, fold), rest),
            [member, rest @ ..] => (fold(*member) == fold(byte), rest),
            [] => break pattern,
        };
        found |= hit;
        pattern = rest;
    };
    (found != negated, rest)
}

/// Ends are put in order before they are folded, so `[Z-a]` without case is empty.
fn in_range(from: u8, to: u8, byte: u8, fold: &impl Fn(u8) -> u8) -> bool {
    let (from, to) = (from.cast_signed(), to.cast_signed());
    let folded = |byte: i8| fold(byte.cast_unsigned()).cast_signed();
    let (low, high) = (folded(from.min(to)), folded(from.max(to)));
    (low..=high).contains(&folded(byte.cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::{matches, matches_nocase};

    #[test]
    fn only_so_many_stars() {
        let pattern = |stars: usize| b"*?".repeat(stars);
        assert!(matches(&pattern(1000), &[b'a'; 3000]));
        assert!(!matches(&pattern(1001), &[b'a'; 3000]));
    }

    #[test]
    fn patterns_as_redis_reads_them() {
        let table: &[(&str, &str, bool)] = &[
            ("", "", true),
            ("", "a", false),
            ("*", "", false),
            ("**", "", false),
            ("*", "a", true),
            ("a***", "a", true),
            ("a*", "b", false),
            ("*a*b*c", "xxaxbxbc", true),
            ("*a*b*c", "xxaxbxbcd", false),
            ("*aab", "aaaab", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("?", "", false),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[^e]llo", "hbllo", true),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h[a-b]llo", "hcllo", false),
            ("[a-]", "b", false),
            ("[a-]", "]", true),
            ("[]a]", "a]", false),
            ("[^]", "a", true),
            ("[^]a", "xa", true),
            ("[", "[", false),
            ("[^", "x", true),
            ("[ab", "b", true),
            ("[ab*", "bx", false),
            ("[ab*", "*", true),
            (r"[\]]", "]", true),
            (r"[\", r"\", true),
            (r"[\a-c]", "b", false),
            (r"[\a-c]", "-", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            (r"\", r"\", true),
            (r"a\", r"a\", true),
            (r"\\", r"\", true),
            ("H", "h", false),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                *expected,
                "{pattern} on {text}"
            );
        }
    }

    #[test]
    fn case_is_ignored_on_request() {
        assert!(matches_nocase(b"H[A-C]?*l", b"hb.L"));
        assert!(!matches_nocase(br"[\A]", b"a"));
        assert!(!matches_nocase(b"[Z-a]", b"z"));
    }

    #[test]
    fn bytes_compare_as_signed() {
        assert!(matches(b"[a-\x80]", b"\x90"));
        assert!(!matches(b"[a-\x80]", b"b"));
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = b"a*".repeat(900);
        let mut text = vec![b'a'; 5000];
        assert!(matches(&pattern, &text));
        text.push(b'b');
        assert!(!matches(&[&pattern[..], b"c"].concat(), &text));
    }

    /// The definition, by plain recursion.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|n| naive(rest, &text[n..])),
            ([b'?', rest @ ..], [_, text @ ..]) => naive(rest, text),
            ([a, rest @ ..], [b, text @ ..]) if a == b => naive(rest, text),
            _ => false,
        }
    }

    #[test]
    fn one_star_to_come_back_to_is_enough() {
        let mut state = 1u64;
        let mut pick = |from: &[u8], len_max: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let len = (state >> 33) % (len_max + 1);
            (0..len)
                .map(|n| from[((state >> (n * 3)) as usize >> 5) % from.len()])
                .collect::<Vec<u8>>()
        };
        for _ in 0..20_000 {
            let (pattern, text) = (pick(b"ab*?", 8), pick(b"ab", 10));
            if !text.is_empty() {
                assert_eq!(
                    matches(&pattern, &text),
                    naive(&pattern, &text),
                    "{pattern:?} on {text:?}"
                );
            }
        }
    }
}
