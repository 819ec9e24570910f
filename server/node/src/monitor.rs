//! MONITOR: a line for each request, to the clients that asked for them.
//!
//! ```text
//! core: has run (or passed on) a request ──> line ──┬──> the monitors of this core
//!       only while there are monitors               └──> at the end of the turn, one message to each core with monitors
//! ```
//! A monitor is a client like others: its output is bounded by `client-output-buffer-limit normal`. While nobody monitors the
//! number of monitors is read once a turn, and a request pays nothing: what it is compared with is there for pauses already.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use protocol::{Args, Flags};
use runtime::{ConnId, CoreId, Peer};

use crate::connection::Connection;
use crate::core::Core;
use crate::mail::Mail;
use crate::redact::shown;
use crate::service::NodeService;
use crate::stats::Call;
use crate::table::{Kind, Row};

/// The monitors of each core, as all cores see them.
pub struct Monitors(Box<[AtomicUsize]>);

impl Monitors {
    /// None, on so many cores.
    pub fn new(cores: usize) -> Monitors {
        Monitors((0..cores).map(|_| AtomicUsize::new(0)).collect())
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|count| count.load(Relaxed) as u64).sum()
    }

    fn at(&self, core: usize) -> usize {
        self.0.get(core).map_or(0, |count| count.load(Relaxed))
    }
}

/// What a core knows of monitors.
#[derive(Default)]
pub struct Watchers {
    /// Monitors of all cores, as of the beginning of the turn.
    pub count: u64,
    /// Those of this core.
    here: Vec<ConnId>,
    /// Lines of this turn.
    lines: Vec<u8>,
}

impl Core {
    /// A client of this core becomes a monitor.
    pub fn begin_monitor(&mut self, conn: &mut Connection) {
        if !core::mem::replace(&mut conn.monitor, true) {
            self.watchers.here.push(conn.conn);
            self.watchers.count += 1;
            self.node.monitors.0[self.id.index()].fetch_add(1, Relaxed);
        }
    }

    /// It is one no more.
    pub fn end_monitor(&mut self, conn: &mut Connection) {
        if core::mem::take(&mut conn.monitor) {
            self.watchers.here.retain(|other| *other != conn.conn);
            self.node.monitors.0[self.id.index()].fetch_sub(1, Relaxed);
        }
    }

    /// Writes a request's line for the monitors, unless it is one that is not shown.
    #[cold]
    pub fn show(&mut self, conn: &Connection, row: &Row, args: &Args<'_>) {
        let flags = row.spec.flags;
        // A script is shown before what it calls: when it begins.
        let is_script = matches!(row.kind, Kind::Script(_));
        if flags.contains(Flags::ADMIN) || (flags.contains(Flags::SKIP_MONITOR) && !is_script) {
            return;
        }
        let from = match conn.peer {
            Peer::Tcp { peer, .. } => peer.to_string(),
            Peer::Unix => format!("unix:{}", self.config.unixsocket),
        };
        self.write_line(conn.db, &from, row, args);
    }

    /// The same for what a script calls.
    #[cold]
    pub fn show_in_script(&mut self, db: u8, row: &Row, args: &Args<'_>) {
        let flags = row.spec.flags;
        if !flags.contains(Flags::ADMIN) && !flags.contains(Flags::SKIP_MONITOR) {
            self.write_line(db, "lua", row, args);
        }
    }

    /// How far the lines are, and back to there: what has been undone was never shown.
    pub fn lines_mark(&self) -> usize {
        self.watchers.lines.len()
    }

    /// See [`Core::lines_mark`].
    pub fn rewind_lines(&mut self, mark: usize) {
        self.watchers.lines.truncate(mark);
    }

    /// Takes the lines of what has run beside the cores, and adds them to those of its core.
    pub(crate) fn take_lines(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.watchers.lines)
    }

    /// See [`Core::take_lines`].
    pub(crate) fn add_lines(&mut self, lines: &[u8]) {
        self.watchers.lines.extend_from_slice(lines);
    }

    fn write_line(&mut self, db: u8, from: &str, row: &Row, args: &Args<'_>) {
        let (s, us) = (self.now.unix_us / 1_000_000, self.now.unix_us % 1_000_000);
        let mut line = format!("+{s}.{us:06} [{db} {from}]");
        for at in 0..args.total() {
            line.push(' ');
            quote(shown(row, args, at), &mut line);
        }
        line.push_str("\r\n");
        self.watchers.lines.extend_from_slice(line.as_bytes());
    }
}

/// A word in quotes, its bytes that are no plain text escaped.
fn quote(word: &[u8], out: &mut String) {
    out.push('"');
    for byte in word {
        match byte {
            b'\\' | b'"' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            7 => out.push_str("\\a"),
            8 => out.push_str("\\b"),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
}

impl NodeService {
    /// The lines of a turn on their way.
    pub(crate) fn send_lines(&mut self) {
        if self.core.watchers.lines.is_empty() {
            return;
        }
        let lines: Arc<[u8]> = core::mem::take(&mut self.core.watchers.lines).into();
        for core in 0..self.core.node.cores() {
            if core != self.core.id.index() && self.core.node.monitors.at(core) > 0 {
                let mail = Mail::Lines(Arc::clone(&lines));
                self.core.posts.push((CoreId(core as u16), mail));
            }
        }
        self.show_lines(&lines);
    }

    /// Lines for the monitors of this core.
    pub(crate) fn show_lines(&mut self, lines: &[u8]) {
        for conn in core::mem::take(&mut self.core.watchers.here) {
            let Some(client) = self.clients.get_mut(conn) else {
                continue;
            };
            self.core.watchers.here.push(conn);
            if client.closing {
                continue;
            }
            let start = client.outbound.buffer().len();
            client.outbound.buffer().extend_from_slice(lines);
            client.outbound.end(start, Call::NONE);
            self.mark_dirty(conn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::quote;
    use crate::testing::Bench;

    #[test]
    fn words_are_quoted() {
        let mut text = String::new();
        quote(b"a\"\\\n\r\t\x07\x08\x00\xff ~", &mut text);
        assert_eq!(text, r#""a\"\\\n\r\t\a\b\x00\xff ~""#);
    }

    /// A script is shown before what it calls, once, even when it had to begin anew.
    #[test]
    fn what_scripts_call_is_shown() {
        for cores in [1, 2, 3] {
            let mut bench = Bench::new(cores);
            let (monitor, client) = (bench.connect(0), bench.connect(cores - 1));
            assert_eq!(bench.call(monitor, "MONITOR"), "+OK\r\n");
            let script = b"*3\r\n$4\r\nEVAL\r\n$81\r\n\
                for n = 1, 9 do redis.call('set', 'k' .. n, n) end return redis.call('get', 'k1')\r\n$1\r\n0\r\n";
            bench.send(client, script);
            assert_eq!(bench.received(client), b"$1\r\n1\r\n");
            let seen = String::from_utf8(bench.received(monitor)).unwrap();
            let lines: Vec<&str> = seen.lines().collect();
            assert!(lines[0].contains("] \"EVAL\" "), "{seen}");
            let called = lines
                .iter()
                .filter(|line| line.contains(" [0 lua] \"set\" \"k"));
            assert_eq!((called.count(), lines.len()), (9, 11), "{seen}");
            assert!(lines[10].ends_with(" [0 lua] \"get\" \"k1\""), "{seen}");
        }
    }

    /// EXEC over several cores was shown when it came, before what it ran.
    #[test]
    fn exec_is_shown_behind_what_it_runs() {
        for cores in [1, 2, 3] {
            let mut bench = Bench::new(cores);
            let (monitor, client) = (bench.connect(0), bench.connect(cores - 1));
            assert_eq!(bench.call(monitor, "MONITOR"), "+OK\r\n");
            for request in ["WATCH w", "MULTI", "SET a 1", "SET b 2", "SET c 3", "EXEC"] {
                bench.call(client, request);
            }
            let seen = String::from_utf8(bench.received(monitor)).unwrap();
            let names = seen.lines().filter_map(|line| line.split('"').nth(1));
            let names: Vec<&str> = names.collect();
            assert_eq!(names, ["WATCH", "MULTI", "SET", "SET", "SET", "EXEC"]);
        }
    }

    #[test]
    fn requests_of_all_cores_are_shown_once() {
        for cores in [1, 2, 3] {
            let mut bench = Bench::new(cores);
            let (monitor, client) = (bench.connect(0), bench.connect(cores - 1));
            assert_eq!(bench.call(monitor, "MONITOR"), "+OK\r\n");
            assert_eq!(bench.call(monitor, "MONITOR"), "");
            let mut expected = String::new();
            for request in [
                "SELECT 3",
                "SET a 1",
                "MGET a b c",
                "DBSIZE",
                "AUTH x",
                "PING",
            ] {
                bench.call(client, request);
                if request == "SELECT 3" {
                    // (The database is that from before.)
                    expected.push_str("0 \"SELECT\" \"3\"|");
                    continue;
                }
                let quoted: Vec<String> = request.split(' ').map(|w| format!("\"{w}\"")).collect();
                let line = quoted.join(" ").replace("\"x\"", "\"(redacted)\"");
                expected.push_str(&format!("3 {line}|"));
            }
            bench.call(client, "CONFIG GET maxmemory");
            bench.send(client, b"MULTI\r\nSET a 2\r\nGET a\r\nEXEC\r\n");
            expected.push_str("3 \"MULTI\"|3 \"SET\" \"a\" \"2\"|3 \"GET\" \"a\"|3 \"EXEC\"|");
            let seen = String::from_utf8(bench.received(monitor)).unwrap();
            let mut lines = String::new();
            for line in seen.lines() {
                assert!(line.starts_with("+1700000000.000000 ["), "{line}");
                let (db, rest) = line.split_once('[').unwrap().1.split_once(' ').unwrap();
                let (addr, rest) = rest.split_once("] ").unwrap();
                assert!(addr.starts_with("127.0.0.1:"));
                lines.push_str(&format!("{db} {rest}|"));
            }
            assert_eq!(lines.replacen("3 \"SELECT\"", "0 \"SELECT\"", 1), expected);
            assert_eq!(
                bench.call(monitor, "GET a"),
                "-ERR Replica can't interact with the keyspace\r\n"
            );
            assert!(bench.call(client, "CLIENT LIST").contains(" flags=O "));
            bench.received(monitor);
            assert_eq!(bench.call(monitor, "RESET"), "+RESET\r\n");
            bench.call(client, "PING");
            assert_eq!(bench.received(monitor), b"");
        }
    }
}
