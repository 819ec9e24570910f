//! What a reader sees of a value.

use crate::value::{Hash, List, OwnedValue, Set, Stream, Zset};

/// A string value; integers are kept as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// A canonical 64-bit integer ("int" encoding).
    Int(i64),
    /// Any other bytes.
    Bytes(&'a [u8]),
}

impl Text<'_> {
    /// Length of the text, bytes.
    pub fn len(&self) -> usize {
        match self {
            Text::Int(n) => itoa::Buffer::new().format(*n).len(),
            Text::Bytes(bytes) => bytes.len(),
        }
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        matches!(self, Text::Bytes(bytes) if bytes.is_empty())
    }

    /// Shows the text as bytes.
    pub fn with<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Text::Int(n) => f(itoa::Buffer::new().format(*n).as_bytes()),
            Text::Bytes(bytes) => f(bytes),
        }
    }

    /// Appends the text to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.with(|bytes| out.extend_from_slice(bytes));
    }

    /// The text as owned bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        self.with(<[u8]>::to_vec)
    }
}

/// A value of any type, borrowed.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// A string.
    String(Text<'a>),
    /// A list.
    List(&'a List),
    /// A hash.
    Hash(&'a Hash),
    /// A set.
    Set(&'a Set),
    /// A sorted set.
    Zset(&'a Zset),
    /// A stream.
    Stream(&'a Stream),
}

impl Value<'_> {
    /// The name that TYPE answers.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::String(_) => "string",
            Value::List(_) => "list",
            Value::Hash(_) => "hash",
            Value::Set(_) => "set",
            Value::Zset(_) => "zset",
            Value::Stream(_) => "stream",
        }
    }
}

impl<'a> From<&'a OwnedValue> for Value<'a> {
    fn from(value: &'a OwnedValue) -> Self {
        match value {
            OwnedValue::Int(n) => Value::String(Text::Int(*n)),
            OwnedValue::String(bytes) | OwnedValue::Raw(bytes) => Value::String(Text::Bytes(bytes)),
            OwnedValue::List(list) => Value::List(list),
            OwnedValue::Hash(hash) => Value::Hash(hash),
            OwnedValue::Set(set) => Value::Set(set),
            OwnedValue::Zset(zset) => Value::Zset(zset),
            OwnedValue::Stream(stream) => Value::Stream(stream),
        }
    }
}

/// The key holds a value of another type than the operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongType;

/// The integer that `bytes` spell canonically (what Redis keeps as "int"): optional minus, no
/// leading zero, no plus, no blank, within 64 bits.
#[inline]
pub(crate) fn canonical_int(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut n = 0u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        n = n * 10 + u64::from(digit - b'0'); // 19 digits stay below 2^64
    }
    if negative {
        (n <= i64::MIN.unsigned_abs()).then(|| (n as i64).wrapping_neg())
    } else {
        i64::try_from(n).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_integers_are_integers() {
        for n in [0, 1, -1, 9, 10, 1234567890123456789, i64::MAX, i64::MIN] {
            assert_eq!(canonical_int(n.to_string().as_bytes()), Some(n));
        }
        for text in [
            "",
            "-",
            "-0",
            "00",
            "01",
            "+1",
            " 1",
            "1 ",
            "1.0",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
        ] {
            assert_eq!(canonical_int(text.as_bytes()), None, "{text}");
        }
    }
}
