//! One blocking connection: requests out in batches, replies in one by one.
//!
//! Every read and write has a deadline, so a server that hangs is an error and not a hung tester.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use protocol::answer::{Answer, AnswerError, AnswerParser};

/// Bytes asked of the socket at once.
const READ_BYTES: usize = 64 * 1024;
/// How long a server may take to answer before it counts as hung.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection cannot be used further.
#[derive(Debug)]
pub enum ClientError {
    /// The address names no host.
    Address(String),
    /// The socket failed.
    Io(std::io::Error),
    /// The server closed the connection.
    Closed,
    /// The server did not answer in time.
    Hung,
    /// The bytes are no reply.
    Malformed(AnswerError),
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(text) => write!(f, "'{text}' is not HOST:PORT"),
            Self::Io(error) => write!(f, "socket: {error}"),
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Hung => f.write_str("the server did not answer in time"),
            Self::Malformed(error) => write!(f, "malformed reply: {error}"),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<std::io::Error> for ClientError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::Hung,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => {
                Self::Closed
            }
            _ => Self::Io(error),
        }
    }
}

/// A connection with the bytes that are not parsed yet.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    parser: AnswerParser,
    input: Vec<u8>,
    /// What stands before this offset of `input` has been answered out.
    taken: usize,
    output: Vec<u8>,
}

impl Client {
    /// Connects to `HOST:PORT`.
    pub(crate) fn connect(endpoint: &str) -> Result<Self, ClientError> {
        let address = endpoint
            .to_socket_addrs()
            .ok()
            .and_then(|mut addresses| addresses.next())
            .ok_or_else(|| ClientError::Address(endpoint.to_owned()))?;
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Self {
            stream,
            parser: AnswerParser::default(),
            input: Vec::new(),
            taken: 0,
            output: Vec::new(),
        })
    }

    /// How long `receive` waits.
    pub(crate) fn set_reply_timeout(&self, timeout: Duration) -> Result<(), ClientError> {
        Ok(self.stream.set_read_timeout(Some(timeout))?)
    }

    /// Sends the requests in one write.
    pub(crate) fn send<'w>(
        &mut self,
        requests: impl IntoIterator<Item = &'w [Vec<u8>]>,
    ) -> Result<(), ClientError> {
        self.output.clear();
        for words in requests {
            protocol::request::encode(words, &mut self.output);
        }
        Ok(self.stream.write_all(&self.output)?)
    }

    /// Sends bytes as they are.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// The next reply.
    pub(crate) fn receive(&mut self) -> Result<Answer, ClientError> {
        loop {
            let rest = self.input.get(self.taken..).unwrap_or_default();
            let parsed = self.parser.parse(rest).map_err(ClientError::Malformed)?;
            if let Some((answer, bytes)) = parsed {
                self.taken += bytes;
                return Ok(answer);
            }
            self.fill()?;
        }
    }

    /// The next reply, if all of it has arrived.
    pub(crate) fn arrived(&mut self) -> Result<Option<Answer>, ClientError> {
        loop {
            let rest = self.input.get(self.taken..).unwrap_or_default();
            let parsed = self.parser.parse(rest).map_err(ClientError::Malformed)?;
            if let Some((answer, bytes)) = parsed {
                self.taken += bytes;
                return Ok(Some(answer));
            }
            self.stream.set_nonblocking(true)?;
            let filled = self.fill();
            self.stream.set_nonblocking(false)?;
            match filled {
                Ok(()) => {}
                Err(ClientError::Hung) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next `count` replies, as far as they come, and why they ended early.
    pub(crate) fn receive_all(&mut self, count: usize) -> (Vec<Answer>, Option<ClientError>) {
        let mut answers = Vec::with_capacity(count);
        while answers.len() < count {
            match self.receive() {
                Ok(answer) => answers.push(answer),
                Err(error) => return (answers, Some(error)),
            }
        }
        (answers, None)
    }

    /// One request, one reply.
    pub(crate) fn call(&mut self, words: &[&[u8]]) -> Result<Answer, ClientError> {
        self.output.clear();
        protocol::request::encode(words, &mut self.output);
        self.stream.write_all(&self.output)?;
        self.receive()
    }

    /// One request of text words, one reply.
    pub(crate) fn say(&mut self, line: &str) -> Result<Answer, ClientError> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.call(&words)
    }

    /// True if the server closes the connection, with nothing more to say, within the timeout.
    pub(crate) fn is_closed(&mut self, timeout: Duration) -> bool {
        if self.input.len() > self.taken || self.stream.set_read_timeout(Some(timeout)).is_err() {
            return false;
        }
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(count) => count == 0,
            Err(error) => matches!(ClientError::from(error), ClientError::Closed),
        }
    }

    /// Reads once from the socket into `input`.
    fn fill(&mut self) -> Result<(), ClientError> {
        if self.taken > 0 {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        let filled = self.input.len();
        self.input.resize(filled + READ_BYTES, 0);
        let read = self
            .stream
            .read(self.input.get_mut(filled..).unwrap_or_default());
        self.input
            .truncate(filled + read.as_ref().copied().unwrap_or_default());
        match read? {
            0 => Err(ClientError::Closed),
            _ => Ok(()),
        }
    }
}
