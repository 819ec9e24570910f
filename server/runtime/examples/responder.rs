//! The floor under every benchmark: a server that does nothing but receive, count and reply.
//!
//! Every `*` in the received bytes counts as a request and gets the same 64-byte bulk reply.
//!
//! ```sh
//! taskset -c 0 responder --port 7000 --io uring &
//! taskset -c 1 redis-benchmark -p 7000 -c 50 -n 200000 -P 16 -t get
//! ```
//!
//! `--cores N` spreads connections over N cores, `--buffer-bytes` and `--buffer-count` size the receive pool. Every
//! second in which something happened, the counters of core 0 are printed.

use std::io;
use std::time::Duration;

use runtime::{
    Choice, Config, ConnId, CoreId, Event, Listener, Ops, Service, Spread, StatsNow, Turn, start,
};

/// The reply to everything.
const REPLY: &[u8] = b"$64\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";

#[derive(Default)]
struct Client {
    /// A send is under way.
    sending: bool,
    /// In `touched` already.
    touched: bool,
    /// Replies due.
    due: usize,
}

#[derive(Default)]
struct Responder {
    clients: Vec<Client>,
    touched: Vec<ConnId>,
    spare: Vec<Vec<u8>>,
}

impl Responder {
    fn client(&mut self, conn: ConnId) -> &mut Client {
        if self.clients.len() <= conn.index() {
            self.clients.resize_with(conn.index() + 1, Client::default);
        }
        &mut self.clients[conn.index()]
    }

    fn owe(&mut self, conn: ConnId, due: usize) {
        let client = self.client(conn);
        client.due += due;
        if !std::mem::replace(&mut client.touched, true) {
            self.touched.push(conn);
        }
    }

    fn flush(&mut self, ops: &mut Ops<()>) {
        for conn in self.touched.drain(..) {
            let client = &mut self.clients[conn.index()];
            client.touched = false;
            if client.sending || client.due == 0 {
                continue;
            }
            let mut buffer = self.spare.pop().unwrap_or_default();
            for _ in 0..std::mem::take(&mut client.due) {
                buffer.extend_from_slice(REPLY);
            }
            client.sending = true;
            ops.send(conn, buffer);
        }
    }
}

impl Service for Responder {
    type Mail = ();

    fn turn(&mut self, turn: &mut Turn<'_, ()>) {
        let mut events = std::mem::take(turn.events);
        for event in events.drain(..) {
            match event {
                Event::Accepted { conn, .. } => *self.client(conn) = Client::default(),
                Event::Data { conn, span } => {
                    let stars = turn
                        .bytes(span)
                        .iter()
                        .filter(|byte| **byte == b'*')
                        .count();
                    self.owe(conn, stars);
                }
                Event::Sent { conn, buffer } => {
                    self.spare.push(buffer);
                    self.client(conn).sending = false;
                    self.owe(conn, 0);
                }
                Event::Ended { .. }
                | Event::Closed { .. }
                | Event::Filled { .. }
                | Event::Progress { .. } => {}
            }
        }
        *turn.events = events;
        self.flush(turn.ops);
    }
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut port = 7000u16;
    let mut config = Config {
        pin: false,
        ..Config::default()
    };
    while let (Some(name), Some(value)) = (args.next(), args.next()) {
        let number = || value.parse::<usize>().map_err(io::Error::other);
        match name.as_str() {
            "--port" => port = value.parse().map_err(io::Error::other)?,
            "--cores" => config.cores = number()?,
            "--buffer-bytes" => config.buffer_bytes = number()?,
            "--buffer-count" => config.buffer_count = number()?,
            "--io" if value == "uring" => config.choice = Choice::Uring,
            "--io" if value == "epoll" => config.choice = Choice::Epoll,
            _ => return Err(io::Error::other(format!("unknown option {name} {value}"))),
        }
    }
    let listener = Listener::tcp(([127, 0, 0, 1], port).into(), 511)?.spread(Spread::RoundRobin);
    let running = start(config, vec![(CoreId(0), listener)], |_, _| {
        Responder::default()
    })?;
    let handle = running.handle();
    eprintln!("{} on port {port}", handle.driver());
    let mut last = StatsNow::default();
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let Some(now) = handle.stats(CoreId(0)).map(|stats| stats.read()) else {
            return running.join();
        };
        if now.recvs > last.recvs {
            let per = |a: u64, b: u64| (a - b) as f64 / (now.recvs - last.recvs) as f64;
            let entries = per(now.kernel_entries, last.kernel_entries);
            let turns = per(now.turns, last.turns);
            eprintln!(
                "{} recvs/s, per recv: {entries:.3} entries, {turns:.3} turns",
                now.recvs - last.recvs
            );
            eprintln!("{now:?}");
        }
        last = now;
    }
}
