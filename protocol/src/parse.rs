//! Hot path. Bytes of a connection to the words of requests, in place.
//!
//! ```text
//! *2\r\n$3\r\nGET\r\n$1\r\nk\r\n        two words: (8, 3) and (17, 1)
//! ^    ^   ^     ^   ^
//! |    |   |     |   body of 1 byte, then 2 bytes that are not looked at
//! |    |   body of 3 bytes
//! |    header of a word: its length
//! header of the request: its number of words
//! ```
//!
//! A request in one piece is parsed in one pass, straight into the caller's `words`. A request in
//! several pieces costs no more than a constant number of words looked at twice: while it has few
//! words (`REPARSED_WORDS_MAX`) it is parsed again from its beginning, which needs no memory; beyond
//! that its words are kept in the `Parser`. Where a line's end or a body's end is awaited, that
//! place is remembered, so a long line or body is not looked at again.
//!
//! What is accepted, and each error text, is that of Redis 7.2: the two bytes after a body and the
//! byte after `\r` in a header may be anything, and a NUL hides what follows it from the search for
//! a line's end.

use crate::inline;
use crate::number;

/// While a partial request has at most so many words, they are parsed again and not kept.
const REPARSED_WORDS_MAX: usize = 16;
/// The shortest word on the wire: `$0\r\n\r\n`.
const WORD_BYTES_MIN: usize = 6;
/// Digits of a length that are read without looking for the line's end first.
const SHORT_DIGITS_MAX: usize = 6;
/// Bytes after a body.
const BODY_END_BYTES: usize = 2;
/// Words before authentication.
const UNAUTHENTICATED_WORDS_MAX: u32 = 10;
/// Bytes of a word before authentication.
const UNAUTHENTICATED_BULK_BYTES_MAX: u64 = 16 * 1024;
/// The default of `proto-max-bulk-len`.
const BULK_BYTES_MAX_DEFAULT: u64 = 512 * 1024 * 1024;
/// The most words any request may claim.
const WORDS_MAX: u32 = i32::MAX.unsigned_abs();

/// Where a word lies in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Offset of its first byte.
    pub start: u32,
    /// Its length in bytes.
    pub len: u32,
}

impl Word {
    /// The word at `start`. Both are known to be below 4 GiB, see `fits_word`.
    #[inline]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the parser refuses what would not fit"
    )]
    pub(crate) const fn new(start: usize, len: usize) -> Self {
        Self {
            start: start as u32,
            len: len as u32,
        }
    }

    /// Its bytes; empty if `buf` is not the buffer it was found in.
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        let start = self.start as usize;
        buf.get(start..start.wrapping_add(self.len as usize))
            .unwrap_or_default()
    }
}

/// What a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one word (`proto-max-bulk-len`).
    pub bulk_bytes_max: u64,
    /// Words of one request. Below `i32::MAX` it means that the client is not authenticated, which
    /// changes the error texts.
    pub words_max: u32,
    /// Bytes of an inline request, and of any header line.
    pub inline_bytes_max: usize,
}

impl Limits {
    /// For a client that may run commands.
    pub const DEFAULT: Self = Self {
        bulk_bytes_max: BULK_BYTES_MAX_DEFAULT,
        words_max: WORDS_MAX,
        inline_bytes_max: 64 * 1024,
    };
    /// For a client that must authenticate first.
    pub const UNAUTHENTICATED: Self = Self {
        bulk_bytes_max: UNAUTHENTICATED_BULK_BYTES_MAX,
        words_max: UNAUTHENTICATED_WORDS_MAX,
        inline_bytes_max: 64 * 1024,
    };

    const fn unauthenticated(&self) -> bool {
        self.words_max < WORDS_MAX
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What `Parser::parse` found at the beginning of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A request; its words were appended.
    Request {
        /// Bytes of input it takes.
        consumed: usize,
    },
    /// An inline request with quotes, its words unescaped; see `args::flatten`.
    Inline {
        /// Bytes of input it takes.
        consumed: usize,
        /// Its words, at least one.
        owned: Vec<Vec<u8>>,
    },
    /// A request without words, to which there is no reply.
    Empty {
        /// Bytes of input it takes.
        consumed: usize,
    },
    /// Not a whole request yet.
    Incomplete {
        /// At least so many bytes are missing; 1 or more.
        need: usize,
    },
    /// Not a request; the connection is closed after the error is replied.
    Invalid {
        /// What is wrong with it.
        error: ProtocolError,
    },
}

/// Why bytes are not a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// A `*` line without an end.
    MultibulkLineTooLong,
    /// The number of words is not a number or too large.
    MultibulkLength,
    /// Too many words before authentication.
    MultibulkUnauthenticated,
    /// A `$` line without an end.
    BulkLineTooLong,
    /// A word does not begin with `$` but with this byte.
    ExpectedBulk(u8),
    /// The length of a word is not a number, negative or too large.
    BulkLength,
    /// Too long a word before authentication.
    BulkUnauthenticated,
    /// An inline request without an end.
    InlineTooLong,
    /// An inline request with a quote that does not end, or ends inside of a word.
    UnbalancedQuotes,
}

impl ProtocolError {
    /// Appends the error text with its code; without `-` and line end.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"ERR Protocol error: ");
        out.extend_from_slice(match self {
            Self::MultibulkLineTooLong => b"too big mbulk count string",
            Self::MultibulkLength => b"invalid multibulk length",
            Self::MultibulkUnauthenticated => b"unauthenticated multibulk length",
            Self::BulkLineTooLong => b"too big bulk count string",
            Self::ExpectedBulk(_) => b"expected '$', got '",
            Self::BulkLength => b"invalid bulk length",
            Self::BulkUnauthenticated => b"unauthenticated bulk length",
            Self::InlineTooLong => b"too big inline request",
            Self::UnbalancedQuotes => b"unbalanced quotes in request",
        });
        if let Self::ExpectedBulk(byte) = self {
            out.push(if matches!(byte, b'\r' | b'\n') {
                b' '
            } else {
                byte
            });
            out.push(b'\'');
        }
    }
}

/// What is remembered of ONE partially received request. Idle, it owns no memory.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    /// Words of the partial request, kept once there are many.
    kept: Vec<Word>,
    /// With `kept`: the offset after them.
    at: usize,
    /// With `kept`: how many words are still to come.
    left: u32,
    /// The offset of the line whose end is awaited.
    line: usize,
    /// That line does not end before this offset.
    searched: usize,
    /// The body awaited: its first byte and its length.
    body: Option<(usize, usize)>,
}

/// How far the words of a request could be read.
enum Step {
    Done {
        at: usize,
    },
    /// The rest has not arrived.
    Wait {
        at: usize,
        left: u32,
        need: usize,
    },
    Invalid(ProtocolError),
}

impl Parser {
    /// Parses the request at the beginning of `input`.
    ///
    /// While a request is incomplete, `input` must begin with the same bytes at each call and may
    /// only grow. Words are relative to `input`, and only those of complete requests are left in
    /// `words`, behind what it already held.
    #[inline]
    pub fn parse(&mut self, input: &[u8], limits: &Limits, words: &mut Vec<Word>) -> Parsed {
        if let Some((start, len)) = self.body {
            let have = input.len().saturating_sub(start);
            if have < len + BODY_END_BYTES {
                return Parsed::Incomplete {
                    need: len + BODY_END_BYTES - have,
                };
            }
            self.body = None;
        }
        if !self.kept.is_empty() {
            return self.resume(input, limits, words);
        }
        let (count, at) = match input {
            [b'*', d @ b'1'..=b'9', b'\r', _, ..] => (u32::from(d - b'0'), 4),
            [b'*', t @ b'1'..=b'9', u @ b'0'..=b'9', b'\r', _, ..] if !limits.unauthenticated() => {
                (u32::from(t - b'0') * 10 + u32::from(u - b'0'), 5)
            }
            [b'*', ..] => match self.request_header(input, limits) {
                Ok(header) => header,
                Err(parsed) => return parsed,
            },
            [] => return Parsed::Incomplete { need: 1 },
            _ => return self.inline(input, limits, words),
        };
        let base = words.len();
        match self.bulks(input, at, count, limits, words) {
            Step::Done { at } => {
                self.searched = 0;
                Parsed::Request { consumed: at }
            }
            Step::Wait { at, left, need } => {
                self.keep(words, base, at, left);
                Parsed::Incomplete { need }
            }
            Step::Invalid(error) => {
                words.truncate(base);
                self.invalid(error)
            }
        }
    }

    /// Forgets the partial request.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The body that is being awaited: the offset in the input at which it starts and its length,
    /// the two bytes after it not counted.
    pub fn pending_bulk(&self) -> Option<(usize, usize)> {
        self.body
    }

    /// Reads `left` words from `at` on.
    #[inline]
    fn bulks(
        &mut self,
        input: &[u8],
        at: usize,
        mut left: u32,
        limits: &Limits,
        words: &mut Vec<Word>,
    ) -> Step {
        let mut rest = input.get(at..).unwrap_or_default();
        while left != 0 {
            // Lengths of one and two digits are nearly all there are. Each pattern is one check of
            // the slice's length.
            let (len, body) = match rest {
                [b'$', d @ b'0'..=b'9', b'\r', _, body @ ..] => (usize::from(d - b'0'), body),
                [b'$', t @ b'1'..=b'9', u @ b'0'..=b'9', b'\r', _, body @ ..] => {
                    (usize::from(t - b'0') * 10 + usize::from(u - b'0'), body)
                }
                _ => match short_header(rest, limits) {
                    Some(header) => header,
                    None => match self.bulk_header(input, rest, limits) {
                        Ok(Some(header)) => header,
                        Ok(None) => {
                            let need = WORD_BYTES_MIN.saturating_sub(rest.len()).max(1);
                            return Step::Wait {
                                at: input.len() - rest.len(),
                                left,
                                need,
                            };
                        }
                        Err(error) => return Step::Invalid(error),
                    },
                },
            };
            let start = input.len().wrapping_sub(body.len());
            let Some(after) = body.get(len.wrapping_add(BODY_END_BYTES)..) else {
                self.body = Some((start, len));
                let need = len + BODY_END_BYTES - body.len();
                return Step::Wait {
                    at: input.len() - rest.len(),
                    left,
                    need,
                };
            };
            words.push(Word::new(start, len));
            rest = after;
            left -= 1;
        }
        let at = input.len().wrapping_sub(rest.len());
        // Words are offsets of 32 bits. A word that would not fit has been refused where its header
        // was read, short ones are looked at here, all at once.
        if u32::try_from(at).is_ok() {
            Step::Done { at }
        } else {
            Step::Invalid(ProtocolError::BulkLength)
        }
    }

    /// Continues a request of which words are kept.
    #[cold]
    fn resume(&mut self, input: &[u8], limits: &Limits, words: &mut Vec<Word>) -> Parsed {
        let mut kept = std::mem::take(&mut self.kept);
        match self.bulks(input, self.at, self.left, limits, &mut kept) {
            Step::Done { at } => {
                if words.is_empty() {
                    std::mem::swap(words, &mut kept);
                } else {
                    words.append(&mut kept);
                }
                self.reset();
                Parsed::Request { consumed: at }
            }
            Step::Wait { at, left, need } => {
                (self.kept, self.at, self.left) = (kept, at, left);
                Parsed::Incomplete { need }
            }
            Step::Invalid(error) => self.invalid(error),
        }
    }

    /// Takes the words of a partial request back out of `words`.
    #[cold]
    fn keep(&mut self, words: &mut Vec<Word>, base: usize, at: usize, left: u32) {
        if words.len() - base > REPARSED_WORDS_MAX {
            self.kept = words.split_off(base);
            (self.at, self.left) = (at, left);
        } else {
            words.truncate(base);
        }
    }

    /// Reads a `*` line: the number of words and the offset after it.
    #[cold]
    fn request_header(&mut self, input: &[u8], limits: &Limits) -> Result<(u32, usize), Parsed> {
        let end = match self.line_end(input, 0, b'\r', limits.inline_bytes_max) {
            Line::Ends(end) if end + 1 < input.len() => end,
            Line::TooLong => return Err(self.invalid(ProtocolError::MultibulkLineTooLong)),
            Line::Ends(_) | Line::Unknown => return Err(Parsed::Incomplete { need: 1 }),
        };
        let count = input.get(1..end).and_then(number::parse_i64);
        match count.map(u32::try_from) {
            Some(Ok(count)) if count > WORDS_MAX => {
                Err(self.invalid(ProtocolError::MultibulkLength))
            }
            Some(Ok(count)) if count > limits.words_max => {
                Err(self.invalid(ProtocolError::MultibulkUnauthenticated))
            }
            Some(Ok(count)) if count > 0 => Ok((count, end + 2)),
            // Zero and all negative numbers; what is left are numbers beyond `u32`.
            Some(_) if count <= Some(0) => {
                self.searched = 0;
                Err(Parsed::Empty { consumed: end + 2 })
            }
            _ => Err(self.invalid(ProtocolError::MultibulkLength)),
        }
    }

    /// Reads the `$` line at the beginning of `rest`, the end of `input`: a length and what follows.
    #[cold]
    fn bulk_header<'i>(
        &mut self,
        input: &'i [u8],
        rest: &'i [u8],
        limits: &Limits,
    ) -> Result<Option<(usize, &'i [u8])>, ProtocolError> {
        let at = input.len() - rest.len();
        let end = match self.line_end(input, at, b'\r', limits.inline_bytes_max) {
            Line::Ends(end) => end - at,
            Line::Unknown => return Ok(None),
            Line::TooLong => return Err(ProtocolError::BulkLineTooLong),
        };
        let (Some(body), [mark, ..]) = (rest.get(end + 2..), rest) else {
            return Ok(None);
        };
        if *mark != b'$' {
            return Err(ProtocolError::ExpectedBulk(*mark));
        }
        let len = rest
            .get(1..end)
            .and_then(number::parse_i64)
            .and_then(|len| u64::try_from(len).ok())
            .ok_or(ProtocolError::BulkLength)?;
        if len > limits.bulk_bytes_max {
            // Redis compares with proto-max-bulk-len first, which is not known here.
            let plausible = limits.unauthenticated() && len <= BULK_BYTES_MAX_DEFAULT;
            return Err(if plausible {
                ProtocolError::BulkUnauthenticated
            } else {
                ProtocolError::BulkLength
            });
        }
        match usize::try_from(len) {
            Ok(len) if fits_word(at + end + 2, len) => Ok(Some((len, body))),
            _ => Err(ProtocolError::BulkLength),
        }
    }

    /// Reads an inline request.
    #[cold]
    fn inline(&mut self, input: &[u8], limits: &Limits, words: &mut Vec<Word>) -> Parsed {
        let end = match self.line_end(input, 0, b'\n', limits.inline_bytes_max) {
            Line::Ends(end) => end,
            Line::Unknown => return Parsed::Incomplete { need: 1 },
            Line::TooLong => return self.invalid(ProtocolError::InlineTooLong),
        };
        self.searched = 0;
        let consumed = end + 1;
        let line = input.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if inline::has_quotes(line) {
            return match inline::unquote(line) {
                Some(owned) if owned.is_empty() => Parsed::Empty { consumed },
                Some(owned) => Parsed::Inline { consumed, owned },
                None => self.invalid(ProtocolError::UnbalancedQuotes),
            };
        }
        let base = words.len();
        inline::split(line, words);
        if words.len() == base {
            Parsed::Empty { consumed }
        } else {
            Parsed::Request { consumed }
        }
    }

    /// Looks for the end of the line that begins at `at`, not looking twice at the same bytes.
    fn line_end(&mut self, input: &[u8], at: usize, end: u8, bytes_max: usize) -> Line {
        let searched = if self.line == at { self.searched } else { at };
        let from = searched.clamp(at, input.len());
        let until = at
            .saturating_add(bytes_max)
            .saturating_add(1)
            .min(input.len())
            .max(from);
        let line = input.get(from..until).unwrap_or_default();
        let found = memchr::memchr2(end, 0, line).map(|offset| from + offset);
        if let Some(found) = found.filter(|found| input.get(*found) == Some(&end)) {
            return Line::Ends(found);
        }
        // Remembered of the line that is awaited, not of those before it that are parsed again.
        // After a NUL the end will not be seen, however much arrives.
        (self.line, self.searched) = (at, found.unwrap_or(until));
        if input.len() - at > bytes_max {
            Line::TooLong
        } else {
            Line::Unknown
        }
    }

    #[cold]
    fn invalid(&mut self, error: ProtocolError) -> Parsed {
        self.reset();
        Parsed::Invalid { error }
    }
}

/// Reads a length of three to `SHORT_DIGITS_MAX` digits, which needs no search for the line's end.
/// `None`: look closer.
#[inline]
fn short_header<'i>(rest: &'i [u8], limits: &Limits) -> Option<(usize, &'i [u8])> {
    let [b'$', first @ b'1'..=b'9', digits @ ..] = rest else {
        return None;
    };
    let mut len = usize::from(first - b'0');
    let mut after = digits;
    for _ in 1..SHORT_DIGITS_MAX {
        let [digit @ b'0'..=b'9', more @ ..] = after else {
            break;
        };
        len = len.wrapping_mul(10).wrapping_add(usize::from(digit - b'0'));
        after = more;
    }
    match after {
        [b'\r', _, body @ ..] if len as u64 <= limits.bulk_bytes_max => Some((len, body)),
        _ => None,
    }
}

/// Where a line ends.
enum Line {
    /// At this offset of the input.
    Ends(usize),
    /// Not in what has arrived.
    Unknown,
    /// Not within the limit.
    TooLong,
}

/// True if a word there can be expressed by a `Word`, its two end bytes included.
fn fits_word(start: usize, len: usize) -> bool {
    let end = start.saturating_add(len).saturating_add(BODY_END_BYTES);
    u32::try_from(end).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{Limits, Parsed, Parser, ProtocolError, Word};

    /// Parses one request and returns its words as text, inline or not.
    fn words_of(input: &[u8]) -> Option<Vec<String>> {
        let mut words = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match Parser::default().parse(input, &Limits::DEFAULT, &mut words) {
            Parsed::Request { .. } => Some(words.iter().map(|word| text(word.of(input))).collect()),
            Parsed::Inline { owned, .. } => Some(owned.iter().map(|word| text(word)).collect()),
            _ => None,
        }
    }

    fn error_of(input: &[u8], limits: &Limits) -> String {
        match Parser::default().parse(input, limits, &mut Vec::new()) {
            Parsed::Invalid { error } => {
                let mut text = Vec::new();
                error.write(&mut text);
                String::from_utf8(text)
                    .unwrap()
                    .replace("ERR Protocol error: ", "")
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn requests() {
        let table: &[(&[u8], &[&str])] = &[
            (b"*1\r\n$4\r\nPING\r\n", &["PING"]),
            (
                b"*2\r\n$3\r\nGET\r\n$16\r\n0123456789abcdef\r\n",
                &["GET", "0123456789abcdef"],
            ),
            (b"*2\r\n$3\r\nGET\r\n$0\r\n\r\nrest", &["GET", ""]),
            // What stands for the line ends is not looked at.
            (b"*1\rx$4\ryPINGzz", &["PING"]),
            (b"PING\r\n", &["PING"]),
            (b"PING\n", &["PING"]),
            (b"  SET  k\tv \r\n", &["SET", "k", "v"]),
            (b"SET \"a b\" 'c d'\r\n", &["SET", "a b", "c d"]),
        ];
        for (input, words) in table {
            assert_eq!(
                words_of(input).unwrap_or_default(),
                *words,
                "{}",
                input.escape_ascii()
            );
        }
        let long = format!("*2\r\n$3\r\nSET\r\n${}\r\n{}\r\n", 1234, "v".repeat(1234));
        assert_eq!(words_of(long.as_bytes()).unwrap()[1].len(), 1234);
        let many = format!("*12\r\n{}", "$1\r\nw\r\n".repeat(12));
        assert_eq!(words_of(many.as_bytes()).unwrap().len(), 12);
    }

    #[test]
    fn words_are_appended_and_consumed_is_exact() {
        let input = b"*1\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\n";
        let mut words = vec![Word { start: 7, len: 7 }];
        let parsed = Parser::default().parse(input, &Limits::DEFAULT, &mut words);
        assert_eq!(parsed, Parsed::Request { consumed: 11 });
        assert_eq!(
            words,
            [Word { start: 7, len: 7 }, Word { start: 8, len: 1 }]
        );
    }

    #[test]
    fn requests_without_words() {
        for input in ["\r\n", "\n", "  \r\n", "*0\r\n", "*-1\r\n", "*-999\r\n"] {
            let mut words = Vec::new();
            let parsed = Parser::default().parse(input.as_bytes(), &Limits::DEFAULT, &mut words);
            assert_eq!(
                parsed,
                Parsed::Empty {
                    consumed: input.len()
                },
                "{input:?}"
            );
        }
    }

    #[test]
    fn errors_are_those_of_redis() {
        let long = "1".repeat(70_000);
        let table = [
            ("*x\r\n".to_owned(), "invalid multibulk length"),
            ("*\r\n".to_owned(), "invalid multibulk length"),
            ("*+1\r\n".to_owned(), "invalid multibulk length"),
            ("*01\r\n".to_owned(), "invalid multibulk length"),
            ("*2147483648\r\n".to_owned(), "invalid multibulk length"),
            ("*99999999999\r\n".to_owned(), "invalid multibulk length"),
            (format!("*{long}"), "too big mbulk count string"),
            ("*1\r\nfoo\r\n".to_owned(), "expected '$', got 'f'"),
            ("*1\r\n\r\n\r\n".to_owned(), "expected '$', got ' '"),
            ("*1\r\n$x\r\n".to_owned(), "invalid bulk length"),
            ("*1\r\n$-1\r\n".to_owned(), "invalid bulk length"),
            ("*1\r\n$536870913\r\n".to_owned(), "invalid bulk length"),
            (format!("*1\r\n${long}"), "too big bulk count string"),
            (long.clone(), "too big inline request"),
            ("\"a\n".to_owned(), "unbalanced quotes in request"),
        ];
        for (input, error) in table {
            assert_eq!(
                error_of(input.as_bytes(), &Limits::DEFAULT),
                error,
                "{input:.40}"
            );
        }
    }

    #[test]
    fn less_is_allowed_before_authentication() {
        let limits = Limits::UNAUTHENTICATED;
        let table = [
            ("*11\r\n", "unauthenticated multibulk length"),
            ("*2147483648\r\n", "invalid multibulk length"),
            ("*1\r\n$16385\r\n", "unauthenticated bulk length"),
            ("*1\r\n$536870913\r\n", "invalid bulk length"),
            ("*10\r\n", "Incomplete { need: 6 }"),
            ("*1\r\n$16384\r\n", "Incomplete { need: 16386 }"),
        ];
        for (input, error) in table {
            assert_eq!(error_of(input.as_bytes(), &limits), error, "{input}");
        }
    }

    /// The bytes of a large request arrive one by one; what has been read is not read again.
    #[test]
    fn words_of_a_large_partial_request_are_kept() {
        let count = 5000;
        let input = format!("*{count}\r\n{}", "$3\r\nabc\r\n".repeat(count));
        let (mut parser, mut words) = (Parser::default(), Vec::new());
        for end in 0..input.len() {
            let parsed = parser.parse(&input.as_bytes()[..end], &Limits::DEFAULT, &mut words);
            assert!(
                matches!(parsed, Parsed::Incomplete { need } if need >= 1),
                "{end} {parsed:?}"
            );
            assert!(words.is_empty());
        }
        assert!(parser.kept.len() > count - 2);
        let parsed = parser.parse(input.as_bytes(), &Limits::DEFAULT, &mut words);
        assert_eq!(
            parsed,
            Parsed::Request {
                consumed: input.len()
            }
        );
        assert_eq!(words.len(), count);
        assert!(words.iter().all(|word| word.of(input.as_bytes()) == b"abc"));
        assert_eq!(parser.kept.capacity(), 0, "idle, it owns no memory");
    }

    #[test]
    fn a_claimed_count_makes_no_room() {
        let (mut parser, mut words) = (Parser::default(), Vec::new());
        let parsed = parser.parse(b"*2147483647\r\n$1\r\na\r\n", &Limits::DEFAULT, &mut words);
        assert_eq!(parsed, Parsed::Incomplete { need: 6 });
        assert!(words.capacity() < 100);
    }

    #[test]
    fn the_awaited_body_is_known() {
        let (mut parser, mut words) = (Parser::default(), Vec::new());
        let input = b"*2\r\n$3\r\nSET\r\n$100000\r\nabc";
        let parsed = parser.parse(input, &Limits::DEFAULT, &mut words);
        assert_eq!(
            parsed,
            Parsed::Incomplete {
                need: 100_000 + 2 - 3
            }
        );
        assert_eq!(parser.pending_bulk(), Some((22, 100_000)));
        let mut input = input.to_vec();
        input.resize(22 + 100_002, b'x');
        let parsed = parser.parse(&input, &Limits::DEFAULT, &mut words);
        assert_eq!(
            parsed,
            Parsed::Request {
                consumed: input.len()
            }
        );
        assert_eq!((parser.pending_bulk(), words[1].len), (None, 100_000));
    }

    /// Three headers with lengths of several digits, the last one cut: the search for its end must
    /// not be taken for one in the lines before it.
    #[test]
    fn a_cut_header_after_long_ones() {
        let body = "v".repeat(1_234_567);
        let word = format!("${}\r\n{body}\r\n", body.len());
        let input = format!("*3\r\n{word}{word}{word}");
        let (mut parser, mut words) = (Parser::default(), Vec::new());
        let cut = 4 + 2 * word.len() + 5;
        for end in [cut, cut + 1, input.len()] {
            words.clear();
            let _ = parser.parse(&input.as_bytes()[..end], &Limits::DEFAULT, &mut words);
        }
        assert_eq!(words.len(), 3);
        assert!(words.iter().all(|word| word.len == 1_234_567));
    }

    #[test]
    fn an_error_leaves_no_words() {
        let mut words = Vec::new();
        let parsed =
            Parser::default().parse(b"*2\r\n$1\r\na\r\n+\r\n", &Limits::DEFAULT, &mut words);
        assert_eq!(
            parsed,
            Parsed::Invalid {
                error: ProtocolError::ExpectedBulk(b'+')
            }
        );
        assert!(words.is_empty());
    }
}
