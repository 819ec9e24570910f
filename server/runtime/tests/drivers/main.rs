//! One suite, run on both drivers. Real sockets on loopback with ephemeral ports, bounded in time, no sleeps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use runtime::{
    Cause, Choice, Config, ConnId, CoreId, Event, Handle, Listener, Peer, Running, Service, Spread,
    Turn, start,
};

const TIMEOUT: Duration = Duration::from_secs(60);

macro_rules! suite {
    ($($name:ident),+ $(,)?) => {
        mod uring { $(#[test] fn $name() { super::bounded(|| super::$name(runtime::Choice::Uring)); })+ }
        mod epoll { $(#[test] fn $name() { super::bounded(|| super::$name(runtime::Choice::Epoll)); })+ }
    };
}

mod bytes;
mod ends;
mod mails;
mod sockets;
mod turns;

/// Fails instead of hanging.
fn bounded(test: impl FnOnce() + Send + 'static) {
    let (done, wait) = channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    match wait.recv_timeout(TIMEOUT) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("test hangs"),
        _ => thread.join().unwrap(),
    }
}

#[derive(Debug)]
enum Mail {
    Stop,
    Number(u64, u64),
    Resume,
    Close,
}

type Told = Sender<String>;

/// A service from a closure; handles `Stop`.
struct Part<F>(F);

impl<F: FnMut(&mut Turn<'_, Mail>)> Service for Part<F> {
    type Mail = Mail;
    fn turn(&mut self, turn: &mut Turn<'_, Mail>) {
        let stops = turn.mail.iter().any(|mail| matches!(mail, Mail::Stop));
        turn.mail.retain(|mail| !matches!(mail, Mail::Stop));
        (self.0)(turn);
        if stops {
            turn.ops.stop();
        }
    }
}

struct Rig {
    addr: SocketAddr,
    handle: Handle<Mail>,
    running: Option<Running<Mail>>,
}

impl Rig {
    fn new<F>(
        config: Config,
        make: impl Fn(CoreId, Handle<Mail>) -> F + Send + Clone + 'static,
    ) -> Rig
    where
        F: FnMut(&mut Turn<'_, Mail>) + 'static,
    {
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap(), 511).unwrap();
        Rig::on(config, listener.spread(Spread::RoundRobin), make)
    }

    fn on<F>(
        config: Config,
        listener: Listener,
        make: impl Fn(CoreId, Handle<Mail>) -> F + Send + Clone + 'static,
    ) -> Rig
    where
        F: FnMut(&mut Turn<'_, Mail>) + 'static,
    {
        let addr = listener
            .local_addr()
            .unwrap_or_else(|| "127.0.0.1:1".parse().unwrap());
        let running = start(config, vec![(CoreId(0), listener)], move |core, handle| {
            Part(make(core, handle))
        });
        let running = running.unwrap();
        Rig {
            addr,
            handle: running.handle(),
            running: Some(running),
        }
    }

    fn connect(&self) -> TcpStream {
        dial(self.addr)
    }

    fn stop(mut self) {
        for core in 0..self.handle.cores() {
            let _ = self.handle.post(CoreId(core as u16), Mail::Stop);
        }
        self.running.take().unwrap().join().unwrap();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for core in 0..self.handle.cores() {
            let _ = self.handle.post(CoreId(core as u16), Mail::Stop);
        }
    }
}

fn dial(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn config(choice: Choice) -> Config {
    Config {
        choice,
        ..Config::default()
    }
}

/// Output of connections: one send under way each.
#[derive(Default)]
struct Outs(HashMap<ConnId, (bool, Vec<u8>)>);

impl Outs {
    fn add(&mut self, conn: ConnId, bytes: &[u8]) {
        self.0.entry(conn).or_default().1.extend_from_slice(bytes);
    }

    fn sent(&mut self, conn: ConnId) {
        self.0.get_mut(&conn).expect("a known connection").0 = false;
    }

    fn flush(&mut self, turn: &mut Turn<'_, Mail>) {
        for (conn, (sending, out)) in &mut self.0 {
            if !*sending && !out.is_empty() {
                *sending = true;
                turn.ops.send(*conn, std::mem::take(out));
            }
        }
    }
}

fn echo(turn: &mut Turn<'_, Mail>, outs: &mut Outs) {
    for event in std::mem::take(turn.events) {
        match event {
            Event::Accepted { conn, .. } => {
                assert!(
                    outs.0.insert(conn, Default::default()).is_none(),
                    "a new id"
                );
            }
            Event::Data { conn, span } => {
                assert!(outs.0.contains_key(&conn), "a live id");
                outs.add(conn, turn.bytes(span));
            }
            Event::Sent { conn, buffer } => {
                assert!(buffer.is_empty() && buffer.capacity() > 0);
                outs.sent(conn);
            }
            Event::Closed { conn, .. } => assert!(outs.0.remove(&conn).is_some(), "closed once"),
            Event::Filled { .. } | Event::Progress { .. } | Event::Ended { .. } => {}
        }
    }
    outs.flush(turn);
}

fn echo_rig(config: Config) -> Rig {
    Rig::new(config, |_, _| {
        let mut outs = Outs::default();
        move |turn: &mut Turn<'_, Mail>| echo(turn, &mut outs)
    })
}

/// Bytes that differ by position and seed.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(len).collect()
}

/// Checks that numbers of each sender come in order; tells when `count` of one sender have come.
struct InOrder(HashMap<u64, u64>);

impl InOrder {
    fn take(&mut self, sender: u64, number: u64) -> u64 {
        let next = self.0.entry(sender).or_default();
        assert_eq!(number, *next, "mail of sender {sender} out of order");
        *next += 1;
        *next
    }
}
