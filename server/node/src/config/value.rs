//! One option's value between its text and its field: parsing as Redis parses, and why a text is refused.

use std::borrow::Cow;
use std::fmt;

use super::choices::Choice;

/// A value on its way between the text of an option and its field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// yes or no.
    Flag(bool),
    /// A number; a percentage is kept as its negative.
    Int(i128),
    /// One of the words that the row lists.
    Word(&'static str),
    /// A text.
    Bytes(Vec<u8>),
    /// Bytes that are not to be printed.
    Hidden(Secret),
}

/// A field that an option can fill. `put` ignores a value of the wrong shape: the tests walk every row.
pub(super) trait Held {
    /// The field as a value.
    fn out(&self) -> Value;
    /// Takes a value that its row has already checked.
    fn put(&mut self, value: Value);
}

impl Held for bool {
    fn out(&self) -> Value {
        Value::Flag(*self)
    }

    fn put(&mut self, value: Value) {
        if let Value::Flag(flag) = value {
            *self = flag;
        }
    }
}

macro_rules! held_ints {
    ($($int:ty),*) => {$(
        impl Held for $int {
            fn out(&self) -> Value {
                Value::Int(*self as i128)
            }

            fn put(&mut self, value: Value) {
                if let Value::Int(n) = value
                    && let Ok(n) = <$int>::try_from(n)
                {
                    *self = n;
                }
            }
        }
    )*};
}

held_ints!(u16, u32, i32, u64, i64, usize);

impl<T: Choice> Held for T {
    fn out(&self) -> Value {
        Value::Word(self.word())
    }

    fn put(&mut self, value: Value) {
        if let Value::Word(word) = value
            && let Some(choice) = T::of_word(word)
        {
            *self = choice;
        }
    }
}

impl Held for String {
    fn out(&self) -> Value {
        Value::Bytes(self.as_bytes().to_vec())
    }

    fn put(&mut self, value: Value) {
        if let Value::Bytes(bytes) = value
            && let Ok(text) = Self::from_utf8(bytes)
        {
            *self = text;
        }
    }
}

impl Held for Secret {
    fn out(&self) -> Value {
        Value::Hidden(self.clone())
    }

    fn put(&mut self, value: Value) {
        if let Value::Hidden(secret) = value {
            *self = secret;
        }
    }
}

/// Bytes that must not be printed by accident. Empty means: none set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The bytes themselves.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() {
            "(none)"
        } else {
            "(hidden)"
        })
    }
}

/// Why a value was refused. The texts are those of Redis 7.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Neither yes nor no.
    NotFlag,
    /// Not a decimal number.
    NotInt,
    /// Not a number of bytes.
    NotMemory,
    /// Neither a number of bytes nor a percentage.
    NotMemoryOrPercent,
    /// Not a number of digits 0 to 7.
    NotOctal,
    /// A number outside its range.
    OutOfRange {
        /// The least allowed.
        min: i128,
        /// The most allowed.
        max: i128,
    },
    /// A number outside its range, said in octal.
    OutOfOctalRange {
        /// The least allowed.
        min: i128,
        /// The most allowed.
        max: i128,
    },
    /// A percentage above this.
    PercentAbove(i128),
    /// Not one of these words.
    NotOneOf(&'static [&'static str]),
    /// Too many or too few words.
    WrongArguments,
    /// A text that is not UTF-8, or holds a zero byte.
    NotText,
    /// No option and no directive has this name, or it takes another number of words.
    BadDirective,
    /// Quotes that do not close.
    Unbalanced,
    /// Known, but only its default is taken by this version; the reason.
    NotHere(&'static str),
    /// A rule of one option only; the text.
    Rule(&'static str),
    /// The operating system refused; its text.
    System(String),
}

impl Reject {
    /// The text after the dash of a refused CONFIG SET, and below the line of a refused file.
    pub fn text(&self) -> Cow<'static, str> {
        let fixed = match self {
            Self::NotFlag => "argument must be 'yes' or 'no'",
            Self::NotInt => "argument couldn't be parsed into an integer",
            Self::NotMemory => "argument must be a memory value",
            Self::NotMemoryOrPercent => "argument must be a memory or percent value",
            Self::NotOctal => "argument couldn't be parsed as an octal number",
            Self::WrongArguments => "wrong number of arguments",
            Self::NotText => "argument must be UTF-8 text without zero bytes",
            Self::BadDirective => "Bad directive or wrong number of arguments",
            Self::Unbalanced => "Unbalanced quotes in configuration line",
            Self::NotHere(text) | Self::Rule(text) => text,
            Self::OutOfRange { min, max } => {
                return format!("argument must be between {min} and {max} inclusive").into();
            }
            Self::OutOfOctalRange { min, max } => {
                return format!("argument must be between {min:o} and {max:o} inclusive").into();
            }
            Self::PercentAbove(max) => {
                return format!("percentage argument must be less or equal to {max}").into();
            }
            Self::NotOneOf(words) => {
                let words = words.join(", ");
                return format!("argument(s) must be one of the following: {words}").into();
            }
            Self::System(text) => return text.clone().into(),
        };
        fixed.into()
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// `yes` or `no`, in any case.
pub(super) fn parse_flag(word: &[u8]) -> Option<bool> {
    if word.eq_ignore_ascii_case(b"yes") {
        Some(true)
    } else if word.eq_ignore_ascii_case(b"no") {
        Some(false)
    } else {
        None
    }
}

/// A decimal number as Redis reads one: no plus sign, no leading zero, no blank, 64 bits.
pub(super) fn parse_int(word: &[u8]) -> Option<i128> {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    let canonical = match digits {
        b"0" => word.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    let n: i64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    Some(i128::from(n))
}

/// Bytes with an optional unit: `100`, `1k` = 1000, `1kb` = 1024, and so for m and g. No digits count as 0,
/// and digits that 64 bits do not hold as their maximum, as in Redis; the product does not wrap around, so
/// that a range refuses what is too large.
pub(super) fn parse_memory(word: &[u8]) -> Option<i128> {
    let end = word
        .iter()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(word.len());
    let (digits, unit) = word.split_at(end);
    let factor = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1_000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    let digits = std::str::from_utf8(digits).ok()?;
    let count = if digits.is_empty() {
        0
    } else {
        digits.parse().unwrap_or(u64::MAX)
    };
    Some(i128::from(count) * factor)
}

/// Bytes for a file: with the largest of gb, mb, kb that divides them.
pub(super) fn memory_text(bytes: i128) -> String {
    const UNITS: [(i128, &str); 3] = [(1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")];
    let unit = UNITS
        .iter()
        .find(|(size, _)| bytes != 0 && bytes % size == 0);
    match unit {
        Some((size, name)) => format!("{}{name}", bytes / size),
        None => bytes.to_string(),
    }
}

/// A number in digits 0 to 7.
pub(super) fn parse_octal(word: &[u8]) -> Option<i128> {
    let digits = std::str::from_utf8(word).ok()?;
    i64::from_str_radix(digits, 8).ok().map(i128::from)
}

/// UTF-8 without zero bytes, which a path or a name of the operating system must be.
pub(super) fn parse_text(word: &[u8]) -> Result<&str, Reject> {
    match std::str::from_utf8(word) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(Reject::NotText),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_units_are_redis_s() {
        let cases: [(&[u8], Option<i128>); 14] = [
            (b"100", Some(100)),
            (b"1b", Some(1)),
            (b"1k", Some(1000)),
            (b"1KB", Some(1024)),
            (b"2m", Some(2_000_000)),
            (b"2mb", Some(2 << 20)),
            (b"3g", Some(3_000_000_000)),
            (b"3Gb", Some(3 << 30)),
            (b"", Some(0)),
            (b"-1", None),
            (b"1tb", None),
            (b"1 mb", None),
            (b"18446744073709551616", Some(u64::MAX.into())),
            (b"18446744073709551615gb", Some(i128::from(u64::MAX) << 30)),
        ];
        for (word, want) in cases {
            assert_eq!(
                parse_memory(word),
                want,
                "{}",
                String::from_utf8_lossy(word)
            );
        }
    }

    #[test]
    fn integers_are_strict() {
        for good in [
            "0",
            "1",
            "-1",
            "9223372036854775807",
            "-9223372036854775808",
        ] {
            assert_eq!(parse_int(good.as_bytes()), good.parse().ok());
        }
        for bad in [
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
        ] {
            assert_eq!(parse_int(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn memory_is_written_in_its_largest_unit() {
        assert_eq!(memory_text(0), "0");
        assert_eq!(memory_text(1 << 30), "1gb");
        assert_eq!(memory_text(256 << 20), "256mb");
        assert_eq!(memory_text(1536), "1536");
        assert_eq!(memory_text(3 << 10), "3kb");
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::from(&b"hunter2"[..])), "(hidden)");
    }
}
