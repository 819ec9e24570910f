//! What the end of a wait leaves behind: a request that waited is asked again what its user may, and is counted once.
//!
//! As in Redis, a request that waits is one call however often it is tried: it counts when it is answered (or its time is over),
//! with the time of all its tries, which excludes that of the wait. A connection that goes while it waits has called nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::acl::{Denied, Place};
use crate::blocking::{Again, Attempt, Tried, Waiter};
use crate::commandlog::Client;
use crate::connection::Request;
use crate::core::{Core, Scope};
use crate::mail::Mail;
use crate::service::NodeService;
use crate::table::Row;

/// Whether a waiter's user may have what it waited for.
enum Served {
    May,
    /// The client has been told that it may not, or will be.
    Denied,
    /// The user was deleted: its connections are about to be closed.
    Gone,
}

impl Core {
    /// A request that could have waited has a reply of so many bytes.
    pub(crate) fn count_served(&mut self, row: &'static Row, ticks: u64, reply_bytes: usize) {
        self.tally.called(row.index, ticks);
        self.note_later(row, ticks, reply_bytes);
    }

    /// As `count_served`, for one that was refused when it ran.
    pub(crate) fn count_refused(&mut self, row: &'static Row, ticks: u64) {
        self.count_served(row, ticks, 0);
        self.tally.failed(row.index);
    }

    /// As `count_served`, for one whose connection is not at hand.
    pub(crate) fn count_attempt(&mut self, attempt: &Attempt, ticks: u64, reply_bytes: usize) {
        let (row, ticket) = (attempt.request.row, attempt.ticket);
        self.count_served(row, ticks, reply_bytes);
        let shown = attempt.shown.as_ref().unwrap_or(&attempt.request);
        let client = Client::Of(ticket.core, ticket.conn);
        self.note(row, &shown.args(), client);
    }

    /// A wait for keys is over, and nothing came.
    pub(crate) fn count_unserved(&mut self, waiter: &Waiter) {
        if !waiter.keys.is_empty() {
            self.count_attempt(&waiter.attempt, waiter.ticks.load(Relaxed), 0);
        }
    }
}

impl NodeService {
    /// Runs a request that waits, or its part for one of its keys; all slots are here.
    pub(crate) fn run_waiter(
        &mut self,
        waiter: &Arc<Waiter>,
        request: &Request,
        scope: Scope,
    ) -> Again {
        if waiter.is_done() {
            // Its connection has gone meanwhile: no element is taken for it.
            return Again::Answered;
        }
        match self.may_be_served(waiter) {
            Served::May => {}
            Served::Denied => return Again::Answered,
            Served::Gone => {
                waiter.give_back();
                return Again::Waits;
            }
        }
        let (row, attempt) = (request.row, &waiter.attempt);
        let to = (attempt.db, attempt.resp, scope);
        let mut out = self.core.buffer();
        let (tried, ticks) = self.core.try_block(row, request.args(), to, &mut out);
        let ticks = waiter.ticks.fetch_add(ticks, Relaxed) + ticks;
        let answered = match tried {
            Tried::Replied => {
                self.core.count_attempt(attempt, ticks, out.len());
                true
            }
            Tried::Refused(refusal) => {
                self.core.count_refused(row, ticks);
                self.core.refuse(&refusal, attempt.resp, &mut out);
                true
            }
            Tried::Waits(_) => false,
        };
        let again = if answered {
            waiter.end();
            self.core.delist(waiter);
            self.reply(waiter.ticket(), &out);
            Again::Answered
        } else {
            waiter.give_back();
            Again::Waits
        };
        self.core.keep_buffer(out);
        again
    }

    /// Asks again what the user of a waiter may, which others may have changed meanwhile.
    fn may_be_served(&mut self, waiter: &Arc<Waiter>) -> Served {
        let attempt = &waiter.attempt;
        let Some(user) = self.core.users.again(&attempt.user) else {
            return Served::Gone;
        };
        let Err(denied) = user.check(attempt.request.row, &attempt.request.args()) else {
            return Served::May;
        };
        // ACL LOG names the connection, which its own core knows.
        waiter.end();
        self.core.delist(waiter);
        let home = attempt.ticket.core;
        if home == self.core.id {
            self.on_denied(waiter, denied);
        } else {
            let mail = Mail::Denied(Arc::clone(waiter), denied);
            self.core.posts.push((home, mail));
        }
        Served::Denied
    }

    /// A connection of this core may no more what it waited for.
    pub(crate) fn on_denied(&mut self, waiter: &Waiter, denied: Denied) {
        let (ticket, request) = (waiter.ticket(), &waiter.attempt.request);
        let Some(conn) = self.clients.get_mut(ticket.conn) else {
            return;
        };
        let args = request.args();
        let object = denied.object(request.row, &args);
        let core = &mut self.core;
        core.note_denied(conn, denied.into(), Place::Toplevel, object, None);
        core.tally.rejected(request.row.index);
        let refusal = denied.refusal(&waiter.attempt.user, request.row);
        let mut out = Vec::new();
        core.refuse(&refusal, waiter.attempt.resp, &mut out);
        self.complete(ticket, self.core.id, &out);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, Client};

    fn stats(bench: &mut Bench, client: Client, name: &str) -> String {
        let info = bench.call(client, "INFO commandstats");
        let name = format!("cmdstat_{name}:");
        let line = info.lines().find_map(|line| line.strip_prefix(&name));
        let Some(line) = line else { return "".into() };
        let kept = line.split(',').filter(|part| !part.starts_with("usec"));
        kept.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_wait_is_one_call_when_it_is_over() {
        for cores in 1..=3 {
            let mut bench = Bench::new(cores);
            let waiters: Vec<Client> = (0..4).map(|n| bench.connect(n % cores)).collect();
            let actor = bench.connect(cores - 1);
            bench.call(actor, "CONFIG SET slowlog-log-slower-than 0");
            let id = bench.call(waiters[2], "CLIENT ID").trim()[1..].to_owned();
            bench.call(actor, "SLOWLOG RESET");
            for (n, timeout) in ["0", "0.01", "0", "0"].iter().enumerate() {
                let request = format!("BLPOP a{n} b {timeout}");
                assert_eq!(bench.call(waiters[n], &request), "");
            }
            assert_eq!(stats(&mut bench, actor, "blpop"), "", "none is over");
            bench.call(actor, "RPUSH b x");
            assert_eq!(bench.received(waiters[0]), b"*2\r\n$1\r\nb\r\n$1\r\nx\r\n");
            assert_eq!(
                stats(&mut bench, actor, "blpop"),
                "calls=1 rejected_calls=0 failed_calls=0"
            );
            bench.advance(10);
            bench.call(actor, &format!("CLIENT UNBLOCK {id} ERROR"));
            bench.close(waiters[3]);
            assert_eq!(
                stats(&mut bench, actor, "blpop"),
                "calls=3 rejected_calls=0 failed_calls=1"
            );
            assert_eq!(bench.call(waiters[0], "XREAD BLOCK 5 STREAMS s $"), "");
            bench.advance(5);
            let log = bench.call(actor, "SLOWLOG GET 100");
            assert_eq!(log.matches("BLPOP").count(), 3, "{log}");
            assert!(log.contains(
                "XREAD\r\n$5\r\nBLOCK\r\n$1\r\n5\r\n$7\r\nSTREAMS\r\n$1\r\ns\r\n$1\r\n$\r\n"
            ));
            for n in 0..3 {
                assert!(log.contains(&format!("$2\r\na{n}\r\n$1\r\nb\r\n")), "{log}");
            }
        }
    }

    #[test]
    fn who_may_no_more_is_not_served() {
        for cores in 1..=3 {
            let mut bench = Bench::new(cores);
            let waiters: Vec<Client> = (0..3).map(|n| bench.connect(n % cores)).collect();
            let actor = bench.connect(cores - 1);
            bench.call(actor, "ACL SETUSER u on nopass ~* +@all");
            bench.call(actor, "ACL SETUSER v on nopass ~* +@all");
            for (waiter, user) in waiters.iter().zip(["u", "v", "u"]) {
                bench.call(*waiter, &format!("AUTH {user} x"));
            }
            assert_eq!(bench.call(waiters[0], "BLPOP a b 0"), "");
            assert_eq!(bench.call(waiters[1], "BLPOP b 0"), "");
            assert_eq!(bench.call(waiters[2], "BLMOVE b c LEFT LEFT 0"), "");
            bench.call(actor, "ACL SETUSER u resetkeys ~b");
            bench.call(actor, "RPUSH b x y");
            let text =
                |bench: &mut Bench, client| String::from_utf8(bench.received(client)).unwrap();
            let denied = "-NOPERM No permissions to access a key\r\n";
            assert_eq!(text(&mut bench, waiters[0]), denied);
            assert_eq!(text(&mut bench, waiters[1]), "*2\r\n$1\r\nb\r\n$1\r\nx\r\n");
            assert_eq!(text(&mut bench, waiters[2]), denied);
            assert_eq!(bench.call(actor, "LRANGE b 0 -1"), "*1\r\n$1\r\ny\r\n");
            let log = bench.call(actor, "ACL LOG");
            assert!(log.contains("$6\r\nobject\r\n$1\r\na\r\n"), "{log}");
            assert!(log.contains("$6\r\nobject\r\n$1\r\nc\r\n"), "{log}");
            assert_eq!(
                stats(&mut bench, actor, "blpop"),
                "calls=1 rejected_calls=1 failed_calls=0"
            );
            assert_eq!(bench.call(waiters[0], "LLEN b"), ":1\r\n", "it goes on");
        }
    }
}
