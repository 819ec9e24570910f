//! JSON to values of Lua.

use mlua::{Lua, Table, Value};

use super::json::{NESTING_MAX, Settings};
use super::{Fault, fault};

/// Reads one JSON text.
pub(super) fn read(lua: &Lua, text: &[u8], settings: &Settings) -> Result<Value, Fault> {
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return fault("JSON parser does not support UTF-16 or UTF-32");
    }
    let mut reader = Reader {
        lua,
        text,
        at: 0,
        depth: 0,
        settings,
    };
    let first = reader.next();
    let value = reader.value(first)?;
    let last = reader.next();
    match last.kind {
        Kind::End => Ok(value),
        _ => last.unexpected("the end"),
    }
}

struct Reader<'a> {
    lua: &'a Lua,
    text: &'a [u8],
    at: usize,
    depth: i64,
    settings: &'a Settings,
}

struct Token {
    kind: Kind,
    at: usize,
}

enum Kind {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    Colon,
    Comma,
    End,
    String(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    Error(&'static str),
}

impl Token {
    fn unexpected<T>(&self, expected: &str) -> Result<T, Fault> {
        let found = match &self.kind {
            Kind::ObjectBegin => "T_OBJ_BEGIN",
            Kind::ObjectEnd => "T_OBJ_END",
            Kind::ArrayBegin => "T_ARR_BEGIN",
            Kind::ArrayEnd => "T_ARR_END",
            Kind::Colon => "T_COLON",
            Kind::Comma => "T_COMMA",
            Kind::End => "T_END",
            Kind::String(_) => "T_STRING",
            Kind::Number(_) => "T_NUMBER",
            Kind::Boolean(_) => "T_BOOLEAN",
            Kind::Null => "T_NULL",
            Kind::Error(text) => text,
        };
        fault(format!(
            "Expected {expected} but found {found} at character {}",
            self.at + 1
        ))
    }
}

impl Reader<'_> {
    /// The byte at an offset from here; 0 behind the end, as the text ends there.
    fn peek(&self, offset: usize) -> u8 {
        self.text.get(self.at + offset).copied().unwrap_or(0)
    }

    fn starts_with(&self, word: &[u8]) -> bool {
        self.text
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(word))
    }

    fn next(&mut self) -> Token {
        while matches!(self.peek(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let at = self.at;
        let single = match self.peek(0) {
            b'{' => Kind::ObjectBegin,
            b'}' => Kind::ObjectEnd,
            b'[' => Kind::ArrayBegin,
            b']' => Kind::ArrayEnd,
            b',' => Kind::Comma,
            b':' => Kind::Colon,
            0 => {
                let kind = Kind::End;
                return Token { kind, at };
            }
            _ => return self.word(at),
        };
        self.at += 1;
        Token { kind: single, at }
    }

    fn word(&mut self, at: usize) -> Token {
        let kind = match self.peek(0) {
            b'"' => {
                let kind = self.string();
                // An error is told where it is, a string where it begins.
                let at = if matches!(kind, Kind::Error(_)) {
                    self.at
                } else {
                    at
                };
                return Token { kind, at };
            }
            b'-' | b'0'..=b'9' => {
                if !self.settings.decode_invalid && self.is_invalid_number() {
                    Kind::Error("invalid number")
                } else {
                    self.number()
                }
            }
            _ if self.starts_with(b"true") => self.literal(4, Kind::Boolean(true)),
            _ if self.starts_with(b"false") => self.literal(5, Kind::Boolean(false)),
            _ if self.starts_with(b"null") => self.literal(4, Kind::Null),
            b'i' | b'I' | b'n' | b'N' | b'+'
                if self.settings.decode_invalid && self.is_invalid_number() =>
            {
                self.number()
            }
            _ => Kind::Error("invalid token"),
        };
        Token { kind, at }
    }

    fn literal(&mut self, len: usize, kind: Kind) -> Kind {
        self.at += len;
        kind
    }

    /// Whether what is here is a number to C but not to JSON.
    fn is_invalid_number(&self) -> bool {
        if self.peek(0) == b'+' {
            return true;
        }
        let skip = usize::from(self.peek(0) == b'-');
        let (first, second) = (self.peek(skip), self.peek(skip + 1));
        if first == b'0' {
            return second | 0x20 == b'x' || second.is_ascii_digit();
        }
        if first <= b'9' {
            return false;
        }
        let three = [first, second, self.peek(skip + 2)].map(|b| b.to_ascii_lowercase());
        three == *b"inf" || three == *b"nan"
    }

    /// The longest number from here on, as C's `strtod` reads it.
    fn number(&mut self) -> Kind {
        let rest = &self.text[self.at..];
        let sign = usize::from(matches!(rest.first(), Some(b'-' | b'+')));
        let (len, value) = unsigned_number(&rest[sign..]);
        if len == 0 {
            return Kind::Error("invalid number");
        }
        self.at += sign + len;
        Kind::Number(if rest[0] == b'-' { -value } else { value })
    }

    fn string(&mut self) -> Kind {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            match self.peek(0) {
                b'"' => {
                    self.at += 1;
                    return Kind::String(out);
                }
                0 => return Kind::Error("unexpected end of string"),
                b'\\' => {
                    let plain = match self.peek(1) {
                        byte @ (b'"' | b'\\' | b'/') => byte,
                        b'b' => 0x08,
                        b't' => b'\t',
                        b'n' => b'\n',
                        b'f' => 0x0c,
                        b'r' => b'\r',
                        b'u' => match self.unicode(&mut out) {
                            Some(()) => continue,
                            None => return Kind::Error("invalid unicode escape code"),
                        },
                        _ => return Kind::Error("invalid escape code"),
                    };
                    out.push(plain);
                    self.at += 2;
                }
                byte => {
                    out.push(byte);
                    self.at += 1;
                }
            }
        }
    }

    fn unicode(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let unit = self.four_digits(2)?;
        let (code, len) = if unit & 0xf800 != 0xd800 {
            (unit, 6)
        } else {
            // A pair of which the first is high and the second low.
            if unit & 0x400 != 0 || self.peek(6) != b'\\' || self.peek(7) != b'u' {
                return None;
            }
            let low = self.four_digits(8)?;
            if low & 0xfc00 != 0xdc00 {
                return None;
            }
            (((unit & 0x3ff) << 10 | low & 0x3ff) + 0x10000, 12)
        };
        let char = char::from_u32(code)?;
        out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
        self.at += len;
        Some(())
    }

    fn four_digits(&self, offset: usize) -> Option<u32> {
        (0..4).try_fold(0, |all, index| {
            let digit = char::from(self.peek(offset + index)).to_digit(16)?;
            Some(all << 4 | digit)
        })
    }

    fn value(&mut self, token: Token) -> Result<Value, Fault> {
        Ok(match token.kind {
            Kind::String(bytes) => Value::String(self.lua.create_string(bytes)?),
            Kind::Number(n) => Value::Number(n),
            Kind::Boolean(b) => Value::Boolean(b),
            Kind::Null => Value::NULL,
            Kind::ObjectBegin => {
                self.descend()?;
                let table = self.object()?;
                self.depth -= 1;
                Value::Table(table)
            }
            Kind::ArrayBegin => {
                self.descend()?;
                let table = self.array()?;
                self.depth -= 1;
                Value::Table(table)
            }
            _ => return token.unexpected("value"),
        })
    }

    fn descend(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > self.settings.decode_max_depth.min(NESTING_MAX) {
            return fault(format!(
                "Found too many nested data structures ({}) at character {}",
                self.depth, self.at
            ));
        }
        Ok(())
    }

    fn object(&mut self) -> Result<Table, Fault> {
        let table = self.lua.create_table()?;
        let mut token = self.next();
        if matches!(token.kind, Kind::ObjectEnd) {
            return Ok(table);
        }
        loop {
            let Kind::String(key) = token.kind else {
                return token.unexpected("object key string");
            };
            let colon = self.next();
            if !matches!(colon.kind, Kind::Colon) {
                return colon.unexpected("colon");
            }
            let first = self.next();
            let value = self.value(first)?;
            table.raw_set(self.lua.create_string(key)?, value)?;
            let after = self.next();
            match after.kind {
                Kind::ObjectEnd => return Ok(table),
                Kind::Comma => {}
                _ => return after.unexpected("comma or object end"),
            }
            token = self.next();
        }
    }

    fn array(&mut self) -> Result<Table, Fault> {
        let table = self.lua.create_table()?;
        let mut token = self.next();
        if matches!(token.kind, Kind::ArrayEnd) {
            return Ok(table);
        }
        loop {
            let value = self.value(token)?;
            table.raw_push(value)?;
            let after = self.next();
            match after.kind {
                Kind::ArrayEnd => return Ok(table),
                Kind::Comma => {}
                _ => return after.unexpected("comma or array end"),
            }
            token = self.next();
        }
    }
}

/// Length and value of the number at the front; 0 when there is none.
fn unsigned_number(rest: &[u8]) -> (usize, f64) {
    let starts = |word: &[u8]| {
        rest.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    for (word, value) in [
        (b"infinity".as_slice(), f64::INFINITY),
        (b"inf", f64::INFINITY),
        (b"nan", f64::NAN),
    ] {
        if starts(word) {
            return (word.len(), value);
        }
    }
    if starts(b"0x") {
        let digits = run(&rest[2..], |b| b.is_ascii_hexdigit());
        if digits > 0 {
            let value = rest[2..2 + digits].iter().fold(0.0, |all, digit| {
                all * 16.0 + f64::from(char::from(*digit).to_digit(16).unwrap_or(0))
            });
            return (2 + digits, value);
        }
    }
    let whole = run(rest, |b| b.is_ascii_digit());
    let mut len = whole;
    let mut digits = whole;
    if rest.get(len) == Some(&b'.') {
        let places = run(&rest[len + 1..], |b| b.is_ascii_digit());
        digits += places;
        if digits > 0 {
            len += 1 + places;
        }
    }
    if digits == 0 {
        return (0, 0.0);
    }
    if matches!(rest.get(len), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(rest.get(len + 1), Some(b'+' | b'-')));
        let exponent = rest.get(len + 1 + sign..).unwrap_or_default();
        let places = run(exponent, |b| b.is_ascii_digit());
        if places > 0 {
            len += 1 + sign + places;
        }
    }
    let text = core::str::from_utf8(&rest[..len]).unwrap_or_default();
    (len, text.parse().unwrap_or(0.0))
}

fn run(bytes: &[u8], is: impl Fn(&u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| is(byte)).count()
}
