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

suite!(
    echo_with_pipelining,
    ten_megabytes_both_ways_with_a_slow_reader,
    a_large_value_goes_straight_into_its_buffer,
    a_fill_larger_than_a_gigabyte_costs_nothing,
    a_full_or_empty_wish_is_granted_at_once,
    close_in_the_middle_of_a_send,
    a_reset_is_told,
    an_end_of_stream_is_answered_first,
    who_has_sent_his_last_byte_may_be_kept,
    churn_never_confuses_connections,
    more_data_than_buffers,
    mail_is_fifo_both_ways,
    ping_pong_never_hangs,
    overflow_reaches_its_maximum,
    mail_from_outside,
    connections_are_spread_in_turn,
    unix_socket,
    ipv6_socket,
    pause_and_resume,
    wake_at_fires,
    stop_drains_sends_and_mail,
    stale_ids_are_ignored,
    many_cores_stop_when_told,
    a_panic_is_told_by_join,
    nodelay_and_keepalive_are_set,
    statistics_count_and_reset,
);

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

fn echo_with_pipelining(choice: Choice) {
    let rig = echo_rig(config(choice));
    let clients: Vec<_> = (0..20u64)
        .map(|seed| {
            let mut stream = rig.connect();
            std::thread::spawn(move || {
                for round in 0..100u64 {
                    let len = 1 + (seed * 977 + round * 331) as usize % 5000;
                    let sent = pattern(seed << 32 | round, len);
                    for piece in sent.chunks(1 + len / 7) {
                        stream.write_all(piece).unwrap();
                    }
                    let mut got = vec![0; len];
                    stream.read_exact(&mut got).unwrap();
                    assert!(got == sent, "round {round} of client {seed}");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    rig.stop();
}

fn ten_megabytes_both_ways_with_a_slow_reader(choice: Choice) {
    let rig = echo_rig(config(choice));
    let mut stream = rig.connect();
    let sent = pattern(7, 10 << 20);
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writing = std::thread::spawn(move || writer.write_all(&copy).unwrap());
    // The echo holds whatever the socket does not take, so the writer ends before the first byte is read.
    writing.join().unwrap();
    let mut got = Vec::new();
    let mut piece = [0; 3001];
    while got.len() < sent.len() {
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0, "ended after {}", got.len());
        got.extend_from_slice(&piece[..n]);
        std::thread::yield_now();
    }
    assert!(got == sent);
    rig.stop();
}

/// Frames `len u32 LE, bytes`; a frame that is not whole when the turn ends is received into its own buffer.
fn framed(tell: Told) -> impl FnMut(&mut Turn<'_, Mail>) {
    let mut ins: HashMap<ConnId, Vec<u8>> = HashMap::new();
    let mut filling: HashMap<ConnId, bool> = HashMap::new();
    let mut outs = Outs::default();
    move |turn| {
        let mut touched = Vec::new();
        for event in std::mem::take(turn.events) {
            match event {
                Event::Data { conn, span } => {
                    assert_ne!(filling.get(&conn), Some(&true), "no data while filling");
                    ins.entry(conn)
                        .or_default()
                        .extend_from_slice(turn.bytes(span));
                    touched.push(conn);
                }
                Event::Filled { conn, buffer } => {
                    filling.insert(conn, false);
                    tell.send(format!("filled {} cap {}", buffer.len(), buffer.capacity()))
                        .unwrap();
                    assert!(ins.insert(conn, buffer).is_none_or(|old| old.is_empty()));
                    touched.push(conn);
                }
                Event::Sent { conn, .. } => outs.sent(conn),
                Event::Closed { conn, cause } => {
                    outs.0.remove(&conn);
                    tell.send(format!("closed {cause:?}")).unwrap();
                }
                Event::Accepted { .. } | Event::Progress { .. } | Event::Ended { .. } => {}
            }
        }
        for conn in touched {
            let input = ins.entry(conn).or_default();
            let mut bytes = std::mem::take(input);
            while let Some(head) = bytes.first_chunk::<4>() {
                let len = 4 + u32::from_le_bytes(*head) as usize;
                if bytes.len() < len {
                    break;
                }
                let rest = bytes.split_off(len);
                outs.add(conn, &bytes[4..]);
                bytes = rest;
            }
            match bytes.first_chunk::<4>() {
                Some(head) => {
                    filling.insert(conn, true);
                    let len = 4 + u32::from_le_bytes(*head) as usize;
                    turn.ops.recv_into(conn, bytes, len);
                }
                None => *input = bytes,
            }
        }
        outs.flush(turn);
    }
}

fn a_large_value_goes_straight_into_its_buffer(choice: Choice) {
    let (tell, told) = channel();
    let rig = Rig::new(config(choice), move |_, _| framed(tell.clone()));
    let clients: Vec<_> = (0..3u64)
        .map(|seed| {
            let mut stream = rig.connect();
            std::thread::spawn(move || {
                let frames: Vec<Vec<u8>> = [5 << 20, 11, 0, 70_001, 3]
                    .map(|len| pattern(seed + len as u64, len))
                    .into();
                let wire: Vec<u8> = frames
                    .iter()
                    .flat_map(|frame| [&(frame.len() as u32).to_le_bytes(), &frame[..]].concat())
                    .collect();
                let mut reader = stream.try_clone().unwrap();
                let writing = std::thread::spawn(move || {
                    let (mut at, mut n) = (0, 1);
                    while at < wire.len() {
                        let end = wire.len().min(at + n);
                        stream.write_all(&wire[at..end]).unwrap();
                        (at, n) = (end, n * 3 % 262_139 + 1);
                    }
                });
                let mut got = vec![0; frames.iter().map(Vec::len).sum()];
                reader.read_exact(&mut got).unwrap();
                assert!(got == frames.concat());
                writing.join().unwrap();
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    rig.stop();
    let large = format!("filled {} cap {}", 4 + (5 << 20), 4 + (5 << 20));
    assert!(
        told.iter().filter(|line| *line == large).count() >= 1,
        "exact growth"
    );
}

fn a_fill_larger_than_a_gigabyte_costs_nothing(choice: Choice) {
    let (tell, told) = channel();
    let rig = Rig::new(config(choice), move |_, _| framed(tell.clone()));
    let mut stream = rig.connect();
    // Twelve such claims at once would not fit this machine if they were believed.
    let others: Vec<_> = (0..11).map(|_| rig.connect()).collect();
    for mut stream in others.iter().chain([&stream]) {
        stream
            .write_all(&(4u32 << 28).wrapping_sub(5).to_le_bytes())
            .unwrap();
        stream.write_all(b"a little").unwrap();
    }
    stream.write_all(&pattern(1, 3 << 20)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), "closed PeerClosed");
    drop(others);
    rig.stop();
}

fn a_full_or_empty_wish_is_granted_at_once(choice: Choice) {
    let (tell, told) = channel();
    let rig = Rig::new(config(choice), move |_, _| {
        let tell = tell.clone();
        move |turn: &mut Turn<'_, Mail>| {
            for event in std::mem::take(turn.events) {
                match event {
                    Event::Accepted { conn, .. } => {
                        turn.ops.send(conn, Vec::new());
                        turn.ops.recv_into(conn, vec![1, 2, 3], 3);
                    }
                    Event::Filled { buffer, .. } => tell.send(format!("{buffer:?}")).unwrap(),
                    Event::Sent { .. } => tell.send("sent".to_owned()).unwrap(),
                    _ => {}
                }
            }
        }
    });
    let _stream = rig.connect();
    let mut lines = [
        told.recv_timeout(TIMEOUT).unwrap(),
        told.recv_timeout(TIMEOUT).unwrap(),
    ];
    lines.sort();
    assert_eq!(lines, ["[1, 2, 3]", "sent"]);
    rig.stop();
}

fn close_in_the_middle_of_a_send(choice: Choice) {
    let (tell, told) = channel();
    let rig = Rig::new(config(choice), move |_, _| {
        let tell = tell.clone();
        let mut open = None;
        move |turn: &mut Turn<'_, Mail>| {
            for event in std::mem::take(turn.events) {
                match event {
                    Event::Accepted { conn, .. } => {
                        open = Some(conn);
                        turn.ops.send(conn, vec![7; 64 << 20]);
                    }
                    Event::Data { conn, .. } => {
                        turn.ops.close(conn);
                        turn.ops.close(conn);
                        turn.ops.send(conn, vec![8; 100]);
                    }
                    Event::Closed { conn, cause } => {
                        assert_eq!(open.take(), Some(conn));
                        tell.send(format!("{cause:?}")).unwrap();
                    }
                    Event::Sent { .. } => panic!("nobody reads"),
                    Event::Progress { sent, .. } => assert!(sent < 64 << 20),
                    Event::Filled { .. } | Event::Ended { .. } => {}
                }
            }
        }
    });
    for _ in 0..5 {
        let mut stream = rig.connect();
        let mut first = [0; 1000];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(first, [7; 1000]);
        stream.write_all(b"x").unwrap();
        assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), "Asked");
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
        assert!(rest.iter().all(|byte| *byte == 7));
    }
    rig.stop();
}

/// Tells `closed` lines, echoes, and closes on `x`.
fn closing_rig(config: Config, tell: Told) -> Rig {
    Rig::new(config, move |_, _| {
        let tell = tell.clone();
        let mut outs = Outs::default();
        move |turn: &mut Turn<'_, Mail>| {
            for event in turn.events.iter() {
                if let Event::Closed { cause, .. } = event {
                    tell.send(format!("{cause:?}")).unwrap();
                }
            }
            echo(turn, &mut outs);
        }
    })
}

fn a_reset_is_told(choice: Choice) {
    let (tell, told) = channel();
    let rig = closing_rig(config(choice), tell);
    let mut stream = rig.connect();
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
    let reset = format!(
        "{:?}",
        Cause::Failed(rustix::io::Errno::CONNRESET.raw_os_error())
    );
    assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), reset);
    rig.stop();
}

fn who_has_sent_his_last_byte_may_be_kept(choice: Choice) {
    let (tell, told) = channel();
    let rig = Rig::new(config(choice), move |_, _| {
        let tell = tell.clone();
        let mut kept: Option<(ConnId, u64)> = None;
        move |turn: &mut Turn<'_, Mail>| {
            for event in turn.events.drain(..) {
                match event {
                    Event::Ended { conn } => {
                        turn.ops.linger(conn);
                        kept = Some((conn, turn.now.mono_us + 20_000));
                    }
                    Event::Sent { conn, .. } => turn.ops.close(conn),
                    Event::Closed { cause, .. } => tell.send(format!("{cause:?}")).unwrap(),
                    _ => {}
                }
            }
            if let Some((conn, at_us)) = kept {
                if turn.now.mono_us < at_us {
                    turn.ops.wake_at(turn.now.unix_ms + 5);
                } else {
                    turn.ops.send(conn, b"late".to_vec());
                    kept = None;
                }
            }
        }
    });
    let mut stream = rig.connect();
    stream.write_all(b"hello").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"late");
    assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), "PeerClosed");
    rig.stop();
}

fn an_end_of_stream_is_answered_first(choice: Choice) {
    let (tell, told) = channel();
    let rig = closing_rig(config(choice), tell);
    for len in [5usize, 3 << 20] {
        let mut stream = rig.connect();
        let sent = pattern(3, len);
        let mut writer = stream.try_clone().unwrap();
        let copy = sent.clone();
        let writing = std::thread::spawn(move || {
            writer.write_all(&copy).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = vec![0; len.min(4096)];
        stream.read_exact(&mut got).unwrap();
        assert!(sent.starts_with(&got));
        writing.join().unwrap();
        let _rest = stream.read_to_end(&mut got);
        assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), "PeerClosed");
    }
    rig.stop();
}

fn churn_never_confuses_connections(choice: Choice) {
    let cores = 2;
    let rig = echo_rig(Config {
        cores,
        accept_per_turn_max: 3,
        ..config(choice)
    });
    let threads: Vec<_> = (0..10u64)
        .map(|t| {
            let addr = rig.addr;
            std::thread::spawn(move || {
                for n in 0..50u64 {
                    let mut stream = dial(addr);
                    let sent = pattern(t << 32 | n, 8 + (n as usize * 37) % 300);
                    stream.write_all(&sent).unwrap();
                    if n % 3 == 0 {
                        continue; // gone while the echo is under way
                    }
                    let mut got = vec![0; sent.len()];
                    stream.read_exact(&mut got).unwrap();
                    assert!(got == sent, "another connection's bytes");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    rig.stop();
}

fn more_data_than_buffers(choice: Choice) {
    let small = Config {
        buffer_bytes: 1024,
        buffer_count: 8,
        ..config(choice)
    };
    let rig = Rig::new(small, |_, _| {
        let mut outs = Outs::default();
        let mut turns = 0u32;
        move |turn: &mut Turn<'_, Mail>| {
            turns += 1;
            let began = Instant::now();
            while turns.is_multiple_of(50) && began.elapsed() < Duration::from_millis(5) {
                std::hint::spin_loop();
            }
            echo(turn, &mut outs);
        }
    });
    let clients: Vec<_> = (0..20u64)
        .map(|seed| {
            let mut stream = rig.connect();
            std::thread::spawn(move || {
                let sent = pattern(seed, 200_000);
                stream.write_all(&sent).unwrap();
                let mut got = vec![0; sent.len()];
                stream.read_exact(&mut got).unwrap();
                assert!(got == sent);
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    rig.stop();
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

fn mail_is_fifo_both_ways(choice: Choice) {
    const COUNT: u64 = 100_000;
    let (tell, told) = channel();
    let small = Config {
        cores: 2,
        mailbox_len_max: 64,
        ..config(choice)
    };
    let rig = Rig::new(small, move |core, _| {
        let tell = tell.clone();
        let mut posted = 0;
        let mut order = InOrder(HashMap::new());
        move |turn: &mut Turn<'_, Mail>| {
            let other = CoreId(1 - core.0);
            // A lump is larger than a lane, so the overflow queue is in use all the time.
            while posted < COUNT && turn.ops.backlog_len(other) < 1000 {
                for number in posted..posted + 500 {
                    turn.ops.post(other, Mail::Number(core.0.into(), number));
                }
                posted += 500;
                if posted.is_multiple_of(2500) {
                    break;
                }
            }
            if posted < COUNT {
                turn.ops.again();
            }
            for mail in turn.mail.drain(..) {
                let Mail::Number(sender, number) = mail else {
                    continue;
                };
                if order.take(sender, number) == COUNT {
                    tell.send(format!("core {}", core.0)).unwrap();
                }
            }
        }
    });
    let mut lines = [
        told.recv_timeout(TIMEOUT).unwrap(),
        told.recv_timeout(TIMEOUT).unwrap(),
    ];
    lines.sort();
    assert_eq!(lines, ["core 0", "core 1"]);
    rig.stop();
}

fn ping_pong_never_hangs(choice: Choice) {
    const COUNT: u64 = 20_000;
    let (tell, told) = channel();
    let rig = Rig::new(
        Config {
            cores: 2,
            ..config(choice)
        },
        move |core, _| {
            let tell = tell.clone();
            let mut served = false;
            move |turn: &mut Turn<'_, Mail>| {
                if core.0 == 0 && !std::mem::replace(&mut served, true) {
                    turn.ops.post(CoreId(1), Mail::Number(0, 0));
                }
                for mail in turn.mail.drain(..) {
                    match mail {
                        Mail::Number(_, COUNT) => tell.send("done".to_owned()).unwrap(),
                        Mail::Number(_, n) => {
                            turn.ops.post(CoreId(1 - core.0), Mail::Number(0, n + 1))
                        }
                        _ => {}
                    }
                }
            }
        },
    );
    assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), "done");
    rig.stop();
}

fn overflow_reaches_its_maximum(choice: Choice) {
    // More than the overflow maximum (65,536) in one turn, to a core that is slow to take it.
    const COUNT: u64 = 150_000;
    let (tell, told) = channel();
    let config = Config {
        cores: 2,
        mailbox_len_max: 128,
        mail_per_turn_max: 100,
        ..config(choice)
    };
    let rig = Rig::new(config, move |core, _| {
        let tell = tell.clone();
        let mut served = false;
        let mut order = InOrder(HashMap::new());
        move |turn: &mut Turn<'_, Mail>| {
            if core.0 == 0 && !std::mem::replace(&mut served, true) {
                for number in 0..COUNT {
                    turn.ops.post(CoreId(1), Mail::Number(0, number));
                    turn.ops.post(CoreId(0), Mail::Number(9, number));
                }
            }
            for mail in turn.mail.drain(..) {
                let Mail::Number(sender, number) = mail else {
                    continue;
                };
                if order.take(sender, number) == COUNT {
                    tell.send(format!("from {sender}")).unwrap();
                }
            }
        }
    });
    let mut lines = [
        told.recv_timeout(TIMEOUT).unwrap(),
        told.recv_timeout(TIMEOUT).unwrap(),
    ];
    lines.sort();
    assert_eq!(lines, ["from 0", "from 9"]);
    rig.stop();
}

fn mail_from_outside(choice: Choice) {
    const COUNT: u64 = 10_000;
    let (tell, told) = channel();
    let config = Config {
        cores: 2,
        mailbox_len_max: 100,
        ..config(choice)
    };
    let rig = Rig::new(config, move |core, _| {
        let tell = tell.clone();
        let mut order = InOrder(HashMap::new());
        move |turn: &mut Turn<'_, Mail>| {
            for mail in turn.mail.drain(..) {
                let Mail::Number(sender, number) = mail else {
                    continue;
                };
                if order.take(sender, number) == COUNT {
                    tell.send(format!("{} {sender}", core.0)).unwrap();
                }
            }
        }
    });
    let threads: Vec<_> = (0..4u64)
        .map(|sender| {
            let handle = rig.handle.clone();
            std::thread::spawn(move || {
                for number in 0..COUNT {
                    for core in [CoreId(0), CoreId(1)] {
                        let mut mail = Mail::Number(sender, number);
                        while let Err(back) = handle.post(core, mail) {
                            mail = back;
                            std::thread::yield_now();
                        }
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    for _ in 0..8 {
        told.recv_timeout(TIMEOUT).unwrap();
    }
    assert!(
        rig.handle.post(CoreId(2), Mail::Stop).is_err(),
        "no such core"
    );
    rig.stop();
}

fn connections_are_spread_in_turn(choice: Choice) {
    let rig = Rig::new(
        Config {
            cores: 2,
            ..config(choice)
        },
        |core, _| {
            let mut outs = Outs::default();
            move |turn: &mut Turn<'_, Mail>| {
                for event in turn.events.iter() {
                    if let Event::Accepted {
                        conn,
                        listener,
                        peer,
                        fd,
                    } = event
                    {
                        assert!(*listener == 0 && *fd > 2 && peer.is_loopback());
                        assert!(matches!(peer, Peer::Tcp { peer, local } if peer != local));
                        outs.add(*conn, &[b'0' + core.0 as u8]);
                        outs.0.get_mut(conn).unwrap().0 = false;
                    }
                }
                for event in std::mem::take(turn.events) {
                    if let Event::Sent { conn, .. } = event {
                        outs.sent(conn);
                    }
                }
                outs.flush(turn);
            }
        },
    );
    let streams: Vec<_> = (0..40).map(|_| rig.connect()).collect();
    let mut counts = [0; 2];
    for mut stream in streams {
        let mut core = [0];
        stream.read_exact(&mut core).unwrap();
        counts[usize::from(core[0] - b'0')] += 1;
    }
    assert_eq!(counts, [20, 20]);
    rig.stop();
}

fn unix_socket(choice: Choice) {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("runtime-{}-{choice:?}.sock", std::process::id()));
    // A socket left over by a dead process is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = Listener::unix(&path, 0o600, 16).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let rig = Rig::on(config(choice), listener, |_, _| {
        let mut outs = Outs::default();
        move |turn: &mut Turn<'_, Mail>| {
            for event in turn.events.iter() {
                if let Event::Accepted { peer, .. } = event {
                    assert!(*peer == Peer::Unix && peer.is_loopback());
                }
            }
            echo(turn, &mut outs);
        }
    });
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let sent = pattern(5, 300_000);
    let mut got = vec![0; sent.len()];
    stream.write_all(&sent).unwrap();
    stream.read_exact(&mut got).unwrap();
    assert!(got == sent);
    rig.stop();
    assert!(!path.exists(), "removed at the end");
    std::fs::write(&path, "a document").unwrap();
    assert!(
        Listener::unix(&path, 0, 16).is_err(),
        "only sockets are replaced"
    );
    std::fs::remove_file(&path).unwrap();
}

fn ipv6_socket(choice: Choice) {
    let Ok(listener) = Listener::tcp("[::1]:0".parse().unwrap(), 16) else {
        return; // a machine without IPv6
    };
    let rig = Rig::on(config(choice), listener, |_, _| {
        let mut outs = Outs::default();
        move |turn: &mut Turn<'_, Mail>| echo(turn, &mut outs)
    });
    let mut stream = rig.connect();
    stream.write_all(b"six").unwrap();
    let mut got = [0; 3];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"six");
    rig.stop();
}

fn pause_and_resume(choice: Choice) {
    let (tell, told) = channel();
    let rig = Rig::new(config(choice), move |_, _| {
        let tell = tell.clone();
        let mut outs = Outs::default();
        let mut paused = None;
        let mut first = true;
        move |turn: &mut Turn<'_, Mail>| {
            let mut pauses = Vec::new();
            for event in turn.events.iter() {
                if let Event::Data { conn, .. } = event {
                    assert_ne!(paused, Some(*conn), "data while paused");
                    if std::mem::take(&mut first) {
                        pauses.push(*conn);
                    }
                }
            }
            echo(turn, &mut outs);
            for conn in pauses {
                paused = Some(conn);
                turn.ops.pause_recv(conn);
                tell.send("paused".to_owned()).unwrap();
            }
            for mail in turn.mail.drain(..) {
                match mail {
                    Mail::Resume => {
                        turn.ops.resume_recv(paused.take().unwrap());
                    }
                    Mail::Number(..) => tell.send("turn".to_owned()).unwrap(),
                    _ => {}
                }
            }
        }
    });
    let mut stream = rig.connect();
    let sent = pattern(9, 1 << 20);
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writing = std::thread::spawn(move || writer.write_all(&copy).unwrap());
    assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), "paused");
    // Some turns go by, each of which would deliver data if there were no pause.
    let mut other = rig.connect();
    for _ in 0..50 {
        other.write_all(b"tick").unwrap();
        other.read_exact(&mut [0; 4]).unwrap();
        rig.handle.post(CoreId(0), Mail::Number(0, 0)).unwrap();
        assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), "turn");
    }
    rig.handle.post(CoreId(0), Mail::Resume).unwrap();
    let mut got = vec![0; sent.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(got == sent);
    writing.join().unwrap();
    rig.stop();
}

fn wake_at_fires(choice: Choice) {
    let (tell, told) = channel();
    let rig = Rig::new(config(choice), move |_, _| {
        let tell = tell.clone();
        let mut due: Option<u64> = None;
        let mut fired = 0;
        move |turn: &mut Turn<'_, Mail>| {
            if due.is_some_and(|due| turn.now.unix_ms >= due) {
                fired += 1;
                due = None;
                tell.send(format!("fired {fired}")).unwrap();
            }
            if fired < 3 {
                let at = *due.get_or_insert(turn.now.unix_ms + 20);
                turn.ops.wake_at(at + 100_000);
                turn.ops.wake_at(at);
            }
        }
    });
    let began = Instant::now();
    for n in 1..=3 {
        assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), format!("fired {n}"));
    }
    assert!(
        began.elapsed() >= Duration::from_millis(55),
        "not before its time"
    );
    rig.stop();
}

fn stop_drains_sends_and_mail(choice: Choice) {
    let (tell, told): (Told, Receiver<String>) = channel();
    let rig = Rig::new(
        Config {
            cores: 2,
            ..config(choice)
        },
        move |core, _| {
            let tell = tell.clone();
            let mut order = InOrder(HashMap::new());
            move |turn: &mut Turn<'_, Mail>| {
                for event in turn.events.drain(..) {
                    if let Event::Data { conn, .. } = event {
                        turn.ops.send(conn, vec![5; 8 << 20]);
                        for number in 0..5000 {
                            turn.ops.post(CoreId(1 - core.0), Mail::Number(0, number));
                        }
                        turn.ops.stop();
                    }
                }
                for mail in turn.mail.drain(..) {
                    if let Mail::Number(sender, number) = mail
                        && order.take(sender, number) == 5000
                    {
                        tell.send("all mail".to_owned()).unwrap();
                    }
                }
            }
        },
    );
    let mut stream = rig.connect();
    stream.write_all(b"bye").unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), 8 << 20);
    assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), "all mail");
    rig.stop();
}

fn stale_ids_are_ignored(choice: Choice) {
    let rig = Rig::new(config(choice), move |_, _| {
        let mut outs = Outs::default();
        let mut stale: Vec<ConnId> = Vec::new();
        move |turn: &mut Turn<'_, Mail>| {
            for event in turn.events.iter() {
                match event {
                    Event::Closed { conn, .. } => stale.push(*conn),
                    Event::Accepted { conn, .. } => assert!(!stale.contains(conn)),
                    _ => {}
                }
            }
            echo(turn, &mut outs);
            for conn in &stale {
                turn.ops.send(*conn, b"stale".to_vec());
                turn.ops.pause_recv(*conn);
                turn.ops.recv_into(*conn, Vec::new(), 100);
                turn.ops.resume_recv(*conn);
                turn.ops.close(*conn);
            }
            turn.ops.close(ConnId::from_u64(u64::MAX >> 1));
        }
    });
    for n in 0..20u64 {
        let mut stream = rig.connect();
        for _ in 0..5 {
            stream.write_all(&pattern(n, 50)).unwrap();
            let mut got = [0; 50];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(got[..], pattern(n, 50));
        }
    }
    rig.stop();
}

fn many_cores_stop_when_told(choice: Choice) {
    let rig = echo_rig(Config {
        cores: 6,
        ..config(choice)
    });
    let streams: Vec<_> = (0..12).map(|_| rig.connect()).collect();
    for mut stream in &streams {
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    let handle = rig.handle.clone();
    rig.stop();
    for mut stream in streams {
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "closed by the end");
    }
    assert!(
        handle.post(CoreId(0), Mail::Close).is_err(),
        "nobody is there"
    );
}

fn a_panic_is_told_by_join(choice: Choice) {
    let mut rig = Rig::new(
        Config {
            cores: 2,
            ..config(choice)
        },
        |core, _| {
            move |turn: &mut Turn<'_, Mail>| {
                if core.0 == 1 && turn.mail.iter().any(|mail| matches!(mail, Mail::Close)) {
                    panic!("as asked");
                }
            }
        },
    );
    let mut stream = rig.connect();
    rig.handle.post(CoreId(1), Mail::Close).unwrap();
    let error = rig.running.take().unwrap().join().unwrap_err();
    assert!(error.to_string().contains("core 1") && error.to_string().contains("as asked"));
    drop(rig);
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
}

fn nodelay_and_keepalive_are_set(choice: Choice) {
    let config = config(choice);
    config
        .keepalive_s
        .store(300, std::sync::atomic::Ordering::Relaxed);
    let rig = Rig::new(config, |_, _| {
        move |turn: &mut Turn<'_, Mail>| {
            for event in turn.events.drain(..) {
                let Event::Accepted { conn, fd, .. } = event else {
                    continue;
                };
                let path = format!("/proc/self/fd/{fd}");
                assert!(
                    std::fs::read_link(path)
                        .unwrap()
                        .to_string_lossy()
                        .contains("socket")
                );
                turn.ops.send(conn, vec![b'k']);
            }
        }
    });
    let mut stream = rig.connect();
    stream.read_exact(&mut [0]).unwrap();
    let local = stream.local_addr().unwrap();
    // Our own table of descriptors holds the server's end too: the one whose peer is our end.
    let ends = (3..2000).filter_map(|fd| {
        let path = format!("/proc/self/fd/{fd}");
        std::fs::read_link(path)
            .ok()
            .filter(|link| link.to_string_lossy().contains("socket"))?;
        server_end(fd, local)
    });
    let found: Vec<(bool, bool, Duration)> = ends.collect();
    assert_eq!(found, [(true, true, Duration::from_secs(300))]);
    rig.stop();
}

/// Options of a descriptor of this process if its peer is `peer`.
fn server_end(fd: i32, peer: SocketAddr) -> Option<(bool, bool, Duration)> {
    use rustix::net::{getpeername, sockopt};
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let me = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
    let fd = pidfd_getfd(me, fd, PidfdGetfdFlags::empty()).ok()?;
    let addr = SocketAddr::try_from(getpeername(&fd).ok()??).ok()?;
    if addr != peer {
        return None;
    }
    Some((
        sockopt::tcp_nodelay(&fd).ok()?,
        sockopt::socket_keepalive(&fd).ok()?,
        sockopt::tcp_keepidle(&fd).ok()?,
    ))
}

fn statistics_count_and_reset(choice: Choice) {
    let rig = echo_rig(config(choice));
    rig.handle.stats(CoreId(0)).unwrap().cpu_clock(true);
    let mut stream = rig.connect();
    for _ in 0..100 {
        stream.write_all(b"hello").unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
    }
    // Ends the turn that counts the last send.
    rig.handle.post(CoreId(0), Mail::Resume).unwrap();
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    let stats = rig.handle.stats(CoreId(0)).unwrap();
    let now = stats.read();
    assert!(now.bytes_in >= 500 && now.bytes_out >= 500 && now.recvs >= 100 && now.sends >= 100);
    assert!(now.turns >= 100 && now.kernel_entries >= 100 && now.turn_longest_us > 0);
    stats.reset();
    assert!(stats.read().bytes_in <= 10);
    assert_eq!(
        rig.handle.driver(),
        if choice == Choice::Epoll {
            "epoll"
        } else {
            "io_uring"
        }
    );
    rig.stop();
}
