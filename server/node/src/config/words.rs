//! Lines into words and back, by the quoting rules of redis.conf.

/// Splits a line into words. `"..."` knows `\n \r \t \b \a \xHH` and `\` before anything else;
/// `'...'` knows only `\'`. A closing quote must end its word. None: quotes that do not close.
pub(crate) fn split_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = skip_blank(line);
    while !rest.is_empty() {
        let (word, after) = next_word(rest)?;
        words.push(word);
        rest = skip_blank(after);
    }
    Some(words)
}

/// What C calls space: what may stand before a word and after a closing quote.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn skip_blank(line: &[u8]) -> &[u8] {
    let start = line
        .iter()
        .position(|&b| !is_blank(b))
        .unwrap_or(line.len());
    line.split_at(start).1
}

/// One word and what follows it. A quote may open in the middle of a word, as in Redis.
fn next_word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] | [b' ' | b'\n' | b'\r' | b'\t' | 0, ..] => return Some((word, after_end(rest))),
            [b'"', tail @ ..] => return double_quoted(word, tail),
            [b'\'', tail @ ..] => return single_quoted(word, tail),
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
}

/// A zero byte ends the line, as it ends a string in C.
fn after_end(rest: &[u8]) -> &[u8] {
    if rest.first() == Some(&0) { &[] } else { rest }
}

fn double_quoted(mut word: Vec<u8>, mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    loop {
        match rest {
            [b'\\', b'x', high, low, tail @ ..] if hex_byte(*high, *low).is_some() => {
                word.extend(hex_byte(*high, *low));
                rest = tail;
            }
            [b'\\', letter, tail @ ..] => {
                word.push(unescaped(*letter));
                rest = tail;
            }
            [b'"', tail @ ..] => return closed(word, tail),
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
            [] => return None,
        }
    }
}

fn single_quoted(mut word: Vec<u8>, mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    loop {
        match rest {
            [b'\\', b'\'', tail @ ..] => {
                word.push(b'\'');
                rest = tail;
            }
            [b'\'', tail @ ..] => return closed(word, tail),
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
            [] => return None,
        }
    }
}

fn closed(word: Vec<u8>, tail: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    match tail.first() {
        Some(&byte) if !is_blank(byte) => None,
        _ => Some((word, tail)),
    }
}

fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn unescaped(letter: u8) -> u8 {
    match letter {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

/// A word in double quotes, such that `split_words` gives it back.
pub(super) fn quoted(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len() + 2);
    out.push(b'"');
    for &byte in word {
        match byte {
            b'\\' | b'"' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0x07 => out.extend(b"\\a"),
            0x08 => out.extend(b"\\b"),
            0x20..=0x7e => out.push(byte),
            _ => out.extend(format!("\\x{byte:02x}").into_bytes()),
        }
    }
    out.push(b'"');
    out
}

/// A word bare where that reads back the same, else in quotes: no word can smuggle in a line.
pub(super) fn bare_or_quoted(word: &[u8]) -> Vec<u8> {
    let bare = |b: &u8| matches!(b, 0x21..=0x7e) && !matches!(b, b'"' | b'\'' | b'\\');
    if !word.is_empty() && word.iter().all(bare) {
        word.to_vec()
    } else {
        quoted(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Option<Vec<String>> {
        let lossy = |word: Vec<u8>| String::from_utf8_lossy(&word).into_owned();
        split_words(line.as_bytes()).map(|words| words.into_iter().map(lossy).collect())
    }

    #[test]
    fn quotes_and_escapes() {
        assert_eq!(split("a  b\tc").unwrap(), ["a", "b", "c"]);
        assert_eq!(split(r#"save """#).unwrap(), ["save", ""]);
        assert_eq!(split(r#"p "a b" 'c d'"#).unwrap(), ["p", "a b", "c d"]);
        assert_eq!(split(r#""\x41\n\q""#).unwrap(), ["A\nq"]);
        assert_eq!(split(r#"'it\'s \n'"#).unwrap(), ["it's \\n"]);
        assert_eq!(split(r#"foo"bar baz""#).unwrap(), ["foobar baz"]);
        assert_eq!(split("").unwrap(), Vec::<String>::new());
        assert_eq!(split(r#"a #b"#).unwrap(), ["a", "#b"]);
    }

    #[test]
    fn open_or_joined_quotes_are_refused() {
        for bad in [r#""a"#, "'a", r#""a"b"#, "'a'b", r#"""x"#, r#""a\"#] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_byte_survives_quoting() {
        let all: Vec<u8> = (0..=255).collect();
        for text in [quoted(&all), bare_or_quoted(&all)] {
            assert!(!text.contains(&b'\n'));
            assert_eq!(split_words(&text), Some(vec![all.clone()]));
        }
        assert_eq!(bare_or_quoted(b"::1"), b"::1");
        assert_eq!(bare_or_quoted(b""), b"\"\"");
    }
}
