//! Hot path. `Reply`: the only place that emits RESP, versions 2 and 3.
//!
//! It appends to a byte buffer. What version 2 lacks is written as Redis writes it to old clients:
//! a map is an array of twice as many, a double is a bulk string, and so on.

use crate::number;
use crate::refusal::Refusal;

/// The protocol version that the client has asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resp {
    /// RESP2, at the beginning of every connection.
    V2,
    /// RESP3, after `HELLO 3`.
    V3,
}

/// The place of an aggregate's header whose count is not known yet.
///
/// Nested ones are completed from the inside out: completing one may move what is behind it.
#[derive(Debug)]
#[must_use = "without its header the reply is not RESP"]
pub struct Later {
    at: usize,
}

/// Bytes set aside by `later`: a header with a count of one digit, `*3\r\n`.
const LATER_BYTES: usize = 4;

/// Writes one reply behind what a buffer already holds.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    resp: Resp,
}

impl<'a> Reply<'a> {
    /// A writer that appends to `out`.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>, resp: Resp) -> Self {
        Self { out, resp }
    }

    /// The version it writes.
    #[inline]
    pub fn resp(&self) -> Resp {
        self.resp
    }

    /// `+OK`
    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A status line; `text` has no line break.
    #[inline]
    pub fn simple(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']));
        self.line(b'+', text.as_bytes());
    }

    /// An integer.
    #[inline]
    pub fn int(&mut self, n: i64) {
        match u8::try_from(n) {
            Ok(digit @ 0..=9) => self
                .out
                .extend_from_slice(&[b':', b'0' + digit, b'\r', b'\n']),
            _ => self.line(b':', itoa::Buffer::new().format(n).as_bytes()),
        }
    }

    /// A string of any bytes.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(bytes.len().saturating_add(32));
        self.header(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// An integer as a string.
    #[inline]
    pub fn bulk_int(&mut self, n: i64) {
        self.bulk(itoa::Buffer::new().format(n).as_bytes());
    }

    /// Nothing, where a string might have been.
    #[inline]
    pub fn null(&mut self) {
        self.out.extend_from_slice(match self.resp {
            Resp::V2 => b"$-1\r\n",
            Resp::V3 => b"_\r\n",
        });
    }

    /// Nothing, where an array might have been.
    #[inline]
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(match self.resp {
            Resp::V2 => b"*-1\r\n",
            Resp::V3 => b"_\r\n",
        });
    }

    /// The header of an array; its `n` members are written next.
    #[inline]
    pub fn array(&mut self, n: usize) {
        self.header(b'*', n);
    }

    /// The header of a map; key and value of each pair are written next.
    #[inline]
    pub fn map(&mut self, pairs: usize) {
        let (mark, count) = self.map_header(pairs);
        self.header(mark, count);
    }

    /// The header of a set; its `n` members are written next.
    #[inline]
    pub fn set(&mut self, n: usize) {
        self.header(self.set_mark(), n);
    }

    /// The header of a message that is not a reply; its `n` members are written next.
    #[inline]
    pub fn push(&mut self, n: usize) {
        let mark = match self.resp {
            Resp::V2 => b'*',
            Resp::V3 => b'>',
        };
        self.header(mark, n);
    }

    /// A double, see `number::write_f64`.
    #[inline]
    pub fn double(&mut self, d: f64) {
        let text = number::F64Text::new(d);
        match self.resp {
            Resp::V2 => self.bulk(text.as_bytes()),
            Resp::V3 => self.line(b',', text.as_bytes()),
        }
    }

    /// A double that is a text already.
    pub fn double_text(&mut self, text: &[u8]) {
        match self.resp {
            Resp::V2 => self.bulk(text),
            Resp::V3 => self.line(b',', text),
        }
    }

    /// A truth value; version 2 writes 1 or 0.
    #[inline]
    pub fn bool(&mut self, b: bool) {
        self.out.extend_from_slice(match (self.resp, b) {
            (Resp::V2, true) => b":1\r\n",
            (Resp::V2, false) => b":0\r\n",
            (Resp::V3, true) => b"#t\r\n",
            (Resp::V3, false) => b"#f\r\n",
        });
    }

    /// Text for people; `format` is three letters, "txt" or "mkd".
    pub fn verbatim(&mut self, format: &str, bytes: &[u8]) {
        debug_assert_eq!(format.len(), 3);
        if self.resp == Resp::V2 {
            return self.bulk(bytes);
        }
        self.header(b'=', bytes.len().saturating_add(format.len() + 1));
        self.out.extend_from_slice(format.as_bytes());
        self.out.push(b':');
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// An integer of any size, as decimal digits.
    pub fn big_number(&mut self, digits: &str) {
        match self.resp {
            Resp::V2 => self.bulk(digits.as_bytes()),
            Resp::V3 => self.line(b'(', digits.as_bytes()),
        }
    }

    /// A refusal.
    pub fn error(&mut self, refusal: &Refusal) {
        self.out.push(b'-');
        refusal.write(self.out);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Sets a place aside for the header of an aggregate, to be completed by `array_at`, `map_at`
    /// or `set_at`.
    #[inline]
    pub fn later(&mut self) -> Later {
        let at = self.out.len();
        self.out.extend_from_slice(&[0; LATER_BYTES]);
        Later { at }
    }

    /// Completes an array of `n` members.
    pub fn array_at(&mut self, later: Later, n: usize) {
        self.header_at(later, b'*', n);
    }

    /// Completes a map of `pairs` pairs.
    pub fn map_at(&mut self, later: Later, pairs: usize) {
        let (mark, count) = self.map_header(pairs);
        self.header_at(later, mark, count);
    }

    /// Completes a set of `n` members.
    pub fn set_at(&mut self, later: Later, n: usize) {
        self.header_at(later, self.set_mark(), n);
    }

    /// The present end, to come back to by `rewind`.
    #[inline]
    pub fn mark(&self) -> usize {
        self.out.len()
    }

    /// Drops what was written since `mark`.
    #[inline]
    pub fn rewind(&mut self, mark: usize) {
        self.out.truncate(mark);
    }

    /// Appends what is already RESP of this version.
    #[inline]
    pub fn raw(&mut self, encoded: &[u8]) {
        self.out.extend_from_slice(encoded);
    }

    fn map_header(&self, pairs: usize) -> (u8, usize) {
        match self.resp {
            Resp::V2 => (b'*', pairs.saturating_mul(2)),
            Resp::V3 => (b'%', pairs),
        }
    }

    fn set_mark(&self) -> u8 {
        match self.resp {
            Resp::V2 => b'*',
            Resp::V3 => b'~',
        }
    }

    /// Writes `mark`, a count and the line's end.
    #[inline]
    fn header(&mut self, mark: u8, count: usize) {
        match u8::try_from(count) {
            Ok(n @ 0..=9) => self.out.extend_from_slice(&[mark, b'0' + n, b'\r', b'\n']),
            Ok(n @ 10..=99) => {
                self.out
                    .extend_from_slice(&[mark, b'0' + n / 10, b'0' + n % 10, b'\r', b'\n']);
            }
            _ => self.line(mark, itoa::Buffer::new().format(count).as_bytes()),
        }
    }

    /// Writes `mark`, some text and the line's end.
    #[inline]
    fn line(&mut self, mark: u8, text: &[u8]) {
        self.out.reserve(text.len().saturating_add(3));
        self.out.push(mark);
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Writes a header where `later` left room. Longer ones than expected move what is behind.
    fn header_at(&mut self, later: Later, mark: u8, count: usize) {
        let end = later.at + LATER_BYTES;
        debug_assert!(
            end <= self.out.len(),
            "rewound past a header that is now completed"
        );
        if end <= self.out.len() {
            let mut digits = itoa::Buffer::new();
            let digits = digits.format(count).as_bytes();
            let header = [mark]
                .into_iter()
                .chain(digits.iter().copied())
                .chain(*b"\r\n");
            drop(self.out.splice(later.at..end, header));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Reply, Resp};
    use crate::refusal::Refusal;

    fn written(resp: Resp, write: impl FnOnce(&mut Reply<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Reply::new(&mut out, resp));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_kind_in_both_versions() {
        type Write = fn(&mut Reply<'_>);
        let table: &[(Write, &str, &str)] = &[
            (|r| r.ok(), "+OK\r\n", "+OK\r\n"),
            (|r| r.simple("PONG"), "+PONG\r\n", "+PONG\r\n"),
            (|r| r.int(7), ":7\r\n", ":7\r\n"),
            (|r| r.int(-1), ":-1\r\n", ":-1\r\n"),
            (
                |r| r.int(i64::MIN),
                ":-9223372036854775808\r\n",
                ":-9223372036854775808\r\n",
            ),
            (|r| r.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (
                |r| r.bulk(b"0123456789"),
                "$10\r\n0123456789\r\n",
                "$10\r\n0123456789\r\n",
            ),
            (|r| r.bulk_int(-12), "$3\r\n-12\r\n", "$3\r\n-12\r\n"),
            (|r| r.null(), "$-1\r\n", "_\r\n"),
            (|r| r.null_array(), "*-1\r\n", "_\r\n"),
            (|r| r.array(100), "*100\r\n", "*100\r\n"),
            (|r| r.map(2), "*4\r\n", "%2\r\n"),
            (|r| r.set(99), "*99\r\n", "~99\r\n"),
            (|r| r.push(3), "*3\r\n", ">3\r\n"),
            (|r| r.double(0.1), "$3\r\n0.1\r\n", ",0.1\r\n"),
            (
                |r| r.double(f64::NEG_INFINITY),
                "$4\r\n-inf\r\n",
                ",-inf\r\n",
            ),
            (|r| r.bool(true), ":1\r\n", "#t\r\n"),
            (|r| r.bool(false), ":0\r\n", "#f\r\n"),
            (
                |r| r.verbatim("txt", b"hello"),
                "$5\r\nhello\r\n",
                "=9\r\ntxt:hello\r\n",
            ),
            (|r| r.big_number("123"), "$3\r\n123\r\n", "(123\r\n"),
            (
                |r| r.error(&Refusal::Syntax),
                "-ERR syntax error\r\n",
                "-ERR syntax error\r\n",
            ),
            (|r| r.raw(b":1\r\n"), ":1\r\n", ":1\r\n"),
        ];
        for (write, v2, v3) in table {
            assert_eq!(written(Resp::V2, write), *v2);
            assert_eq!(written(Resp::V3, write), *v3);
        }
        assert_eq!(
            written(Resp::V2, |r| r.bulk(&[b'x'; 12345]))[..8],
            *"$12345\r\n"
        );
    }

    #[test]
    fn headers_are_completed_later() {
        for (members, header) in [
            (0, "*0\r\n"),
            (9, "*9\r\n"),
            (10, "*10\r\n"),
            (1234, "*1234\r\n"),
        ] {
            let text = written(Resp::V3, |reply| {
                reply.ok();
                let later = reply.later();
                (0..members).for_each(|_| reply.int(1));
                reply.array_at(later, members);
                reply.ok();
            });
            assert_eq!(
                text,
                format!("+OK\r\n{header}{}+OK\r\n", ":1\r\n".repeat(members))
            );
        }
        let text = written(Resp::V3, |reply| {
            let outer = reply.later();
            let inner = reply.later();
            (0..24).for_each(|_| reply.int(1));
            reply.map_at(inner, 12);
            reply.set_at(outer, 1);
        });
        assert_eq!(text, format!("~1\r\n%12\r\n{}", ":1\r\n".repeat(24)));
        assert_eq!(
            written(Resp::V2, |r| {
                let l = r.later();
                r.map_at(l, 6)
            }),
            "*12\r\n"
        );
    }

    #[test]
    fn a_half_written_reply_is_dropped() {
        let text = written(Resp::V2, |reply| {
            reply.ok();
            let mark = reply.mark();
            reply.array(2);
            reply.int(1);
            reply.rewind(mark);
            reply.error(&Refusal::NoSuchKey);
        });
        assert_eq!(text, "+OK\r\n-ERR no such key\r\n");
    }
}
