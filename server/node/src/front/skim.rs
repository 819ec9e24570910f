//! Where a reply ends: the source's replies go through as they are, so nothing of them is built here.
//!
//! ```text
//! *2 ......... two more values
//!   $5 ....... then 7 bytes that nobody looks at
//!   %1 ....... two more values, inside
//! ```
//! Works on bytes as they arrive, in pieces of any size, and keeps a few words of them at most. The source may be wrong or hostile:
//! nesting, lines and lengths are bounded.

use protocol::answer::{AnswerError, BULK_BYTES_MAX, DEPTH_MAX, LINE_BYTES_MAX, MEMBERS_MAX};
use protocol::number;

/// Bytes of a line that says a length.
const HEADER_BYTES_MAX: usize = 32;

/// What is remembered of ONE reply that has arrived in part.
#[derive(Debug, Default)]
pub(super) struct Skim {
    /// Values that are still to come, of each aggregate that is not complete; the outermost first.
    open: Vec<usize>,
    /// Bytes of a string that are still to come, its end included.
    skip: usize,
    /// The line that has not ended: its mark, its first bytes if they say a length, and how many there are.
    mark: Option<u8>,
    header: Vec<u8>,
    line_bytes: usize,
}

impl Skim {
    /// Takes bytes that have arrived: how many of them belong to the reply, and whether it ends with them.
    ///
    /// # Errors
    /// If they are no reply; the connection cannot be used further.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(usize, bool), AnswerError> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.skip > 0 {
                let taken = self.skip.min(rest.len());
                self.skip -= taken;
                at += taken;
                if self.skip == 0 && self.end_value() {
                    return Ok((at, true));
                }
                continue;
            }
            let end = memchr::memchr(b'\n', rest);
            let taken = end.map_or(rest.len(), |end| end + 1);
            self.take_line(&rest[..taken])?;
            at += taken;
            if end.is_some() && self.end_line()? {
                return Ok((at, true));
            }
        }
        Ok((at, false))
    }

    /// Takes a part of a line.
    fn take_line(&mut self, part: &[u8]) -> Result<(), AnswerError> {
        let mut text = part;
        if self.mark.is_none() {
            self.mark = part.first().copied();
            text = part.get(1..).unwrap_or_default();
        }
        self.line_bytes += part.len();
        if self.line_bytes > LINE_BYTES_MAX {
            return Err(AnswerError::LineTooLong);
        }
        let room = HEADER_BYTES_MAX.saturating_sub(self.header.len());
        self.header.extend_from_slice(&text[..text.len().min(room)]);
        Ok(())
    }

    /// A line has ended; whether the reply has.
    fn end_line(&mut self) -> Result<bool, AnswerError> {
        let mark = self.mark.take().unwrap_or(b'\n');
        let header = core::mem::take(&mut self.header);
        self.line_bytes = 0;
        let text = header.strip_suffix(b"\r\n").unwrap_or(&header);
        match mark {
            b'+' | b'-' | b',' | b'(' | b':' | b'#' | b'_' => return Ok(self.end_value()),
            b'$' | b'*' if text == b"-1" => return Ok(self.end_value()),
            b'$' | b'!' | b'=' => self.skip = length(text, BULK_BYTES_MAX)? + 2,
            b'*' | b'~' | b'>' => return self.open(length(text, MEMBERS_MAX)?),
            b'%' => return self.open(length(text, MEMBERS_MAX)?.saturating_mul(2)),
            // What the remarks are about comes behind them.
            b'|' => {
                let pairs = length(text, MEMBERS_MAX)?;
                return self.open(pairs.saturating_mul(2).saturating_add(1));
            }
            other => return Err(AnswerError::Mark(other)),
        }
        Ok(false)
    }

    fn open(&mut self, values: usize) -> Result<bool, AnswerError> {
        if values == 0 {
            return Ok(self.end_value());
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(AnswerError::Depth);
        }
        self.open.push(values);
        Ok(false)
    }

    /// A value is complete, and with it perhaps those around it; whether the reply is.
    fn end_value(&mut self) -> bool {
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }
}

fn length(text: &[u8], max: usize) -> Result<usize, AnswerError> {
    let length = number::parse_i64(text).ok_or(AnswerError::Number)?;
    let length = usize::try_from(length).ok();
    length
        .filter(|length| *length <= max)
        .ok_or(AnswerError::Length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLIES: [&str; 14] = [
        "+OK\r\n",
        "-ERR no\r\n",
        ":12\r\n",
        "$-1\r\n",
        "*-1\r\n",
        "_\r\n",
        "$0\r\n\r\n",
        "$4\r\na\r\nb\r\n",
        "*0\r\n",
        "*2\r\n$1\r\na\r\n*2\r\n:1\r\n*1\r\n+x\r\n",
        "%1\r\n+k\r\n~2\r\n#t\r\n,1.5\r\n",
        "|1\r\n+k\r\n:1\r\n$2\r\nhi\r\n",
        "=7\r\ntxt:abc\r\n",
        ">2\r\n+a\r\n%0\r\n",
    ];

    #[test]
    fn replies_end_where_they_end_however_they_arrive() {
        let all: String = REPLIES.concat();
        let mut ends = Vec::new();
        for reply in REPLIES {
            ends.push(ends.last().unwrap_or(&0) + reply.len());
        }
        for piece in 1..=all.len() {
            let (mut skim, mut found, mut at) = (Skim::default(), Vec::new(), 0);
            for chunk in all.as_bytes().chunks(piece) {
                let mut rest = chunk;
                while !rest.is_empty() {
                    let (used, done) = skim.feed(rest).unwrap();
                    at += used;
                    rest = &rest[used..];
                    if done {
                        found.push(at);
                    }
                }
            }
            assert_eq!(found, ends, "pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        let deep = "*1\r\n".repeat(DEPTH_MAX + 1);
        let long = format!("+{}\r\n", "x".repeat(LINE_BYTES_MAX));
        let table = [
            ("HTTP/1.1\r\n", AnswerError::Mark(b'H')),
            ("\r\n", AnswerError::Mark(b'\r')),
            ("$x\r\n", AnswerError::Number),
            ("$-2\r\n", AnswerError::Length),
            ("$999999999999\r\n", AnswerError::Length),
            (&deep, AnswerError::Depth),
            (&long, AnswerError::LineTooLong),
        ];
        for (bytes, error) in table {
            assert_eq!(Skim::default().feed(bytes.as_bytes()), Err(error));
        }
    }
}
