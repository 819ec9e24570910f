//! A server in front of a server that plants one fault.
//!
//! Two threads per connection: one reads requests, changes them and passes them on; the other
//! reads replies and knows from the first, by a channel, which request each one belongs to.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use protocol::answer::{Answer, AnswerParser};

use super::faults::{Fault, Words};
use crate::client::ClientError;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// The proxy; it stops accepting when dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Proxy {
    /// Listens on a free port.
    pub(super) fn start(upstream: &str, fault: Fault) -> Result<Self, ClientError> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let (flag, upstream) = (Arc::clone(&stopped), upstream.to_owned());
        thread::spawn(move || accept(&listener, &upstream, fault, &flag));
        Ok(Self { address, stopped })
    }

    /// `HOST:PORT`.
    pub(super) fn endpoint(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the accept; if it fails, the listener is gone already.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, upstream: &str, fault: Fault, stopped: &AtomicBool) {
    for client in listener.incoming() {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        let (Ok(client), Ok(server)) = (client, TcpStream::connect(upstream)) else {
            continue;
        };
        let (Ok(client_reader), Ok(server_reader)) = (client.try_clone(), server.try_clone())
        else {
            continue;
        };
        // A small write that waits for an acknowledgement would be slow, not wrong.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (asked, asking) = channel();
        thread::spawn(move || forward(client_reader, server, fault, &asked));
        thread::spawn(move || answer(server_reader, client, fault, &asking));
    }
}

/// Requests of a client, one by one, with the bytes they came in.
fn each_message(mut from: TcpStream, mut handle: impl FnMut(Answer, &[u8]) -> std::io::Result<()>) {
    let mut parser = AnswerParser::default();
    let mut input = Vec::new();
    let mut chunk = vec![0; READ_BYTES];
    loop {
        let mut taken = 0;
        while let Ok(Some((message, bytes))) = parser.parse(input.get(taken..).unwrap_or_default())
        {
            let raw = input.get(taken..taken + bytes).unwrap_or_default();
            if handle(message, raw).is_err() {
                return;
            }
            taken += bytes;
        }
        input.drain(..taken);
        match from.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(count) => input.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
    }
}

fn forward(client: TcpStream, mut server: TcpStream, fault: Fault, asked: &Sender<Words>) {
    let mut silence = Silence::default();
    each_message(client, |message, raw| {
        let mut words = words_of(message);
        if !silence.covers(&words) {
            // The other thread is gone only when the connection is.
            let _ = asked.send(words.clone());
        }
        if !(fault.request)(&mut words) {
            return server.write_all(raw);
        }
        let mut changed = Vec::new();
        protocol::request::encode(&words, &mut changed);
        server.write_all(&changed)
    });
    let _ = server.shutdown(Shutdown::Write);
}

fn answer(server: TcpStream, mut client: TcpStream, fault: Fault, asking: &Receiver<Words>) {
    each_message(server, |mut reply, raw| {
        let words = asking.recv().unwrap_or_default();
        if !(fault.reply)(&words, &mut reply) {
            return client.write_all(raw);
        }
        let mut changed = Vec::new();
        reply.write(&mut changed);
        client.write_all(&changed)
    });
    let _ = client.shutdown(Shutdown::Both);
}

fn words_of(message: Answer) -> Words {
    let Answer::Array(items) = message else {
        return Words::new();
    };
    let word = |item| match item {
        Answer::Bulk(bytes) => bytes,
        _ => Vec::new(),
    };
    items.into_iter().map(word).collect()
}

/// CLIENT REPLY: which requests get no reply.
#[derive(Debug, Default)]
struct Silence {
    off: bool,
    skip: bool,
}

impl Silence {
    fn covers(&mut self, words: &Words) -> bool {
        let word = |at: usize| {
            words
                .get(at)
                .map(|word| word.to_ascii_uppercase())
                .unwrap_or_default()
        };
        let skipped = std::mem::take(&mut self.skip);
        if word(0) == b"CLIENT" && word(1) == b"REPLY" {
            match word(2).as_slice() {
                b"OFF" => self.off = true,
                b"ON" => self.off = false,
                b"SKIP" => {
                    self.skip = true;
                    return true;
                }
                _ => {}
            }
        }
        self.off || skipped
    }
}
