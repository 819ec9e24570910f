//! Master keys, as an operator writes them down.
//!
//! ```text
//! # the first key seals, all of them open
//! 2026-11 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//! 2025-03 60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752
//! ```
//! A line has a key's name and its 32 bytes in hexadecimal digits. Where lines are inconvenient (a variable of the environment)
//! commas do as well. No error and no `Debug` shows a key.

use core::fmt;

use zeroize::Zeroizing;

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;
/// Longest name of a key, bytes.
pub(crate) const ID_BYTES_MAX: usize = 32;

/// The name of a master key: letters, digits, `.`, `_` and `-`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Id {
    bytes: [u8; ID_BYTES_MAX],
}

impl Id {
    /// Of a name; None if it is none.
    pub fn new(name: &[u8]) -> Option<Id> {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        if name.is_empty() || name.len() > ID_BYTES_MAX || !name.iter().all(is_plain) {
            return None;
        }
        let mut bytes = [0; ID_BYTES_MAX];
        bytes[..name.len()].copy_from_slice(name);
        Some(Id { bytes })
    }

    /// As it stands in a head, padded with zeros; None if it is none.
    pub(crate) fn padded(bytes: &[u8; ID_BYTES_MAX]) -> Option<Id> {
        let len = bytes.iter().position(|byte| *byte == 0);
        let (name, rest) = bytes.split_at(len.unwrap_or(ID_BYTES_MAX));
        Id::new(name).filter(|_| rest.iter().all(|byte| *byte == 0))
    }

    pub(crate) fn as_padded(&self) -> &[u8; ID_BYTES_MAX] {
        &self.bytes
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.bytes.split(|byte| *byte == 0).next();
        f.write_str(&String::from_utf8_lossy(name.unwrap_or_default()))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A master key.
#[derive(Clone)]
pub struct Key {
    /// Its name.
    pub id: Id,
    pub(crate) secret: Zeroizing<[u8; KEY_BYTES]>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (hidden)", self.id)
    }
}

/// What is wrong with a list of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// There is none in it.
    Empty,
    /// This line (the first one is 1) is not a name and a key.
    Line(usize),
    /// Two keys have this name.
    Twice(Id),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Empty => f.write_str("there is no key in it"),
            KeyError::Line(line) => write!(
                f,
                "line {line} is not a name (at most {ID_BYTES_MAX} letters, digits, '.', '_', '-') and a key of {} hexadecimal digits",
                2 * KEY_BYTES
            ),
            KeyError::Twice(id) => write!(f, "two keys have the name '{id}'"),
        }
    }
}

impl core::error::Error for KeyError {}

/// Master keys; at least one.
#[derive(Clone, Debug)]
pub struct Keys {
    current: Key,
    old: Vec<Key>,
}

impl Keys {
    /// Reads a list of keys.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Keys, KeyError> {
        let mut keys: Vec<Key> = Vec::new();
        for (at, line) in text.split(|byte| matches!(byte, b'\n' | b',')).enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let key = parse_line(line).ok_or(KeyError::Line(at + 1))?;
            if keys.iter().any(|known| known.id == key.id) {
                return Err(KeyError::Twice(key.id));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeyError::Empty);
        }
        let current = keys.remove(0);
        Ok(Keys { current, old: keys })
    }

    /// The key that seals.
    pub fn current(&self) -> &Key {
        &self.current
    }

    /// The key of a name.
    pub fn find(&self, id: &Id) -> Option<&Key> {
        let mut all = core::iter::once(&self.current).chain(&self.old);
        all.find(|key| key.id == *id)
    }

    /// Whether this very key is among them.
    pub fn holds(&self, key: &Key) -> bool {
        self.find(&key.id)
            .is_some_and(|known| known.secret == key.secret)
    }
}

fn parse_line(line: &[u8]) -> Option<Key> {
    let mut words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let (id, digits) = (Id::new(words.next()?)?, words.next()?);
    if words.next().is_some() || digits.len() != 2 * KEY_BYTES {
        return None;
    }
    let mut secret = Zeroizing::new([0; KEY_BYTES]);
    for (byte, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(Key { id, secret })
}

fn digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    const B: &str = "60303AE22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752";

    fn parse(text: &str) -> Result<Keys, String> {
        Keys::parse(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_key_seals_and_all_are_found() {
        for text in [
            format!("# mine\n\n  new\t{A} \r\nold {B}"),
            format!("new {A},old {B}"),
        ] {
            let keys = parse(&text).unwrap();
            assert_eq!(keys.current().id.to_string(), "new");
            assert_eq!(keys.current().secret[..2], [0x9f, 0x86]);
            let old = keys.find(&Id::new(b"old").unwrap()).unwrap();
            assert_eq!(old.secret[..4], [0x60, 0x30, 0x3a, 0xe2]);
            assert!(keys.find(&Id::new(b"other").unwrap()).is_none());
            assert!(keys.holds(old));
            let other = parse(&format!("old {A}")).unwrap();
            assert!(!keys.holds(other.current()) && !other.holds(keys.current()));
            let shown = format!("{keys:?}");
            assert!(!shown.contains("9f") && !shown.contains("159"), "{shown}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_the_key() {
        let long = "x".repeat(33);
        for (text, expected) in [
            (String::new(), "no key"),
            ("# none\n \n".to_owned(), "no key"),
            (format!("a {A}\nb {}", &B[1..]), "line 2"),
            (format!("a {A}0"), "line 1"),
            (format!("a {A} x"), "line 1"),
            (format!("\n\na/b {A}"), "line 3"),
            (format!("{long} {A}"), "line 1"),
            (A.to_owned(), "line 1"),
            (format!("a {}g", &A[1..]), "line 1"),
            (format!("a {A}\na {B}"), "two keys have the name 'a'"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(
                !error.contains(&A[..6]) && !error.contains(&B[1..6]),
                "{error}"
            );
        }
    }
}
