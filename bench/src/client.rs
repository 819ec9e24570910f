//! Our own connections: one question at a time, and bulk loads that redis-benchmark cannot make.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use protocol::answer::{Answer, AnswerParser};
use protocol::request::encode;
use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::process::{Server, Wire};

/// No answer of a server takes longer, on the busiest machine.
const ANSWER_SECONDS_MAX: u64 = 60;
const CONNECTIONS: usize = 8;

pub(crate) struct Client {
    stream: TcpStream,
    wire: Wire,
    received: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(server: &Server) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", server.port))?;
        stream.set_nodelay(true)?;
        let longest = Some(Duration::from_secs(ANSWER_SECONDS_MAX));
        stream.set_read_timeout(longest)?;
        stream.set_write_timeout(longest)?;
        Ok(Self {
            stream,
            wire: server.wire,
            received: Vec::new(),
        })
    }

    /// The shortest question of the server's language; any answer will do.
    pub(crate) fn ping(&mut self) -> io::Result<()> {
        self.stream.write_all(match self.wire {
            Wire::Resp => b"*1\r\n$4\r\nPING\r\n",
            Wire::Memcached => b"version\r\n",
        })?;
        let mut answer = [0; 256];
        match self.stream.read(&mut answer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn ask(&mut self, words: &[&[u8]]) -> io::Result<Answer> {
        let mut request = Vec::new();
        encode(words, &mut request);
        self.stream.write_all(&request)?;
        self.answer()
    }

    /// Asks all of these together; the answers in their order.
    pub(crate) fn ask_all<const WORDS: usize>(
        &mut self,
        requests: &[[&[u8]; WORDS]],
    ) -> io::Result<Vec<Answer>> {
        let mut bytes = Vec::new();
        requests.iter().for_each(|words| encode(words, &mut bytes));
        self.stream.write_all(&bytes)?;
        requests.iter().map(|_| self.answer()).collect()
    }

    /// The next answer of the stream.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let mut parser = AnswerParser::default();
        loop {
            match parser.parse(&self.received) {
                Ok(Some((answer, used))) => {
                    self.received.drain(..used);
                    return Ok(answer);
                }
                Ok(None) => {}
                Err(why) => return Err(io::Error::other(format!("{why:?}"))),
            }
            let mut piece = [0; 16 * 1024];
            let count = self.stream.read(&mut piece)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.received
                .extend_from_slice(piece.get(..count).unwrap_or_default());
        }
    }

    /// A number from INFO, or none if it does not have the line.
    pub(crate) fn info(&mut self, section: &str, name: &str) -> io::Result<Option<f64>> {
        Ok(self
            .info_word(section, name)?
            .and_then(|text| text.parse().ok()))
    }

    pub(crate) fn info_word(&mut self, section: &str, name: &str) -> io::Result<Option<String>> {
        let Answer::Bulk(text) = self.ask(&[b"INFO", section.as_bytes()])? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&text);
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.trim().to_owned()))
    }

    /// Two streams of the same connection, for one thread that asks and one that listens.
    pub(crate) fn split(self) -> io::Result<(TcpStream, Self)> {
        Ok((self.stream.try_clone()?, self))
    }
}

/// Our calling thread on one CPU, where the load belongs; it stays where it is if the machine has only one.
pub(crate) fn pin(cpu: usize) {
    let mut one = CpuSet::new();
    one.set(cpu);
    // Refused on a machine without that CPU: an unpinned load is worse, not wrong.
    let _ = sched_setaffinity(None, &one);
}

/// Our calling thread before others that want the same CPU: it judges a server, and must not be late because of the load beside it.
pub(crate) fn come_first() {
    // Refused to who is not root: then its lateness is on the page.
    let _ = setpriority_process(None, FIRST_NICE);
}

/// The nice value of threads that judge.
const FIRST_NICE: i32 = -15;

/// Keys of 16 bytes set to values of one size.
#[derive(Clone, Copy)]
pub(crate) struct Fill {
    pub(crate) value_bytes: usize,
    pub(crate) expiring: bool,
    /// All keys bear one hash tag, so that they are of one slot.
    pub(crate) one_tag: bool,
    /// Requests a connection sends at once.
    pub(crate) pipeline: u64,
}

impl Fill {
    /// Sets the keys numbered so, over a few connections in turn: each sends its batch, then each collects.
    pub(crate) fn keys(&self, server: &Server, numbers: std::ops::Range<u64>) -> io::Result<()> {
        let reply: &[u8] = match server.wire {
            Wire::Resp => b"+OK\r\n",
            Wire::Memcached => b"STORED\r\n",
        };
        let mut clients = (0..CONNECTIONS)
            .map(|_| Client::connect(server))
            .collect::<io::Result<Vec<_>>>()?;
        let mut next = numbers.start;
        let mut request = Vec::new();
        let mut replies = vec![0; reply.len() * usize::try_from(self.pipeline).unwrap_or(1)];
        let mut due: Vec<(usize, usize)> = Vec::new();
        while next < numbers.end {
            for (index, client) in clients.iter_mut().enumerate() {
                request.clear();
                let end = numbers.end.min(next + self.pipeline);
                (next..end).for_each(|number| self.request(server.wire, number, &mut request));
                if next < end {
                    client.stream.write_all(&request)?;
                    let count = usize::try_from(end - next).unwrap_or(0);
                    due.push((index, count * reply.len()));
                }
                next = end;
            }
            for (index, bytes) in due.drain(..) {
                let (Some(client), Some(room)) = (clients.get_mut(index), replies.get_mut(..bytes))
                else {
                    continue;
                };
                client.stream.read_exact(room)?;
                if room.chunks(reply.len()).any(|piece| piece != reply) {
                    let text = String::from_utf8_lossy(room);
                    let line = text.lines().next().unwrap_or_default();
                    return Err(io::Error::other(format!("{}: {line}", server.name)));
                }
            }
        }
        Ok(())
    }

    fn request(&self, wire: Wire, number: u64, out: &mut Vec<u8>) {
        let key = self.key(number);
        let value = vec![b'v'; self.value_bytes];
        // Deadlines are far enough off that none is reached, and differ.
        let seconds = (100_000 + number % 800_000).to_string();
        match (wire, self.expiring) {
            (Wire::Resp, false) => encode(&[b"SET", key.as_slice(), &value], out),
            (Wire::Resp, true) => {
                let words = [b"SET", key.as_slice(), &value, b"EX", seconds.as_bytes()];
                encode(&words, out);
            }
            (Wire::Memcached, expiring) => {
                let seconds = if expiring { &seconds } else { "0" };
                out.extend_from_slice(b"set ");
                out.extend_from_slice(&key);
                out.extend_from_slice(format!(" 0 {seconds} {}\r\n", value.len()).as_bytes());
                out.extend_from_slice(&value);
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    pub(crate) fn key(&self, number: u64) -> Vec<u8> {
        let before = if self.one_tag { "{t}" } else { "key" };
        format!("{before}:{number:012}").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_of_sixteen_bytes_in_both_languages() {
        let fill = Fill {
            value_bytes: 4,
            expiring: true,
            one_tag: false,
            pipeline: 16,
        };
        assert_eq!(fill.key(7), b"key:000000000007");
        let tagged = Fill {
            one_tag: true,
            ..fill
        };
        assert_eq!(tagged.key(7).len(), 16);
        let mut out = Vec::new();
        fill.request(Wire::Memcached, 7, &mut out);
        assert_eq!(out, b"set key:000000000007 0 100007 4\r\nvvvv\r\n");
        out.clear();
        fill.request(Wire::Resp, 7, &mut out);
        assert!(out.starts_with(b"*5\r\n$3\r\nSET\r\n$16\r\nkey:000000000007\r\n"));
    }
}
