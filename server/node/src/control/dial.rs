//! A connection to another server, from a thread beside the cores: plain, or with TLS on it. It blocks, each step for a time at most.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::tls::Sealed;

/// The bytes of a connection, as they are or with TLS on them.
pub enum Stream {
    /// As they are.
    Plain(TcpStream),
    /// With TLS on them.
    Sealed(Box<Sealed>),
}

impl Stream {
    /// Connects to the first address of a host that takes it, within a time for each.
    ///
    /// # Errors
    /// Those of the network; of the last address that was tried.
    pub fn dial(
        host: &str,
        port: u16,
        timeout: Duration,
        tls: Option<Arc<ClientConfig>>,
    ) -> io::Result<Stream> {
        let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
        for address in (host, port).to_socket_addrs()? {
            match Stream::dial_one(&address, timeout, tls.clone()) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn dial_one(
        address: &SocketAddr,
        timeout: Duration,
        tls: Option<Arc<ClientConfig>>,
    ) -> io::Result<Stream> {
        let socket = TcpStream::connect_timeout(address, timeout)?;
        socket.set_nodelay(true)?;
        Ok(match tls {
            Some(tls) => Stream::Sealed(Box::new(Sealed::new(tls, socket, timeout)?)),
            None => Stream::Plain(socket),
        })
    }

    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Sealed(sealed) => sealed.socket(),
        }
    }

    /// How long a read and a write may take from now on.
    ///
    /// # Errors
    /// Those of the system.
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.socket().set_write_timeout(Some(timeout))?;
        self.socket().set_read_timeout(Some(timeout))
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buf),
            Stream::Sealed(sealed) => sealed.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(buf),
            Stream::Sealed(sealed) => sealed.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.flush(),
            Stream::Sealed(sealed) => sealed.flush(),
        }
    }
}
