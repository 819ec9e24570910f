//! Bytes to answers: the client's side of a reply, RESP2 and RESP3.
//!
//! Used by benches, by the comparison with Redis and by migration, which all talk to servers that
//! may be wrong or hostile: nesting, line lengths and bulk lengths are bounded, and memory grows
//! only with bytes that have arrived. Non-goal: streamed strings and aggregates (`$?`, `*?`), which
//! no Redis command uses.
//!
//! ```text
//!   *2 ........ open: array, 2 to come
//!     :1 ...... open: array, 1 to come
//!     *1 ...... open: array, 1 to come; inside of it an array, 1 to come
//!       +OK ... both are complete: closed from the inside out
//! ```

use crate::number;

/// How deep aggregates may be nested.
pub const DEPTH_MAX: usize = 64;
/// Bytes of a line: statuses, errors, numbers, headers.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a string.
pub const BULK_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Members of an aggregate.
pub const MEMBERS_MAX: usize = u32::MAX as usize;
/// Room made at once for members that are only announced.
const MEMBERS_RESERVED_MAX: usize = 256;
/// What stands before the text of a verbatim string: `txt:`.
const FORMAT_BYTES: usize = 3;

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `+OK`
    Simple(Vec<u8>),
    /// `-ERR no`, code included; also the bulk form of RESP3.
    Error(Vec<u8>),
    /// `:1`
    Int(i64),
    /// `$1`
    Bulk(Vec<u8>),
    /// `$-1` or `_`
    Null,
    /// `*-1`
    NullArray,
    /// `*2`
    Array(Vec<Answer>),
    /// `%1`
    Map(Vec<(Answer, Answer)>),
    /// `~2`
    Set(Vec<Answer>),
    /// `>2`: a message, not the reply to a request.
    Push(Vec<Answer>),
    /// `,1.5` as it was written.
    Double(Vec<u8>),
    /// `#t`
    Bool(bool),
    /// `=5\r\ntxt:x`
    Verbatim {
        /// Three letters.
        format: [u8; FORMAT_BYTES],
        /// What follows the colon.
        text: Vec<u8>,
    },
    /// `(123` as it was written.
    BigNumber(Vec<u8>),
    /// `|1`: remarks on the answer that follows them.
    Attribute {
        /// The remarks.
        pairs: Vec<(Answer, Answer)>,
        /// What they are about.
        of: Box<Answer>,
    },
}

impl Answer {
    /// True for an error, remarked upon or not.
    pub fn is_error(&self) -> bool {
        match self {
            Self::Error(_) => true,
            Self::Attribute { of, .. } => of.is_error(),
            _ => false,
        }
    }

    /// Appends the answer as RESP3 (`NullArray` as RESP2, the only one to have it).
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Simple(text) => line(b'+', text, out),
            // Only the bulk form can have line breaks.
            Self::Error(text) if memchr::memchr2(b'\r', b'\n', text).is_some() => {
                bulk(b'!', text, out);
            }
            Self::Error(text) => line(b'-', text, out),
            Self::Int(n) => line(b':', itoa::Buffer::new().format(*n).as_bytes(), out),
            Self::Bulk(bytes) => bulk(b'$', bytes, out),
            Self::Null => out.extend_from_slice(b"_\r\n"),
            Self::NullArray => out.extend_from_slice(b"*-1\r\n"),
            Self::Array(members) => aggregate(b'*', members, out),
            Self::Set(members) => aggregate(b'~', members, out),
            Self::Push(members) => aggregate(b'>', members, out),
            Self::Map(pairs) => self::pairs(b'%', pairs, out),
            Self::Double(text) => line(b',', text, out),
            Self::Bool(b) => line(b'#', if *b { b"t" } else { b"f" }, out),
            Self::Verbatim { format, text } => {
                header(b'=', text.len().saturating_add(FORMAT_BYTES + 1), out);
                out.extend_from_slice(format);
                line(b':', text, out);
            }
            Self::BigNumber(digits) => line(b'(', digits, out),
            Self::Attribute { pairs, of } => {
                self::pairs(b'|', pairs, out);
                of.write(out);
            }
        }
    }
}

fn line(mark: u8, text: &[u8], out: &mut Vec<u8>) {
    out.push(mark);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

fn bulk(mark: u8, bytes: &[u8], out: &mut Vec<u8>) {
    header(mark, bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn header(mark: u8, count: usize, out: &mut Vec<u8>) {
    line(mark, itoa::Buffer::new().format(count).as_bytes(), out);
}

fn aggregate(mark: u8, members: &[Answer], out: &mut Vec<u8>) {
    header(mark, members.len(), out);
    members.iter().for_each(|member| member.write(out));
}

fn pairs(mark: u8, pairs: &[(Answer, Answer)], out: &mut Vec<u8>) {
    header(mark, pairs.len(), out);
    for (key, value) in pairs {
        key.write(out);
        value.write(out);
    }
}

/// Why bytes are not an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerError {
    /// The first byte is no mark of RESP.
    Mark(u8),
    /// A line that does not end.
    LineTooLong,
    /// A number that is none.
    Number,
    /// A length or count that is negative or too large.
    Length,
    /// A string whose end is not `\r\n`.
    End,
    /// A truth value that is neither, or a verbatim string without format.
    Malformed,
    /// Too many aggregates inside of each other.
    Depth,
}

impl std::fmt::Display for AnswerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mark(byte) => write!(f, "no reply begins with byte {byte:#04x}"),
            Self::LineTooLong => f.write_str("a line of the reply does not end"),
            Self::Number => f.write_str("a number in the reply is malformed"),
            Self::Length => f.write_str("a length in the reply is out of range"),
            Self::End => f.write_str("a string of the reply is not ended by CR LF"),
            Self::Malformed => f.write_str("a value in the reply is malformed"),
            Self::Depth => f.write_str("the reply is nested too deeply"),
        }
    }
}

impl std::error::Error for AnswerError {}

/// What is remembered of ONE partially received answer.
#[derive(Debug, Default)]
pub struct AnswerParser {
    /// The aggregates that are not complete, the outermost first.
    open: Vec<Open>,
    /// All before this offset has been read.
    at: usize,
    /// The line at `at` does not end before this offset.
    searched: usize,
}

/// An aggregate that is not complete.
#[derive(Debug)]
struct Open {
    shape: Shape,
    /// Members still to come; 1 or more.
    left: usize,
    members: Vec<Answer>,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Array,
    Set,
    Push,
    Map,
    Attribute,
}

/// What one line, or one line and a body, turned out to be.
enum Part {
    Whole(Answer),
    Open(Open),
}

impl AnswerParser {
    /// Parses the answer at the beginning of `input`: the answer and the bytes it takes, or `None`
    /// if more must arrive first.
    ///
    /// While an answer is incomplete, `input` must begin with the same bytes at each call and may
    /// only grow.
    ///
    /// # Errors
    /// If the bytes are no answer; the connection cannot be used further.
    pub fn parse(&mut self, input: &[u8]) -> Result<Option<(Answer, usize)>, AnswerError> {
        let parsed = self.advance(input);
        if !matches!(parsed, Ok(None)) {
            self.reset();
        }
        parsed
    }

    /// Forgets the partial answer.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    fn advance(&mut self, input: &[u8]) -> Result<Option<(Answer, usize)>, AnswerError> {
        loop {
            let Some((part, at)) = self.part(input)? else {
                return Ok(None);
            };
            (self.at, self.searched) = (at, at);
            let mut answer = match part {
                Part::Whole(answer) => answer,
                Part::Open(open) if open.left == 0 => open.close(),
                Part::Open(open) => {
                    if self.open.len() >= DEPTH_MAX {
                        return Err(AnswerError::Depth);
                    }
                    self.open.push(open);
                    continue;
                }
            };
            loop {
                let Some(mut open) = self.open.pop() else {
                    return Ok(Some((answer, at)));
                };
                open.members.push(answer);
                open.left -= 1;
                if open.left > 0 {
                    self.open.push(open);
                    break;
                }
                answer = open.close();
            }
        }
    }

    /// Reads the part at `self.at`: what it is, and the offset after it.
    fn part(&mut self, input: &[u8]) -> Result<Option<(Part, usize)>, AnswerError> {
        let Some((line, after)) = self.line(input)? else {
            return Ok(None);
        };
        let (Some((mark, text)), Some(rest)) = (line.split_first(), input.get(after..)) else {
            return Err(AnswerError::Mark(b'\r'));
        };
        let whole = |answer| Ok(Some((Part::Whole(answer), after)));
        match mark {
            b'+' => whole(Answer::Simple(text.to_vec())),
            b'-' => whole(Answer::Error(text.to_vec())),
            b',' => whole(Answer::Double(text.to_vec())),
            b'(' => whole(Answer::BigNumber(text.to_vec())),
            b':' => whole(Answer::Int(
                number::parse_i64(text).ok_or(AnswerError::Number)?,
            )),
            b'#' => match text {
                b"t" => whole(Answer::Bool(true)),
                b"f" => whole(Answer::Bool(false)),
                _ => Err(AnswerError::Malformed),
            },
            b'_' if text.is_empty() => whole(Answer::Null),
            b'$' if text == b"-1" => whole(Answer::Null),
            b'*' if text == b"-1" => whole(Answer::NullArray),
            b'$' | b'!' | b'=' => {
                let len = length(text, BULK_BYTES_MAX)?;
                let Some((body, end)) = rest.split_at_checked(len) else {
                    return Ok(None);
                };
                match end {
                    [b'\r', b'\n', ..] => {}
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err(AnswerError::End),
                }
                let answer = match mark {
                    b'$' => Answer::Bulk(body.to_vec()),
                    b'!' => Answer::Error(body.to_vec()),
                    _ => verbatim(body)?,
                };
                Ok(Some((Part::Whole(answer), after + len + 2)))
            }
            b'*' => opened(Shape::Array, text, after),
            b'~' => opened(Shape::Set, text, after),
            b'>' => opened(Shape::Push, text, after),
            b'%' => opened(Shape::Map, text, after),
            b'|' => opened(Shape::Attribute, text, after),
            other => Err(AnswerError::Mark(*other)),
        }
    }

    /// The line at `self.at` without its end, and the offset after it.
    fn line<'i>(&mut self, input: &'i [u8]) -> Result<Option<(&'i [u8], usize)>, AnswerError> {
        let from = self.searched.clamp(self.at, input.len().max(self.at));
        let fresh = input.get(from..).unwrap_or_default();
        let end = memchr::memchr(b'\n', fresh).map(|offset| from + offset);
        if end.unwrap_or(input.len()).saturating_sub(self.at) > LINE_BYTES_MAX {
            return Err(AnswerError::LineTooLong);
        }
        let Some(end) = end else {
            self.searched = input.len();
            return Ok(None);
        };
        let line = input
            .get(self.at..end)
            .and_then(|line| line.strip_suffix(b"\r"));
        line.map(|line| Some((line, end + 1)))
            .ok_or(AnswerError::End)
    }
}

impl Open {
    fn close(self) -> Answer {
        match self.shape {
            Shape::Array => Answer::Array(self.members),
            Shape::Set => Answer::Set(self.members),
            Shape::Push => Answer::Push(self.members),
            Shape::Map => Answer::Map(paired(self.members)),
            Shape::Attribute => {
                let mut members = self.members;
                let of = Box::new(members.pop().unwrap_or(Answer::Null));
                Answer::Attribute {
                    pairs: paired(members),
                    of,
                }
            }
        }
    }
}

fn opened(shape: Shape, count: &[u8], after: usize) -> Result<Option<(Part, usize)>, AnswerError> {
    let count = length(count, MEMBERS_MAX)?;
    let left = match shape {
        Shape::Array | Shape::Set | Shape::Push => count,
        Shape::Map => count.saturating_mul(2),
        // What the remarks are about is its last member.
        Shape::Attribute => count.saturating_mul(2).saturating_add(1),
    };
    let members = Vec::with_capacity(left.min(MEMBERS_RESERVED_MAX));
    Ok(Some((
        Part::Open(Open {
            shape,
            left,
            members,
        }),
        after,
    )))
}

fn length(text: &[u8], max: usize) -> Result<usize, AnswerError> {
    let length = number::parse_i64(text).ok_or(AnswerError::Number)?;
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= max)
        .ok_or(AnswerError::Length)
}

fn verbatim(body: &[u8]) -> Result<Answer, AnswerError> {
    match body {
        [a, b, c, b':', text @ ..] => Ok(Answer::Verbatim {
            format: [*a, *b, *c],
            text: text.to_vec(),
        }),
        _ => Err(AnswerError::Malformed),
    }
}

fn paired(members: Vec<Answer>) -> Vec<(Answer, Answer)> {
    let mut pairs = Vec::with_capacity(members.len() / 2);
    let mut members = members.into_iter();
    while let (Some(key), Some(value)) = (members.next(), members.next()) {
        pairs.push((key, value));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::{Answer, AnswerError, AnswerParser, DEPTH_MAX};

    fn parse(input: &str) -> Result<Option<(Answer, usize)>, AnswerError> {
        AnswerParser::default().parse(input.as_bytes())
    }

    fn bulk(text: &str) -> Answer {
        Answer::Bulk(text.into())
    }

    #[test]
    fn every_kind() {
        let table = [
            ("+OK\r\n", Answer::Simple(b"OK".to_vec())),
            ("-ERR no\r\n", Answer::Error(b"ERR no".to_vec())),
            ("!6\r\nERR no\r\n", Answer::Error(b"ERR no".to_vec())),
            (":-7\r\n", Answer::Int(-7)),
            ("$3\r\na\rb\r\n", bulk("a\rb")),
            ("$-1\r\n", Answer::Null),
            ("_\r\n", Answer::Null),
            ("*-1\r\n", Answer::NullArray),
            ("*0\r\n", Answer::Array(vec![])),
            (
                "*2\r\n*1\r\n:1\r\n$0\r\n\r\n",
                Answer::Array(vec![Answer::Array(vec![Answer::Int(1)]), bulk("")]),
            ),
            (
                "%1\r\n+a\r\n:1\r\n",
                Answer::Map(vec![(Answer::Simple(b"a".to_vec()), Answer::Int(1))]),
            ),
            ("~1\r\n#t\r\n", Answer::Set(vec![Answer::Bool(true)])),
            (">1\r\n#f\r\n", Answer::Push(vec![Answer::Bool(false)])),
            (",1.5\r\n", Answer::Double(b"1.5".to_vec())),
            ("(123\r\n", Answer::BigNumber(b"123".to_vec())),
            (
                "=5\r\ntxt:x\r\n",
                Answer::Verbatim {
                    format: *b"txt",
                    text: b"x".to_vec(),
                },
            ),
            (
                "|1\r\n+a\r\n:1\r\n:2\r\n",
                Answer::Attribute {
                    pairs: vec![(Answer::Simple(b"a".to_vec()), Answer::Int(1))],
                    of: Box::new(Answer::Int(2)),
                },
            ),
        ];
        for (input, answer) in table {
            assert_eq!(parse(input), Ok(Some((answer, input.len()))), "{input:?}");
            for end in 0..input.len() {
                assert_eq!(parse(&input[..end]), Ok(None), "{:?}", &input[..end]);
            }
        }
    }

    #[test]
    fn what_is_not_an_answer() {
        let table = [
            ("?1\r\n", AnswerError::Mark(b'?')),
            ("\r\n", AnswerError::Mark(b'\r')),
            ("+OK\n", AnswerError::End),
            (":x\r\n", AnswerError::Number),
            ("$1\r\nxyz", AnswerError::End),
            ("$-2\r\n", AnswerError::Length),
            ("$1000000000\r\n", AnswerError::Length),
            ("*?\r\n", AnswerError::Number),
            ("#x\r\n", AnswerError::Malformed),
            ("=2\r\nxx\r\n", AnswerError::Malformed),
        ];
        for (input, error) in table {
            assert_eq!(parse(input), Err(error), "{input:?}");
        }
        assert_eq!(
            parse(&"*1\r\n".repeat(DEPTH_MAX + 1)),
            Err(AnswerError::Depth)
        );
        assert_eq!(parse(&"*1\r\n".repeat(DEPTH_MAX)), Ok(None));
        assert_eq!(
            parse(&"+".repeat(super::LINE_BYTES_MAX + 2)),
            Err(AnswerError::LineTooLong)
        );
    }

    #[test]
    fn a_claimed_count_makes_no_room() {
        let mut parser = AnswerParser::default();
        assert_eq!(parser.parse(b"*4000000000\r\n"), Ok(None));
        assert!(parser.open[0].members.capacity() < 1000);
    }
}
