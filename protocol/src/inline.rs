//! Inline requests: one line, split into words by blanks and quotes.
//!
//! People type them into telnet and health checks send them. The rules are Redis's, odd ones
//! included: a blank that ends a word is not each blank that may stand between words, and a quote
//! may begin in the middle of a word but must end it.

use crate::parse::Word;

/// True if the line has a quote, so that its words may not lie in it as they are meant.
pub(crate) fn has_quotes(line: &[u8]) -> bool {
    memchr::memchr2(b'"', b'\'', line).is_some()
}

/// Appends the words of a line without quotes that begins at offset 0.
pub(crate) fn split(line: &[u8], words: &mut Vec<Word>) {
    let mut rest = trim_start(line);
    while !rest.is_empty() {
        let len = rest
            .iter()
            .position(|b| ends_word(*b))
            .unwrap_or(rest.len());
        words.push(Word::new(line.len() - rest.len(), len));
        rest = trim_start(rest.get(len..).unwrap_or_default());
    }
}

/// Splits a line into words as a shell would: `"..."` with escapes, `'...'` with `\'` only; quotes
/// may begin inside of a word but must end it. `None` if they do not.
pub fn unquote(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut owned = Vec::new();
    let mut rest = trim_start(line);
    while !rest.is_empty() {
        let mut word = Vec::new();
        rest = loop {
            rest = match rest {
                [] => break rest,
                [b'"', quoted @ ..] => break double_quoted(quoted, &mut word)?,
                [b'\'', quoted @ ..] => break single_quoted(quoted, &mut word)?,
                [byte, after @ ..] if ends_word(*byte) => break after,
                [byte, after @ ..] => {
                    word.push(*byte);
                    after
                }
            };
        };
        owned.push(word);
        rest = trim_start(rest);
    }
    Some(owned)
}

/// Reads up to the closing `"`; what follows it must be a blank or the line's end.
fn double_quoted<'l>(mut rest: &'l [u8], word: &mut Vec<u8>) -> Option<&'l [u8]> {
    loop {
        rest = match rest {
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex_value(*high) << 4 | hex_value(*low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                after
            }
            [b'"', after @ ..] => {
                return after.first().is_none_or(|b| is_blank(*b)).then_some(after);
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
            [] => return None,
        };
    }
}

/// Reads up to the closing `'`; what follows it must be a blank or the line's end.
fn single_quoted<'l>(mut rest: &'l [u8], word: &mut Vec<u8>) -> Option<&'l [u8]> {
    loop {
        rest = match rest {
            [b'\\', b'\'', after @ ..] => {
                word.push(b'\'');
                after
            }
            [b'\'', after @ ..] => {
                return after.first().is_none_or(|b| is_blank(*b)).then_some(after);
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
            [] => return None,
        };
    }
}

/// The value of a hexadecimal digit.
fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        other => (other | 0x20).wrapping_sub(b'a').wrapping_add(10),
    }
}

/// Without the blanks at its beginning.
fn trim_start(line: &[u8]) -> &[u8] {
    let len = line
        .iter()
        .position(|b| !is_blank(*b))
        .unwrap_or(line.len());
    line.get(len..).unwrap_or_default()
}

/// Blanks that may stand before a word or after a closing quote.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Blanks that end a word: fewer, as Redis has it.
fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::{has_quotes, split, unquote};

    #[test]
    fn words_between_blanks() {
        let table: &[(&str, &[&str])] = &[
            ("PING", &["PING"]),
            ("  SET  k\tv ", &["SET", "k", "v"]),
            ("a\rb", &["a", "b"]),
            // A vertical tab may stand before a word but does not end one.
            ("\x0ba\x0bb", &["a\x0bb"]),
            ("", &[]),
            (" \x0c ", &[]),
        ];
        for (line, expected) in table {
            assert!(!has_quotes(line.as_bytes()));
            let mut words = Vec::new();
            split(line.as_bytes(), &mut words);
            let found: Vec<_> = words.iter().map(|word| word.of(line.as_bytes())).collect();
            assert_eq!(
                found,
                expected.iter().map(|w| w.as_bytes()).collect::<Vec<_>>(),
                "{line:?}"
            );
            assert_eq!(unquote(line.as_bytes()).unwrap(), found, "{line:?}");
        }
    }

    #[test]
    fn words_with_quotes() {
        let table: &[(&str, Option<&[&str]>)] = &[
            (r#"SET "a b" 'c d'"#, Some(&["SET", "a b", "c d"])),
            (
                r#"x"\x41\n\q\"\xg\r\t\b\a" y"#,
                Some(&["xA\nq\"xg\r\t\x08\x07", "y"]),
            ),
            (r"'\'\n'", Some(&["'\\n"])),
            (r#""" ''"#, Some(&["", ""])),
            ("\"a\"\x0bb", Some(&["a", "b"])),
            (r#""a"#, None),
            ("'a", None),
            (r#""a"b"#, None),
            ("'a'b", None),
            (r#""\"#, None),
            (r#""a\""#, None),
        ];
        for (line, expected) in table {
            assert!(has_quotes(line.as_bytes()));
            let owned = |words: &[&str]| words.iter().map(|w| w.as_bytes().to_vec()).collect();
            assert_eq!(unquote(line.as_bytes()), expected.map(owned), "{line}");
        }
    }
}
