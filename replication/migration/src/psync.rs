//! The replica's side of PSYNC, as Redis 6.2 to 7.2 speak it: from the first PING to the stream.
//!
//! ```text
//! PING                                   +PONG        (or that one must log in first)
//! [AUTH user password]                   +OK
//! TIME                                   *2 …         the source's clock; whoever may not ask is not told
//! REPLCONF listening-port p              +OK
//! [REPLCONF ip-address a]                +OK
//! REPLCONF capa eof capa psync2          +OK
//! REPLCONF version v                     +OK          (an error is no harm, as of the two before)
//! PSYNC replid offset | PSYNC ? -1       \n \n …      signs of life
//!                                        +CONTINUE [replid]              the stream follows
//!                                        +FULLRESYNC replid offset
//!                                        \n \n … $len | $EOF:mark        the file follows, and then, with a mark behind REPLCONF ACK, the stream
//! ```
//! [`Handshake`] reads lines, [`Receiving`] the file. Both meet bytes of a server that may be wrong or hostile: a line has a longest length,
//! and nothing is kept of the file but its last 40 bytes.

use core::fmt;

use protocol::{number, request};

use crate::position::{Position, ReplId};

/// Bytes of a line of the source.
const LINE_BYTES_MAX: usize = 4096;
/// Bytes of the mark behind a file whose length the source did not know.
pub const MARK_BYTES: usize = 40;

/// What the source is told of this replica, and asked for.
#[derive(Clone, Default)]
pub struct Hello {
    /// The user to log in as; empty for the default user.
    pub user: Vec<u8>,
    /// Its password; empty: nobody logs in.
    pub password: Vec<u8>,
    /// The port under which this server shows itself.
    pub port: u16,
    /// The address under which it does; empty for the one of the link.
    pub address: String,
    /// The version of Redis that this server behaves as.
    pub version: &'static str,
    /// What the data here is as of; none for a full copy.
    pub from: Option<Position>,
}

/// Why there is no stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A line without an end.
    Line,
    /// An answer that is none to what was asked.
    Answer(&'static str, String),
    /// The source does not let this server in.
    Login(String),
    /// The source cannot serve replicas at the moment.
    Later(String),
    /// The source does not serve replicas.
    Refused(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Line => write!(
                f,
                "the source has sent a line of more than {LINE_BYTES_MAX} bytes: it is no Redis"
            ),
            Fault::Answer(to, line) => write!(f, "the source answers {to} with '{line}'"),
            Fault::Login(line) => write!(
                f,
                "the source refuses AUTH: {line} (see masteruser and masterauth)"
            ),
            Fault::Later(line) => write!(f, "the source cannot serve a replica yet: {line}"),
            Fault::Refused(line) => write!(
                f,
                "the source refuses PSYNC: {line} (its user needs the permissions +psync +replconf +ping; where PSYNC is barred for all: `meridian migrate start --by-scan`)"
            ),
        }
    }
}

impl core::error::Error for Fault {}

/// How far a handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The source has more to say.
    More,
    /// The stream follows, behind the offset that was asked with, perhaps under another name of the same history.
    Continue(Option<ReplId>),
    /// A file follows; the stream behind it begins at this position.
    Full(Position, FileEnd),
}

/// Where the file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileEnd {
    /// After so many bytes.
    Bytes(u64),
    /// At this mark.
    Mark([u8; MARK_BYTES]),
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Ping,
    Auth,
    Time(u8),
    /// The answer counts for nothing: what was asked.
    Told(&'static str),
    Psync,
    File(Position),
}

/// See the module's head.
pub struct Handshake {
    hello: Hello,
    line: Vec<u8>,
    stage: Stage,
    /// Those to come, the last first.
    ahead: Vec<Stage>,
    time_s: u64,
    /// The source's clock when it answered TIME, unix us; taken by whoever reads its own clock.
    pub time_us: Option<u64>,
    /// What the source did not understand, for the log.
    pub remarks: Vec<String>,
}

impl Handshake {
    /// Begins: what is to be sent first is appended to `out`.
    pub fn new(hello: Hello, out: &mut Vec<u8>) -> Handshake {
        request::encode(&["PING"], out);
        let mut ahead = vec![
            Stage::Psync,
            Stage::Told("REPLCONF version"),
            Stage::Told("REPLCONF capa"),
        ];
        if !hello.address.is_empty() {
            ahead.push(Stage::Told("REPLCONF ip-address"));
        }
        ahead.extend([Stage::Told("REPLCONF listening-port"), Stage::Time(0)]);
        if !hello.password.is_empty() {
            ahead.push(Stage::Auth);
        }
        Handshake {
            hello,
            line: Vec::new(),
            stage: Stage::Ping,
            ahead,
            time_s: 0,
            time_us: None,
            remarks: Vec::new(),
        }
    }

    /// Takes in what the source has sent; what is to be sent is appended to `out`. Returns how many bytes have been taken (behind an outcome
    /// that is not `More` they are those of the file, or of the stream), and what came of them.
    ///
    /// # Errors
    /// [`Fault`]: the link is of no use any more.
    pub fn take(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, Outcome), Fault> {
        let mut taken = 0;
        while let Some(rest) = input.get(taken..).filter(|rest| !rest.is_empty()) {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let bytes = end.map_or(rest.len(), |end| end + 1);
            taken += bytes;
            self.line.extend(rest.iter().take(bytes));
            if self.line.len() > LINE_BYTES_MAX {
                return Err(Fault::Line);
            }
            if end.is_none() {
                break;
            }
            let mut line = core::mem::take(&mut self.line);
            while line
                .last()
                .is_some_and(|byte| matches!(byte, b'\r' | b'\n'))
            {
                line.pop();
            }
            // (An empty one is a sign of life.)
            if line.is_empty() {
                continue;
            }
            match self.hear(&line, out)? {
                Outcome::More => {}
                outcome => return Ok((taken, outcome)),
            }
        }
        Ok((taken, Outcome::More))
    }

    fn hear(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<Outcome, Fault> {
        let text = || String::from_utf8_lossy(line).into_owned();
        match self.stage {
            Stage::Ping => {
                let lets_in = [
                    &b"+"[..],
                    b"-NOAUTH",
                    b"-NOPERM",
                    b"-ERR operation not permitted",
                ];
                if !lets_in.iter().any(|begin| line.starts_with(begin)) {
                    return Err(match line.first() {
                        Some(b'-') => later_or(line, Fault::Refused(text())),
                        _ => Fault::Answer("PING", text()),
                    });
                }
                self.tell(out);
            }
            Stage::Auth if line.first() == Some(&b'-') => return Err(Fault::Login(text())),
            Stage::Time(0) if line.first() == Some(&b'-') => {
                self.remarks.push(format!("TIME: {}", text()))
            }
            Stage::Time(lines) if lines < 4 => {
                self.take_time(lines, line)?;
                self.stage = Stage::Time(lines + 1);
                return Ok(Outcome::More);
            }
            Stage::Time(lines) => self.take_time(lines, line)?,
            Stage::Told(what) if line.first() == Some(&b'-') => {
                self.remarks.push(format!("{what}: {}", text()))
            }
            Stage::Auth | Stage::Told(_) => {}
            Stage::Psync => return self.hear_psync(line),
            Stage::File(position) => return hear_file(line, position),
        }
        if let Some(next) = self.ahead.pop() {
            self.stage = next;
        }
        if self.stage == Stage::Psync {
            self.ask(out);
        }
        Ok(Outcome::More)
    }

    /// All that follows PING and precedes PSYNC, in one go: the answers come in its order.
    fn tell(&self, out: &mut Vec<u8>) {
        let hello = &self.hello;
        if !hello.password.is_empty() {
            let words: [&[u8]; 3] = [b"AUTH", &hello.user, &hello.password];
            match hello.user.is_empty() {
                true => request::encode(&[words[0], words[2]], out),
                false => request::encode(&words, out),
            }
        }
        request::encode(&["TIME"], out);
        request::encode(
            &["REPLCONF", "listening-port", &hello.port.to_string()],
            out,
        );
        if !hello.address.is_empty() {
            request::encode(&["REPLCONF", "ip-address", &hello.address], out);
        }
        request::encode(&["REPLCONF", "capa", "eof", "capa", "psync2"], out);
        request::encode(&["REPLCONF", "version", hello.version], out);
    }

    fn ask(&self, out: &mut Vec<u8>) {
        match &self.hello.from {
            // It is asked for what follows the last byte that was executed.
            Some(from) => {
                let next = from.offset.saturating_add(1).to_string();
                request::encode(&["PSYNC", from.replid.text(), &next], out);
            }
            None => request::encode(&["PSYNC", "?", "-1"], out),
        }
    }

    /// A line of `*2 $10 seconds $6 microseconds`.
    fn take_time(&mut self, lines: u8, line: &[u8]) -> Result<(), Fault> {
        let number = || number::parse_i64(line).and_then(|n| u64::try_from(n).ok());
        let known = match lines {
            0 => line == b"*2",
            2 => number().map(|s| self.time_s = s).is_some(),
            4 => number()
                .map(|us| {
                    self.time_us = Some(self.time_s.saturating_mul(1_000_000).saturating_add(us))
                })
                .is_some(),
            _ => line.first() == Some(&b'$'),
        };
        if known {
            Ok(())
        } else {
            Err(Fault::Answer(
                "TIME",
                String::from_utf8_lossy(line).into_owned(),
            ))
        }
    }

    fn hear_psync(&mut self, line: &[u8]) -> Result<Outcome, Fault> {
        let text = String::from_utf8_lossy(line).into_owned();
        let mut words = text.split(' ');
        match words.next() {
            Some("+CONTINUE") => {
                let replid = match words.next().filter(|word| !word.is_empty()) {
                    Some(word) => Some(
                        ReplId::of(word.as_bytes())
                            .ok_or_else(|| Fault::Answer("PSYNC", text.clone()))?,
                    ),
                    None => None,
                };
                // Who has nothing cannot go on with it.
                match self.hello.from {
                    Some(_) => Ok(Outcome::Continue(replid)),
                    None => Err(Fault::Answer("PSYNC ? -1", text)),
                }
            }
            Some("+FULLRESYNC") => {
                let replid = words.next().and_then(|word| ReplId::of(word.as_bytes()));
                let offset = words.next().and_then(|word| word.parse::<u64>().ok());
                let offset = offset.filter(|offset| i64::try_from(*offset).is_ok());
                let (Some(replid), Some(offset)) = (replid, offset) else {
                    return Err(Fault::Answer("PSYNC", text));
                };
                self.stage = Stage::File(Position {
                    replid,
                    offset,
                    db: 0,
                });
                Ok(Outcome::More)
            }
            _ if line.first() == Some(&b'-') => Err(later_or(line, Fault::Refused(text))),
            _ => Err(Fault::Answer("PSYNC", text)),
        }
    }
}

/// What a source answers that is loading, waits for its own primary, or has not the time.
fn later_or(line: &[u8], other: Fault) -> Fault {
    let later = [&b"-NOMASTERLINK"[..], b"-LOADING", b"-BUSY", b"-MASTERDOWN"];
    match later.iter().any(|begin| line.starts_with(begin)) {
        true => Fault::Later(String::from_utf8_lossy(line).into_owned()),
        false => other,
    }
}

fn hear_file(line: &[u8], position: Position) -> Result<Outcome, Fault> {
    let text = || String::from_utf8_lossy(line).into_owned();
    if line.first() == Some(&b'-') {
        return Err(Fault::Later(text()));
    }
    let end = line
        .strip_prefix(b"$")
        .and_then(|rest| match rest.strip_prefix(b"EOF:") {
            Some(mark) => Some(FileEnd::Mark(mark.try_into().ok()?)),
            None => Some(FileEnd::Bytes(
                number::parse_i64(rest).and_then(|n| u64::try_from(n).ok())?,
            )),
        });
    end.map(|end| Outcome::Full(position, end))
        .ok_or_else(|| Fault::Answer("PSYNC, where a file was to begin,", text()))
}

/// A file on its way. A mark is looked for at the end of what has come, where it must be: the source says no more before it has heard that the file
/// is there.
pub struct Receiving {
    end: FileEnd,
    /// The last bytes that have come, no more than a mark's.
    tail: Vec<u8>,
    /// Bytes of the file that have come, those kept back included.
    pub received_bytes: u64,
}

impl Receiving {
    /// One that ends there.
    pub fn new(end: FileEnd) -> Receiving {
        Receiving {
            end,
            tail: Vec::new(),
            received_bytes: 0,
        }
    }

    /// Takes bytes in and passes those of the file on to `sink`; how many have been taken, and whether that was the last of it.
    ///
    /// # Errors
    /// That of `sink`.
    pub fn take<E>(
        &mut self,
        input: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(usize, bool), E> {
        match self.end {
            FileEnd::Bytes(all) => {
                let left = all - self.received_bytes;
                let len = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                let (file, _) = input.split_at(len);
                self.received_bytes += len as u64;
                if len > 0 {
                    sink(file)?;
                }
                Ok((len, self.received_bytes == all))
            }
            FileEnd::Mark(mark) => {
                self.received_bytes += input.len() as u64;
                if let Some(at) = input.len().checked_sub(MARK_BYTES) {
                    let (file, tail) = input.split_at(at);
                    let before = core::mem::replace(&mut self.tail, tail.to_vec());
                    for bytes in [&before[..], file]
                        .into_iter()
                        .filter(|bytes| !bytes.is_empty())
                    {
                        sink(bytes)?;
                    }
                } else {
                    self.tail.extend_from_slice(input);
                    let at = self.tail.len().saturating_sub(MARK_BYTES);
                    let file: Vec<u8> = self.tail.drain(..at).collect();
                    if !file.is_empty() {
                        sink(&file)?;
                    }
                }
                let is_done = self.tail == mark;
                if is_done {
                    self.received_bytes -= MARK_BYTES as u64;
                }
                Ok((input.len(), is_done))
            }
        }
    }

    /// Bytes of the whole file, where the source has said how many; else 0.
    pub fn total_bytes(&self) -> u64 {
        match self.end {
            FileEnd::Bytes(bytes) => bytes,
            FileEnd::Mark(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    fn hello(from: Option<u64>) -> Hello {
        let position = |offset| Position {
            replid: ReplId::of(ID.as_bytes()).unwrap(),
            offset,
            db: 3,
        };
        Hello {
            port: 7000,
            version: "7.2.6",
            from: from.map(position),
            ..Hello::default()
        }
    }

    /// Plays what a source says, byte by byte if `slowly`; what was sent, what came of it, and what was left.
    fn play(hello: Hello, says: &str, slowly: bool) -> (String, Result<Outcome, Fault>, usize) {
        let mut out = Vec::new();
        let mut shakes = Handshake::new(hello, &mut out);
        let says = says.as_bytes();
        let step = if slowly { 1 } else { says.len().max(1) };
        let mut at = 0;
        while at < says.len() {
            match shakes.take(&says[at..(at + step).min(says.len())], &mut out) {
                Ok((taken, Outcome::More)) => at += taken,
                Ok((taken, outcome)) => {
                    return (
                        String::from_utf8(out).unwrap(),
                        Ok(outcome),
                        says.len() - at - taken,
                    );
                }
                Err(fault) => return (String::from_utf8(out).unwrap(), Err(fault), 0),
            }
        }
        (String::from_utf8(out).unwrap(), Ok(Outcome::More), 0)
    }

    const TOLD: &str =
        "+PONG\r\n*2\r\n$10\r\n1700000000\r\n$3\r\n123\r\n+OK\r\n+OK\r\n-ERR what is version\r\n";

    #[test]
    fn handshakes_come_to_their_ends() {
        let begin = Position {
            replid: ReplId::of(ID.as_bytes()).unwrap(),
            offset: 99,
            db: 0,
        };
        let mark = [b'm'; MARK_BYTES];
        let marked = format!(
            "\n\n+FULLRESYNC {ID} 99\r\n\n$EOF:{}\r\nREDIS",
            "m".repeat(40)
        );
        for (from, says, outcome, left) in [
            (None, marked, Outcome::Full(begin, FileEnd::Mark(mark)), 5),
            (
                None,
                format!("+FULLRESYNC {ID} 99\r\n\n\n$12\r\n"),
                Outcome::Full(begin, FileEnd::Bytes(12)),
                0,
            ),
            (
                Some(41),
                "\n+CONTINUE\r\n*1\r\n".to_owned(),
                Outcome::Continue(None),
                4,
            ),
            (
                Some(41),
                format!("+CONTINUE {ID}\r\n"),
                Outcome::Continue(Some(begin.replid)),
                0,
            ),
            (
                Some(41),
                format!("+FULLRESYNC {ID} 99\r\n$0\r\n"),
                Outcome::Full(begin, FileEnd::Bytes(0)),
                0,
            ),
        ] {
            for slowly in [false, true] {
                let (sent, found, rest) = play(hello(from), &(TOLD.to_owned() + &says), slowly);
                assert_eq!(found, Ok(outcome), "{says}");
                assert_eq!(rest, if slowly { rest } else { left }, "{says}");
                assert!(
                    sent.contains("listening-port\r\n$4\r\n7000\r\n") && !sent.contains("AUTH"),
                    "{sent}"
                );
                let asked = if from.is_some() {
                    format!("{ID}\r\n$2\r\n42\r\n")
                } else {
                    "$1\r\n?\r\n$2\r\n-1\r\n".to_owned()
                };
                assert!(sent.ends_with(&asked), "{sent}");
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_told() {
        let full = |rest: &str| format!("{TOLD}+FULLRESYNC {rest}");
        let told = |rest: &str| TOLD.to_owned() + rest;
        for (says, part) in [
            ("HTTP/1.1 400\r\n".to_owned(), "answers PING"),
            ("-DENIED\r\n".to_owned(), "refuses PSYNC"),
            ("-LOADING Redis is loading\r\n".to_owned(), "yet"),
            ("x".repeat(5000), "no Redis"),
            (told("-NOMASTERLINK Can't SYNC\r\n"), "yet"),
            (told("-ERR unknown command 'PSYNC'\r\n"), "refuses PSYNC"),
            (told(&format!("+CONTINUE {ID}\r\n")), "answers PSYNC"),
            (full("short 1\r\n"), "answers PSYNC"),
            (full(&format!("{ID} -1\r\n")), "answers PSYNC"),
            (
                full(&format!("{ID} 18446744073709551615\r\n")),
                "answers PSYNC",
            ),
            (full(&format!("{ID} 1\r\n$-5\r\n")), "answers PSYNC"),
            (full(&format!("{ID} 1\r\n$EOF:short\r\n")), "answers PSYNC"),
            (full(&format!("{ID} 1\r\n-ERR no disk\r\n")), "yet"),
            ("+PONG\r\n*3\r\n".to_owned(), "answers TIME"),
            ("+PONG\r\n*2\r\n$1\r\nx\r\n".to_owned(), "answers TIME"),
        ] {
            let (_, found, _) = play(hello(None), &says, false);
            let text = found.unwrap_err().to_string();
            assert!(text.contains(part), "{says}: {text}");
        }
    }

    #[test]
    fn logs_in_and_hears_the_clock() {
        let mut out = Vec::new();
        let login = Hello {
            user: b"mover".to_vec(),
            password: b"secret".to_vec(),
            address: "::1".to_owned(),
            ..hello(None)
        };
        let mut shakes = Handshake::new(login.clone(), &mut out);
        let says =
            b"-NOAUTH Authentication required.\r\n+OK\r\n*2\r\n$10\r\n1700000000\r\n$3\r\n123\r\n";
        assert_eq!(shakes.take(says, &mut out), Ok((says.len(), Outcome::More)));
        assert_eq!(shakes.time_us, Some(1_700_000_000_000_123));
        let sent = String::from_utf8(out).unwrap();
        assert!(
            sent.contains("AUTH\r\n$5\r\nmover\r\n$6\r\nsecret\r\n")
                && sent.contains("ip-address\r\n$3\r\n::1"),
            "{sent}"
        );
        let (_, refused, _) = play(login, "-NOAUTH\r\n-WRONGPASS no\r\n", false);
        assert!(matches!(refused, Err(Fault::Login(_))));
        // Who may not ask for the time goes on without.
        let denied =
            format!("+PONG\r\n-NOPERM no\r\n+OK\r\n+OK\r\n+OK\r\n+FULLRESYNC {ID} 1\r\n$1\r\n");
        let (_, found, _) = play(hello(None), &denied, true);
        assert!(matches!(found, Ok(Outcome::Full(..))), "{found:?}");
    }

    #[test]
    fn files_end_where_they_end() {
        let mark = [b'm'; MARK_BYTES];
        let file: Vec<u8> = (0..1000u32).map(|n| n as u8).collect();
        for step in [1, 7, 39, 40, 41, 100, 2000] {
            for (end, behind) in [
                (FileEnd::Bytes(1000), &b"*1"[..]),
                (FileEnd::Mark(mark), b""),
            ] {
                let mut says = file.clone();
                if end == FileEnd::Mark(mark) {
                    says.extend(mark);
                }
                says.extend(behind);
                let (mut receives, mut got, mut at, mut done) =
                    (Receiving::new(end), Vec::new(), 0, false);
                while !done {
                    let piece = &says[at..(at + step).min(says.len())];
                    let sink = |bytes: &[u8]| -> Result<(), ()> {
                        got.extend_from_slice(bytes);
                        Ok(())
                    };
                    let (taken, is_done) = receives.take(piece, sink).unwrap();
                    (at, done) = (at + taken, is_done);
                }
                assert!(got == file, "{step} {end:?}");
                assert_eq!(
                    (says.len() - at, receives.received_bytes),
                    (behind.len(), 1000)
                );
            }
        }
    }
}
