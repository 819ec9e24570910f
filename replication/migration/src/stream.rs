//! A source's stream cut into requests, each with the offset behind it.
//!
//! ```text
//! bytes ── feed ──> [ SELECT 0 | SET k v | MULTI | INCR n | LPUSH l x | EXEC | PING | REPLCONF GETACK * | … half a request ]
//!                         next() ──> Said::Request  …  Begin …            End   Nothing  Ack                 None
//! ```
//! An offset may be kept, and gone on from, where [`Stream::is_between`] says so: not inside a transaction. Memory grows with bytes that
//! have come, never with what they say; what is not a request of a stream ends it, with the offset.

use core::fmt;

use protocol::{Args, Limits, Parsed, Parser, ProtocolError, Word, number};

/// Buffers of more bytes are given back when they are empty.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// A primary's requests have no bound of their own: what the parser can hold.
const LIMITS: Limits = Limits {
    bulk_bytes_max: u32::MAX as u64,
    ..Limits::DEFAULT
};

/// A request of the stream.
#[derive(Debug)]
pub enum Said<'a> {
    /// To be executed; SELECT is among them.
    Request(Args<'a>),
    /// A transaction begins: nothing of it is executed before its end.
    Begin,
    /// It ends.
    End,
    /// The source wants to know how far this replica has come.
    Ack,
    /// A sign of life.
    Nothing,
}

/// The stream cannot be understood from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The replication offset before the request that is wrong.
    pub offset: u64,
    /// What is wrong.
    pub what: Wrong,
}

/// See [`Damage`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after what they say")]
pub enum Wrong {
    Bytes(ProtocolError),
    Inline,
    NestedMulti,
    LoneExec,
    Database(String),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the source's stream is damaged behind offset {}: ",
            self.offset
        )?;
        match &self.what {
            Wrong::Bytes(error) => {
                let mut text = Vec::new();
                error.write(&mut text);
                f.write_str(String::from_utf8_lossy(&text).trim_start_matches("ERR "))
            }
            Wrong::Inline => f.write_str("an inline request"),
            Wrong::NestedMulti => f.write_str("a MULTI inside of another"),
            Wrong::LoneExec => f.write_str("an EXEC without its MULTI"),
            Wrong::Database(name) => write!(f, "SELECT of the database '{name}'"),
        }
    }
}

impl core::error::Error for Damage {}

/// See the module's head.
pub struct Stream {
    buf: Vec<u8>,
    /// Bytes of it that are done with.
    at: usize,
    parser: Parser,
    words: Vec<Word>,
    offset: u64,
    db: u64,
    in_multi: bool,
}

impl Stream {
    /// Goes on behind this offset, where this database was selected.
    pub fn new(offset: u64, db: u8) -> Stream {
        Stream {
            buf: Vec::new(),
            at: 0,
            parser: Parser::default(),
            words: Vec::new(),
            offset,
            db: db.into(),
            in_multi: false,
        }
    }

    /// The offset behind what has been told.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The database that is selected there; the source may have more of them than this server.
    pub fn db(&self) -> u64 {
        self.db
    }

    /// Whether what has been told ends outside of a transaction.
    pub fn is_between(&self) -> bool {
        !self.in_multi
    }

    /// Bytes of a request that is not whole yet, and of those that have not been asked for.
    pub fn waiting_bytes(&self) -> usize {
        self.buf.len() - self.at
    }

    /// Takes bytes in.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at == self.buf.len() && self.buf.capacity() > KEPT_BYTES_MAX {
            self.buf = Vec::new();
        } else {
            self.buf.drain(..self.at);
        }
        self.at = 0;
        self.buf.extend_from_slice(bytes);
    }

    /// The next request; none before more has come.
    ///
    /// # Errors
    /// [`Damage`]
    #[allow(
        clippy::should_implement_trait,
        reason = "what it tells is borrowed from it"
    )]
    pub fn next(&mut self) -> Result<Option<Said<'_>>, Damage> {
        self.words.clear();
        let rest = self.buf.get(self.at..).unwrap_or_default();
        let damage = |offset, what| Err(Damage { offset, what });
        match rest.first() {
            None => return Ok(None),
            // (Newlines are signs of life. Anything else would be waited for as an inline request, for a line's end that may never come.)
            Some(b'*' | b'\r' | b'\n') => {}
            Some(_) => return damage(self.offset, Wrong::Inline),
        }
        let (bytes, is_empty) = match self.parser.parse(rest, &LIMITS, &mut self.words) {
            Parsed::Request { consumed } => (consumed, false),
            Parsed::Empty { consumed } => (consumed, true),
            Parsed::Incomplete { .. } => return Ok(None),
            Parsed::Inline { .. } => return damage(self.offset, Wrong::Inline),
            Parsed::Invalid { error } => return damage(self.offset, Wrong::Bytes(error)),
        };
        let args = Args::new(rest, &self.words);
        let is = |at: usize, name: &[u8]| {
            args.word(at)
                .is_some_and(|word| word.eq_ignore_ascii_case(name))
        };
        // A line without `*` is inline also when it has no quotes.
        if !is_empty && rest.first() != Some(&b'*') {
            return damage(self.offset, Wrong::Inline);
        }
        let said = if is_empty || is(0, b"PING") {
            Said::Nothing
        } else if is(0, b"REPLCONF") {
            if is(1, b"GETACK") {
                Said::Ack
            } else {
                Said::Nothing
            }
        } else if is(0, b"MULTI") {
            if core::mem::replace(&mut self.in_multi, true) {
                return damage(self.offset, Wrong::NestedMulti);
            }
            Said::Begin
        } else if is(0, b"EXEC") {
            if !core::mem::replace(&mut self.in_multi, false) {
                return damage(self.offset, Wrong::LoneExec);
            }
            Said::End
        } else {
            if is(0, b"SELECT") {
                let word = args.word(1).unwrap_or_default();
                let db = number::parse_i64(word).and_then(|db| u64::try_from(db).ok());
                match db {
                    Some(db) => self.db = db,
                    None => {
                        return damage(
                            self.offset,
                            Wrong::Database(String::from_utf8_lossy(word).into_owned()),
                        );
                    }
                }
            }
            Said::Request(args)
        };
        self.at += bytes;
        self.offset += bytes as u64;
        Ok(Some(said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(said: &Said<'_>) -> String {
        match said {
            Said::Request(args) => {
                let words = (0..args.total()).filter_map(|at| args.word(at));
                words
                    .map(|word| String::from_utf8_lossy(word).into_owned())
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            other => format!("<{other:?}>"),
        }
    }

    fn encoded(requests: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for text in requests {
            let words: Vec<&str> = text.split(' ').collect();
            protocol::request::encode(&words, &mut bytes);
        }
        bytes
    }

    #[test]
    fn requests_come_with_their_offsets() {
        let says = [
            "SELECT 3",
            "SET k v",
            "multi",
            "INCR n",
            "EXEC",
            "PING",
            "replconf getack *",
            "PUBLISH c m",
        ];
        let bytes = encoded(&says);
        for step in [1, 5, 1000] {
            let mut stream = Stream::new(100, 0);
            let (mut told, mut ends) = (Vec::new(), Vec::new());
            for piece in bytes.chunks(step) {
                stream.feed(piece);
                while let Some(said) = stream.next().unwrap() {
                    told.push(shown(&said));
                    ends.push((stream.offset(), stream.is_between()));
                }
            }
            assert_eq!(
                told,
                [
                    "SELECT 3",
                    "SET k v",
                    "<Begin>",
                    "INCR n",
                    "<End>",
                    "<Nothing>",
                    "<Ack>",
                    "PUBLISH c m"
                ]
            );
            let mut at = 100;
            for (end, (say, between)) in ends.iter().zip(
                says.iter()
                    .zip([true, true, false, false, true, true, true, true]),
            ) {
                at += encoded(&[*say]).len() as u64;
                assert_eq!(*end, (at, between), "{say}");
            }
            assert_eq!((stream.db(), stream.waiting_bytes()), (3, 0));
        }
    }

    #[test]
    fn a_request_that_is_not_whole_waits() {
        let bytes = encoded(&["SET k v"]);
        let mut stream = Stream::new(0, 0);
        stream.feed(&bytes[..bytes.len() - 1]);
        assert!(stream.next().unwrap().is_none());
        assert_eq!(
            (stream.offset(), stream.waiting_bytes()),
            (0, bytes.len() - 1)
        );
        stream.feed(&bytes[bytes.len() - 1..]);
        assert!(stream.next().unwrap().is_some());
        assert_eq!(stream.offset(), bytes.len() as u64);
        // A newline counts, and says nothing.
        stream.feed(b"\r\n");
        assert!(matches!(stream.next(), Ok(Some(Said::Nothing))));
        assert_eq!(stream.offset(), bytes.len() as u64 + 2);
    }

    #[test]
    fn damage_is_told_with_its_offset() {
        for (says, part) in [
            (b"*1\r\n:5\r\n".to_vec(), "expected '$'"),
            (b"*99999999999\r\n".to_vec(), "multibulk length"),
            (b"*1\r\n$-7\r\n".to_vec(), "bulk length"),
            (b"SET k v\r\n".to_vec(), "inline"),
            (b"SET k \"v\"\r\n".to_vec(), "inline"),
            // Was waited for until the link was silent for too long.
            (b"\0\xffnoise\r\n".to_vec(), "inline"),
            (b"noise without an end".to_vec(), "inline"),
            (encoded(&["MULTI", "MULTI"]), "inside of another"),
            (encoded(&["EXEC"]), "without its MULTI"),
            (encoded(&["SELECT x"]), "'x'"),
            (encoded(&["SELECT -1"]), "'-1'"),
        ] {
            let mut stream = Stream::new(1000, 0);
            let good = encoded(&["SET k v"]);
            stream.feed(&[good.clone(), says.clone()].concat());
            assert!(stream.next().unwrap().is_some());
            let damage = loop {
                match stream.next() {
                    Ok(said) => assert!(said.is_some(), "{part}"),
                    Err(damage) => break damage,
                }
            };
            assert!(damage.offset >= 1000 + good.len() as u64, "{damage}");
            assert!(damage.to_string().contains(part), "{damage}");
        }
    }
}
