//! The server as a whole: SHUTDOWN, TIME, LASTSAVE, SAVE and its like, LOLWUT.

use commands::Refused;
use protocol::{Acl, Args, Arity, Flags, Group, Refusal, Spec};
use runtime::CoreId;

use crate::admin::{Context, Done, NodeCommand, VERSION_REPORTED};
use crate::control::snapshot::Goal;
use crate::image::{Answer, Work};
use crate::mail::Mail;
use crate::rewrite::{SCHEDULED, STARTED, holds_shutdown, rewrites_since_ms};

/// What most of the rows have in common.
const BASE: Spec = Spec {
    name: "",
    summary: "",
    since: "",
    arity: Arity::at_least(1),
    group: Group::Server,
    flags: Flags::NONE,
    acl: Acl::SLOW,
    keys: &[],
    range: (0, 0, 0),
    tips: &[],
    deprecated_since: None,
};

pub(super) const COMMANDS: &[NodeCommand] = &[
    NodeCommand {
        spec: Spec {
            name: "bgrewriteaof",
            summary: "Writes the log of commands anew, in the background.",
            since: "1.0.0",
            arity: Arity::exactly(1),
            flags: Flags::ADMIN
                .and(Flags::NO_ASYNC_LOADING)
                .and(Flags::NOSCRIPT),
            acl: Acl::ADMIN.and(Acl::DANGEROUS).and(Acl::SLOW),
            ..BASE
        },
        run: Some(bgrewriteaof),
    },
    NodeCommand {
        spec: Spec {
            name: "bgsave",
            summary: "Writes a snapshot in the background.",
            since: "1.0.0",
            arity: Arity::at_least(1),
            flags: Flags::ADMIN
                .and(Flags::NO_ASYNC_LOADING)
                .and(Flags::NOSCRIPT),
            acl: Acl::ADMIN.and(Acl::DANGEROUS).and(Acl::SLOW),
            ..BASE
        },
        run: Some(bgsave),
    },
    NodeCommand {
        spec: Spec {
            name: "save",
            summary: "Writes a snapshot.",
            since: "1.0.0",
            arity: Arity::exactly(1),
            flags: Flags::ADMIN
                .and(Flags::NO_ASYNC_LOADING)
                .and(Flags::NO_MULTI)
                .and(Flags::NOSCRIPT),
            acl: Acl::ADMIN.and(Acl::DANGEROUS).and(Acl::SLOW),
            ..BASE
        },
        run: Some(save),
    },
    NodeCommand {
        spec: Spec {
            name: "lastsave",
            summary: "Tells when the last snapshot was written.",
            since: "1.0.0",
            arity: Arity::exactly(1),
            flags: Flags::FAST.and(Flags::LOADING).and(Flags::STALE),
            acl: Acl::ADMIN.and(Acl::DANGEROUS).and(Acl::FAST),
            tips: &["nondeterministic_output"],
            ..BASE
        },
        run: Some(lastsave),
    },
    NodeCommand {
        spec: Spec {
            name: "lolwut",
            summary: "Shows a small picture and the version.",
            since: "5.0.0",
            arity: Arity::at_least(1),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::FAST.and(Acl::READ),
            ..BASE
        },
        run: Some(lolwut),
    },
    NodeCommand {
        spec: Spec {
            name: "shutdown",
            summary: "Stops the server.",
            since: "1.0.0",
            arity: Arity::at_least(1),
            flags: Flags::ADMIN
                .and(Flags::ALLOW_BUSY)
                .and(Flags::LOADING)
                .and(Flags::NO_MULTI)
                .and(Flags::NOSCRIPT)
                .and(Flags::SENTINEL)
                .and(Flags::STALE),
            acl: Acl::ADMIN.and(Acl::DANGEROUS).and(Acl::SLOW),
            ..BASE
        },
        run: Some(shutdown),
    },
    NodeCommand {
        spec: Spec {
            name: "time",
            summary: "Tells the time.",
            since: "2.6.0",
            arity: Arity::exactly(1),
            flags: Flags::FAST.and(Flags::LOADING).and(Flags::STALE),
            acl: Acl::FAST,
            tips: &["nondeterministic_output"],
            ..BASE
        },
        run: Some(time),
    },
];

/// Another snapshot is being written.
const SAVES: Refusal = Refusal::Text("ERR Background save already in progress");
const REWRITES: Refusal =
    Refusal::Text("ERR Background append only file rewriting already in progress");
const BUSY: Refusal = Refusal::Text(
    "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule a BGSAVE whenever possible.",
);
const SHUTDOWN_FAILED: Refusal = Refusal::Text("ERR Errors trying to SHUTDOWN. Check logs.");

fn time(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    // When this turn began: all commands of a turn agree on the time.
    let now_us = cx.core.now.unix_us;
    cx.reply.array(2);
    cx.reply.bulk((now_us / 1_000_000).to_string().as_bytes());
    cx.reply.bulk((now_us % 1_000_000).to_string().as_bytes());
    Ok(Done::Replied)
}

fn lastsave(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let facts = cx.core.node.snapshots.facts();
    cx.reply.int(facts.last_save_s.cast_signed());
    Ok(Done::Replied)
}

fn bgsave(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let schedule = args.left() == 1 && args.keyword("SCHEDULE");
    if args.left() > 0 {
        return Err(Refusal::Syntax.into());
    }
    let snapshots = &cx.core.node.snapshots;
    let facts = snapshots.facts();
    if facts.since_ms_for(Goal::File).is_some() {
        return Err(SAVES.into());
    }
    // Within a transaction there is no other one: it begins behind it.
    if cx.inside_exec || (facts.since_ms.is_some() && schedule) {
        snapshots.note(|facts| facts.scheduled = true);
        cx.reply.simple("Background saving scheduled");
        return Ok(Done::Replied);
    }
    if facts.since_ms.is_some() {
        return Err(BUSY.into());
    }
    begin_snapshot(cx, Goal::File, Answer::Begun)
}

fn save(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let facts = cx.core.node.snapshots.facts();
    if facts.since_ms.is_some() && facts.goal != Goal::File {
        // One at a time: this one begins, and is answered, behind the rewrite (or the copy for replicas).
        let ticket = cx.core.begin_exclusive(cx.conn);
        cx.core.image.later.push((ticket, cx.conn.resp));
        cx.core.begin_later();
        return Ok(Done::Later);
    }
    begin_snapshot(cx, Goal::File, Answer::Ended)
}

fn begin_snapshot(cx: &mut Context<'_>, goal: Goal, answer: Answer) -> Result<Done, Refused> {
    if !cx.core.node.snapshots.claim(cx.core.now.unix_ms, goal) {
        return Err(SAVES.into());
    }
    let ticket = cx.core.begin_exclusive(cx.conn);
    cx.core
        .start_image(ticket, cx.conn.resp, Work::Cut(goal, answer));
    Ok(Done::Later)
}

fn bgrewriteaof(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    let node = cx.core.node;
    let facts = node.snapshots.facts();
    if rewrites_since_ms(node, cx.core.now.unix_ms).is_some() {
        return Err(REWRITES.into());
    }
    let waits = cx.inside_exec || facts.since_ms.is_some();
    if !waits && node.write_log.is_on() {
        return begin_snapshot(cx, Goal::Base, Answer::Begun);
    }
    node.snapshots.note(|facts| facts.rewrites.ask());
    // Without a log there are no files yet: the first core sees to them.
    cx.core.posts.push((CoreId(0), Mail::Switched));
    cx.reply.simple(if waits { SCHEDULED } else { STARTED });
    Ok(Done::Replied)
}

fn shutdown(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    let (mut save, mut nosave, mut abort, mut force, mut now) = (false, false, false, false, false);
    while args.left() > 0 {
        if args.keyword("SAVE") {
            save = true;
        } else if args.keyword("NOSAVE") {
            nosave = true;
        } else if args.keyword("NOW") {
            now = true;
        } else if args.keyword("FORCE") {
            force = true;
        } else if args.keyword("ABORT") {
            abort = true;
        } else {
            return Err(Refusal::Syntax.into());
        }
    }
    if (abort && (save || nosave || now || force)) || (save && nosave) {
        return Err(Refusal::Syntax.into());
    }
    if abort {
        // A shutdown waits for nothing but replies on their way, so there is none to call off.
        return Err(Refusal::NoShutdown.into());
    }
    if let Some(busy) = cx.core.busy().filter(|_| !nosave) {
        return Err(busy.refusal().into());
    }
    if holds_shutdown(cx.core.node, force) {
        return Err(SHUTDOWN_FAILED.into());
    }
    let saves = save || (!cx.core.config.save.is_empty() && !nosave);
    if saves && !cx.core.node.loading.is_on() {
        let ticket = cx.core.begin_exclusive(cx.conn);
        let work = Work::Leave { save: true, force };
        cx.core.start_image(ticket, cx.conn.resp, work);
        return Ok(Done::Later);
    }
    cx.core.leave();
    Ok(Done::Silent)
}

/// The first lines of LOLWUT: hills under a sky with some stars, of the width that fits a terminal.
const HILLS_WIDTH: usize = 64;
const HILLS_HEIGHT: usize = 9;

fn lolwut(cx: &mut Context<'_>, mut args: Args<'_>) -> Result<Done, Refused> {
    if args.left() >= 2 && args.keyword("VERSION") {
        // One picture for all versions; the numbers that those of Redis take must be numbers all the same.
        let sizes = match args.int()? {
            5 => 3,
            6 => 2,
            _ => 0,
        };
        for _ in 0..args.left().min(sizes) {
            args.int()?;
        }
    }
    let rng = &mut cx.core.rng;
    let mut height = HILLS_HEIGHT / 2;
    let heights: Vec<usize> = (0..HILLS_WIDTH)
        .map(|_| {
            height = match rng.index(4) {
                0 => (height + 1).min(HILLS_HEIGHT - 2),
                1 => height.saturating_sub(1).max(1),
                _ => height,
            };
            height
        })
        .collect();
    let mut picture = String::with_capacity((HILLS_WIDTH + 1) * (HILLS_HEIGHT + 1));
    for row in (1..=HILLS_HEIGHT).rev() {
        for ground in &heights {
            picture.push(match row.cmp(ground) {
                core::cmp::Ordering::Less => '#',
                core::cmp::Ordering::Equal => '^',
                core::cmp::Ordering::Greater if rng.index(40) == 0 => '*',
                core::cmp::Ordering::Greater => ' ',
            });
        }
        picture.push('\n');
    }
    picture.push_str(&format!("\nRedis ver. {VERSION_REPORTED}\n"));
    cx.reply.verbatim("txt", picture.as_bytes());
    Ok(Done::Replied)
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn shutdown_stops_every_core_and_says_nothing() {
        for cores in [1, 2] {
            let mut bench = Bench::with(cores, |config| config.dir = "/nowhere".to_owned());
            let client = bench.connect(cores - 1);
            let cases = [
                ("SHUTDOWN x", "-ERR syntax error\r\n"),
                ("SHUTDOWN SAVE NOSAVE", "-ERR syntax error\r\n"),
                ("SHUTDOWN ABORT NOW", "-ERR syntax error\r\n"),
                ("SHUTDOWN ABORT", "-ERR No shutdown in progress.\r\n"),
            ];
            for (request, expected) in cases {
                assert_eq!(bench.call(client, request), expected);
            }
            // (Nowhere to save to.)
            assert_eq!(
                bench.call(client, "SHUTDOWN SAVE"),
                "-ERR Errors trying to SHUTDOWN. Check logs.\r\n"
            );
            assert!(!bench.has_stopped());
            assert_eq!(bench.call(client, "SHUTDOWN NOSAVE NOW"), "");
            bench.advance(10);
            assert!(bench.has_stopped());
        }
    }

    #[test]
    fn replies() {
        let mut bench = Bench::new(2);
        let client = bench.connect(0);
        let cases = [
            ("TIME", "*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n"),
            ("LASTSAVE", ":1700000000\r\n"),
            ("ROLE", "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"),
            ("REPLICAOF NO ONE", "+OK\r\n"),
            ("REPLICAOF a 70000", "-ERR Invalid master port\r\n"),
            ("WAIT 0 100", ":0\r\n"),
            ("WAIT 1 -1", "-ERR timeout is negative\r\n"),
            (
                "WAIT x 1",
                "-ERR value is not an integer or out of range\r\n",
            ),
            ("LATENCY LATEST", "*0\r\n"),
            ("ACL WHOAMI", "$7\r\ndefault\r\n"),
            ("ACL CAT x", "-ERR Unknown category 'x'\r\n"),
            (
                "LOLWUT VERSION x",
                "-ERR value is not an integer or out of range\r\n",
            ),
        ];
        for (request, expected) in cases {
            assert_eq!(bench.call(client, request), expected, "{request}");
        }
        let picture = bench.call(client, "LOLWUT");
        assert!(picture.ends_with("\nRedis ver. 7.4.9\n\r\n"), "{picture}");
        assert!(
            bench
                .call(client, "CONFIG HELP")
                .starts_with("*11\r\n+CONFIG ")
        );
    }
}
