//! Patterns of option names, commands and file names: Redis's globs, of `commands`.

use commands::key::glob::{matches, matches_nocase};

/// Whether the whole of `text` matches `pattern`; `nocase` compares ASCII letters without case.
///
/// Unlike the pattern of a key, one of stars alone also matches the empty text.
pub fn glob_match(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    if text.is_empty() {
        return pattern.iter().all(|byte| *byte == b'*');
    }
    if nocase {
        matches_nocase(pattern, text)
    } else {
        matches(pattern, text)
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
