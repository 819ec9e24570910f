//! A connection to the source: made, greeted, and asked one thing after the other.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use protocol::answer::{Answer, AnswerParser};
use protocol::{Resp, request};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Upstream;
use crate::node::Node;
use crate::tls;

/// How long a connection may take to be made and greeted.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// A source that is silent for so long is asked whether it is there, so often, at most so many times.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_TRIES: u32 = 3;
/// Bytes that are read at once.
const READ_BYTES: usize = 16 << 10;
/// Bytes of the replies to a greeting.
const GREETING_BYTES_MAX: usize = 1 << 20;

/// Bytes both ways, as they are or with TLS on them.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// See the module's head.
pub(super) struct Wire {
    stream: Box<dyn Duplex>,
    /// What was read behind the last answer.
    rest: Vec<u8>,
}

/// One that has been greeted.
pub(super) struct Greeted {
    pub(super) wire: Wire,
    /// Its number at the source (CLIENT ID).
    pub(super) id: u64,
    /// The source's history; empty if it does not tell.
    pub(super) history: String,
    /// Where it goes.
    pub(super) to: Option<Arc<Upstream>>,
}

/// The request for it, and what is in the reply.
pub(super) const ASK_HISTORY: [&[u8]; 2] = [b"INFO", b"replication"];

/// The source's history in its INFO.
pub(super) fn history_of(answer: &Answer) -> String {
    let (Answer::Bulk(text) | Answer::Verbatim { text, .. }) = answer else {
        return String::new();
    };
    let text = String::from_utf8_lossy(text);
    let replid = text
        .lines()
        .find_map(|line| line.strip_prefix("master_replid:"));
    replid.unwrap_or_default().trim().to_owned()
}

fn odd(why: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why.into())
}

/// A connection that has logged in, under a name, and speaks this version.
///
/// # Errors
/// Why there is none; the source's own words if it refused.
pub(super) async fn greet(node: &Node, shard: u16, name: &[u8], resp: Resp) -> io::Result<Greeted> {
    let upstream = node
        .front
        .upstream(shard)
        .ok_or_else(|| odd("no source is set"))?;
    let greeting = async {
        let mut wire = connect(node, &upstream).await?;
        let id = wire.log_in(&upstream, name, resp).await?;
        let history = wire.ask(&ASK_HISTORY).await;
        let history = history.map_or(String::new(), |answer| history_of(&answer));
        let to = Some(Arc::clone(&upstream));
        Ok(Greeted {
            wire,
            id,
            history,
            to,
        })
    };
    match tokio::time::timeout(GREETING_MAX, greeting).await {
        Ok(greeted) => greeted,
        Err(_) => Err(ErrorKind::TimedOut.into()),
    }
}

async fn connect(node: &Node, upstream: &Upstream) -> io::Result<Wire> {
    let socket = TcpStream::connect((upstream.host.as_str(), upstream.port)).await?;
    socket.set_nodelay(true)?;
    keep_alive(&socket)?;
    let stream: Box<dyn Duplex> = if upstream.tls {
        let config = tls::client_config(&node.config()).map_err(odd)?;
        let name: ServerName<'static> = socket.peer_addr()?.ip().into();
        let sealed = TlsConnector::from(Arc::clone(&config)).connect(name, socket);
        Box::new(sealed.await?)
    } else {
        Box::new(socket)
    };
    Ok(Wire {
        stream,
        rest: Vec::new(),
    })
}

fn keep_alive(socket: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_TRIES)?;
    Ok(())
}

impl Wire {
    /// Logs in; tells the number of the connection.
    async fn log_in(&mut self, upstream: &Upstream, name: &[u8], resp: Resp) -> io::Result<u64> {
        let mut words: Vec<&[u8]> = Vec::new();
        let (user, password) = (upstream.user.as_bytes(), upstream.password.as_bytes());
        if !password.is_empty() {
            words.push(b"AUTH");
            words.extend(Some(user).filter(|user| !user.is_empty()));
            words.push(password);
            self.ask(&words).await?;
        }
        if resp == Resp::V3 {
            self.ask(&[b"HELLO", b"3"]).await?;
        }
        if !name.is_empty() {
            self.ask(&[b"CLIENT", b"SETNAME", name]).await?;
        }
        // Commands of a transaction whose MULTI is refused would be executed one by one.
        self.ask(&[b"MULTI"]).await?;
        self.ask(&[b"DISCARD"]).await?;
        match self.ask(&[b"CLIENT", b"ID"]).await? {
            Answer::Int(id) => u64::try_from(id).map_err(|_| odd("CLIENT ID is negative")),
            _ => Err(odd("CLIENT ID is no number")),
        }
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// When the connection is lost; the source's words if it refuses.
    pub(super) async fn ask(&mut self, words: &[&[u8]]) -> io::Result<Answer> {
        let mut bytes = Vec::new();
        request::encode(words, &mut bytes);
        let mut sent = 0;
        while sent < bytes.len() {
            sent += poll_fn(|cx| self.poll_write(cx, &bytes[sent..])).await?;
        }
        poll_fn(|cx| self.poll_flush(cx)).await?;
        let mut parser = AnswerParser::default();
        loop {
            let parsed = parser
                .parse(&self.rest)
                .map_err(|why| odd(why.to_string()))?;
            if let Some((answer, len)) = parsed {
                self.rest.drain(..len);
                return match answer {
                    // (A message of the server's own.)
                    Answer::Push(_) => continue,
                    Answer::Error(text) => Err(odd(String::from_utf8_lossy(&text))),
                    answer => Ok(answer),
                };
            }
            if self.rest.len() > GREETING_BYTES_MAX {
                return Err(odd("an answer is too long"));
            }
            let mut rest = core::mem::take(&mut self.rest);
            let read =
                poll_fn(|cx| self.poll_read(cx, |bytes| rest.extend_from_slice(bytes))).await;
            self.rest = rest;
            if read? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends some of the bytes.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut *self.stream).poll_write(cx, bytes) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(ErrorKind::WriteZero.into())),
            other => other,
        }
    }

    /// Sends what TLS has kept.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    /// Takes what has come, once: how many bytes; 0 when no more will.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        let mut room = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut buf = ReadBuf::uninit(&mut room);
        match Pin::new(&mut *self.stream).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) => {
                take(buf.filled());
                Poll::Ready(Ok(buf.filled().len()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}
