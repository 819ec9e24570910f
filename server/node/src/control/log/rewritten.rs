//! Tests of rewriting with whole cores: what is in the base, what in the tail, and who is answered what.

use super::served::{CHANGES, make, state};
use super::tests::{Failing, MemoryDisk};
use crate::config::{AppendFsync, ProtectedAction};
use crate::testing::{Bench, Client};

const STARTED: &str = "+Background append only file rewriting started\r\n";
const SCHEDULED: &str = "+Background append only file rewriting scheduled\r\n";

/// A line of INFO persistence.
fn info(bench: &mut Bench, client: Client, name: &str) -> String {
    let info = bench.call(client, "INFO persistence");
    let line = info.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.strip_prefix(':'))
        .unwrap_or("none")
        .to_owned()
}

fn folder() -> String {
    // (What CONFIG SET looks at is on the machine's disk.)
    std::env::temp_dir()
        .join("meridian-rewritten")
        .display()
        .to_string()
}

fn without_log(cores: usize) -> Bench {
    Bench::with(cores, |config| {
        config.enable_debug_command = ProtectedAction::Local;
        config.dir = folder();
    })
}

fn bench(cores: usize, disk: &MemoryDisk, policy: AppendFsync) -> Bench {
    let mut bench = Bench::with(cores, |config| {
        config.enable_debug_command = ProtectedAction::Local;
        config.dir = folder();
        config.appendonly = true;
        config.appendfsync = policy;
    });
    bench.log_to(disk);
    bench
}

/// The base begins and ends among changes of every kind, at each place once: what a start finds is what was there.
#[test]
fn a_rewrite_at_any_moment_loses_and_doubles_nothing() {
    for (at, policy) in (0..CHANGES.len()).zip(
        [AppendFsync::Always, AppendFsync::EverySecond]
            .into_iter()
            .cycle(),
    ) {
        let disk = MemoryDisk::default();
        let cores = 1 + at % 3;
        let mut first = bench(cores, &disk, policy);
        let client = first.connect(at % cores);
        for (n, change) in CHANGES.iter().enumerate() {
            if n == at {
                // Half of the walk is before what follows, half of it behind.
                first.holds_aside = at % 2 == 0;
                first.call(client, "CONFIG SET rdb-key-save-delay 1000");
                let reply = first.call(client, "BGREWRITEAOF");
                assert!(
                    [STARTED, "+QUEUED\r\n"].contains(&reply.as_str()),
                    "{reply}"
                );
            }
            make(&mut first, client, change);
        }
        first.call(client, "CONFIG SET rdb-key-save-delay 0");
        first.release_aside();
        first.advance(3000);
        assert_eq!(info(&mut first, client, "aof_last_bgrewrite_status"), "ok");
        assert_eq!(info(&mut first, client, "aof_rewrite_in_progress"), "0");
        assert_eq!(info(&mut first, client, "aof_rewrites"), "1", "at {at}");
        first.check();
        let expected = state(&mut first, client);
        assert_eq!(first.call(client, "DEBUG LOADAOF"), "+OK\r\n");
        assert_eq!(state(&mut first, client), expected, "at {at}");
        first.check();
        if policy == AppendFsync::Always {
            disk.crash();
        }
        let mut second = bench(3 - at % 3, &disk, policy);
        let client = second.connect(0);
        assert_eq!(state(&mut second, client), expected, "at {at}");
        second.check();
    }
}

/// Its end is logged while the base is written: the base must hold it, since what comes between may count upon it.
#[test]
fn what_expires_under_a_rewrite_stays_whole() {
    let disk = MemoryDisk::default();
    let mut first = bench(1, &disk, AppendFsync::Always);
    let client = first.connect(0);
    first.call(client, "DEBUG SET-ACTIVE-EXPIRE 0");
    first.call(client, "RPUSH list a b");
    first.call(client, "PEXPIRE list 100");
    first.call(client, "CONFIG SET rdb-key-save-delay 200000");
    first.call(client, "SET other v");
    assert_eq!(first.call(client, "BGREWRITEAOF"), STARTED);
    first.advance(150);
    // The clock goes back: it is there again.
    first.now.unix_ms -= 120;
    first.advance(1);
    assert_eq!(first.call(client, "LINSERT list BEFORE b x"), ":3\r\n");
    first.call(client, "PERSIST list");
    first.call(client, "CONFIG SET rdb-key-save-delay 0");
    first.advance(2000);
    let expected = state(&mut first, client);
    let mut second = bench(1, &disk, AppendFsync::Always);
    let client = second.connect(0);
    assert_eq!(state(&mut second, client), expected);
    assert_eq!(
        second.call(client, "LRANGE list 0 -1"),
        "*3\r\n$1\r\na\r\n$1\r\nx\r\n$1\r\nb\r\n"
    );
}

#[test]
fn the_log_becomes_shorter_and_is_rewritten_when_it_has_grown() {
    let disk = MemoryDisk::default();
    let mut bench = bench(2, &disk, AppendFsync::EverySecond);
    let client = bench.connect(1);
    bench.call(
        client,
        "CONFIG SET auto-aof-rewrite-min-size 20000 auto-aof-rewrite-percentage 100",
    );
    for n in 0..100 {
        bench.call(client, &format!("SET k {n}"));
    }
    let size =
        |bench: &mut Bench, name: &str| -> u64 { info(bench, client, name).parse().unwrap() };
    let before = size(&mut bench, "aof_current_size");
    assert_eq!(bench.call(client, "BGREWRITEAOF"), STARTED);
    let after = size(&mut bench, "aof_current_size");
    assert!(after < before / 10, "{before} {after}");
    assert_eq!(size(&mut bench, "aof_base_size"), after);
    let long = "x".repeat(1000);
    for rewrites in 2..5 {
        for n in 0..40 {
            bench.call(client, &format!("SET k {n}{long}"));
        }
        bench.advance(2000);
        assert_eq!(size(&mut bench, "aof_rewrites"), rewrites);
        assert!(size(&mut bench, "aof_current_size") < 20_000);
    }
    bench.call(client, "CONFIG SET auto-aof-rewrite-percentage 0");
    for n in 0..40 {
        bench.call(client, &format!("SET k {n}{long}"));
    }
    bench.advance(2000);
    assert_eq!(size(&mut bench, "aof_rewrites"), 4);
}

#[test]
fn rewrites_and_snapshots_wait_for_each_other() {
    for cores in 1..=2 {
        let disk = MemoryDisk::default();
        let mut bench = bench(cores, &disk, AppendFsync::EverySecond);
        let (client, other) = (bench.connect(0), bench.connect(cores - 1));
        bench.call(client, "SET a 1");
        bench.call(client, "CONFIG SET rdb-key-save-delay 10000000");
        assert_eq!(bench.call(client, "BGREWRITEAOF"), STARTED);
        assert_eq!(info(&mut bench, client, "aof_rewrite_in_progress"), "1");
        assert_eq!(info(&mut bench, client, "rdb_bgsave_in_progress"), "0");
        let already = "-ERR Background append only file rewriting already in progress\r\n";
        assert_eq!(bench.call(client, "BGREWRITEAOF"), already);
        let busy = "-ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE \
                    SCHEDULE in order to schedule a BGSAVE whenever possible.\r\n";
        assert_eq!(bench.call(client, "BGSAVE"), busy);
        let scheduled = "+Background saving scheduled\r\n";
        assert_eq!(bench.call(client, "BGSAVE SCHEDULE"), scheduled);
        assert_eq!(bench.call(other, "SAVE"), "");
        bench.call(client, "CONFIG SET rdb-key-save-delay 0");
        bench.advance(3000);
        bench.advance(3000);
        assert_eq!(bench.received(other), b"+OK\r\n");
        assert_eq!(info(&mut bench, client, "rdb_saves"), "2");
        assert_eq!(info(&mut bench, client, "aof_rewrites"), "1");
        bench.call(client, "CONFIG SET rdb-key-save-delay 10000000");
        assert_eq!(
            bench.call(client, "BGSAVE"),
            "+Background saving started\r\n"
        );
        let saves = "-ERR Background save already in progress\r\n";
        assert_eq!(bench.call(client, "BGSAVE SCHEDULE"), saves);
        assert_eq!(bench.call(client, "BGREWRITEAOF"), SCHEDULED);
        assert_eq!(info(&mut bench, client, "aof_rewrite_scheduled"), "1");
        bench.call(client, "CONFIG SET rdb-key-save-delay 0");
        bench.advance(3000);
        assert_eq!(info(&mut bench, client, "aof_rewrites"), "2");
        bench.call(client, "MULTI");
        bench.call(client, "BGREWRITEAOF");
        let replies = bench.call(client, "EXEC");
        assert_eq!(replies, format!("*1\r\n{SCHEDULED}"));
        bench.advance(3000);
        assert_eq!(info(&mut bench, client, "aof_rewrites"), "3");
    }
}

#[test]
fn a_disk_that_fails_leaves_the_log_as_it_was() {
    let disk = MemoryDisk::default();
    let mut first = bench(2, &disk, AppendFsync::EverySecond);
    let client = first.connect(0);
    first.call(client, "SET a 1");
    first.call(client, "CONFIG SET rdb-key-save-delay 1000");
    assert_eq!(first.call(client, "BGREWRITEAOF"), STARTED);
    disk.fail(Failing {
        writes: true,
        ..Failing::default()
    });
    first.call(client, "CONFIG SET rdb-key-save-delay 0");
    first.advance(3000);
    assert_eq!(info(&mut first, client, "aof_last_bgrewrite_status"), "err");
    assert_eq!(
        info(&mut first, client, "aof_rewrites_consecutive_failures"),
        "1"
    );
    disk.fail(Failing::default());
    std::thread::sleep(std::time::Duration::from_millis(110));
    first.release_log();
    assert_eq!(first.call(client, "SET b 2"), "+OK\r\n");
    let expected = state(&mut first, client);
    let mut second = bench(2, &disk, AppendFsync::EverySecond);
    let client = second.connect(0);
    assert_eq!(state(&mut second, client), expected);
    assert_eq!(second.call(client, "BGREWRITEAOF"), STARTED);
    assert_eq!(info(&mut second, client, "aof_last_bgrewrite_status"), "ok");
}

#[test]
fn the_log_is_turned_on_and_off() {
    for cores in 1..=3 {
        let disk = MemoryDisk::default();
        let mut first = without_log(cores);
        first.may_log_to(&disk);
        let (client, other) = (first.connect(0), first.connect(cores - 1));
        CHANGES
            .iter()
            .for_each(|change| make(&mut first, client, change));
        first.call(client, "CONFIG SET rdb-key-save-delay 1000");
        assert_eq!(first.call(other, "CONFIG SET appendonly yes"), "+OK\r\n");
        assert_eq!(info(&mut first, client, "aof_rewrite_in_progress"), "1");
        let loader = first.connect(0);
        assert_eq!(
            first.call(loader, "DEBUG LOADAOF"),
            "",
            "there is no base yet"
        );
        assert_eq!(info(&mut first, client, "aof_enabled"), "1");
        let refused = "-ERR Errors trying to SHUTDOWN. Check logs.\r\n";
        assert_eq!(first.call(client, "SHUTDOWN NOSAVE"), refused);
        first.call(other, "FLUSHALL");
        CHANGES[..20]
            .iter()
            .for_each(|change| make(&mut first, other, change));
        first.call(client, "CONFIG SET rdb-key-save-delay 0");
        first.advance(3000);
        assert_eq!(info(&mut first, client, "aof_rewrite_in_progress"), "0");
        assert_eq!(first.received(loader), b"+OK\r\n");
        let expected = state(&mut first, client);
        let mut second = bench(4 - cores, &disk, AppendFsync::EverySecond);
        let reader = second.connect(0);
        assert_eq!(state(&mut second, reader), expected, "{cores} cores");

        // Off: what comes then is not logged, and nothing waits for the log.
        assert_eq!(first.call(other, "CONFIG SET appendonly no"), "+OK\r\n");
        first.advance(10);
        assert_eq!(info(&mut first, client, "aof_enabled"), "0");
        assert_eq!(first.call(client, "SET unlogged 1"), "+OK\r\n");
        let off =
            "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n";
        assert_eq!(first.call(client, "WAITAOF 1 0 0"), off);

        // On again, twice: the last word counts.
        for word in ["yes", "no", "yes"] {
            let reply = first.call(client, &format!("CONFIG SET appendonly {word}"));
            assert_eq!(reply, "+OK\r\n");
        }
        for _ in 0..5 {
            first.advance(1500);
        }
        make(&mut first, client, "SET again 1");
        let expected = state(&mut first, client);
        first.check();
        let mut second = bench(2, &disk, AppendFsync::EverySecond);
        let reader = second.connect(0);
        assert_eq!(state(&mut second, reader), expected, "{cores} cores");
    }
}

#[test]
fn a_rewrite_without_a_log_leaves_a_base_for_the_next_start() {
    let disk = MemoryDisk::default();
    let mut first = without_log(2);
    first.may_log_to(&disk);
    let client = first.connect(1);
    CHANGES
        .iter()
        .for_each(|change| make(&mut first, client, change));
    assert_eq!(first.call(client, "BGREWRITEAOF"), STARTED);
    first.advance(2000);
    assert_eq!(info(&mut first, client, "aof_last_bgrewrite_status"), "ok");
    assert_eq!(info(&mut first, client, "aof_rewrites"), "1");
    assert_eq!(info(&mut first, client, "aof_enabled"), "0");
    let expected = state(&mut first, client);
    make(&mut first, client, "SET unlogged 1");
    let mut second = bench(1, &disk, AppendFsync::EverySecond);
    let client = second.connect(0);
    second.advance(2000);
    assert_eq!(state(&mut second, client), expected);
}

#[test]
fn a_log_that_was_turned_on_counts_when_its_base_is_there() {
    let disk = MemoryDisk::default();
    let mut old = bench(1, &disk, AppendFsync::Always);
    let client = old.connect(0);
    old.call(client, "SET a old");
    let mut first = without_log(2);
    first.may_log_to(&disk);
    let client = first.connect(0);
    first.call(client, "CONFIG SET rdb-key-save-delay 1000");
    first.call(client, "SET a new");
    first.call(client, "CONFIG SET appendonly yes");
    first.call(client, "SET a newer");
    // It ends before the base is written: the log from before is still whole.
    let mut second = bench(1, &disk, AppendFsync::Always);
    let client = second.connect(0);
    assert_eq!(second.call(client, "GET a"), "$3\r\nold\r\n");
}
