//! Tests of rewriting with whole cores and with keys: nothing plain is left, and old keys become unnecessary.

use std::path::Path;

use seal::{Keys, MAGIC};
use storage::log::{SEGMENT_HEAD_BYTES, SegmentHead};

use super::served::{CHANGES, make, state};
use super::tests::MemoryDisk;
use crate::config::{AppendFsync, ProtectedAction};
use crate::control::disk::Disk;
use crate::control::vault::tests::{KEY_A, KEY_B};
use crate::testing::{Bench, Client};

/// What all values of a test show, if they are in the clear.
const SECRET: &str = "not-to-be-seen";

fn folder() -> String {
    // (What CONFIG SET looks at is on the machine's disk.)
    let folder = std::env::temp_dir().join("meridian-sealed-served");
    folder.display().to_string()
}

/// One that has not read its log yet.
fn unread(cores: usize, lines: &[&str], is_on: bool) -> Bench {
    let bench = Bench::with(cores, |config| {
        config.enable_debug_command = ProtectedAction::Local;
        config.dir = folder();
        config.appendonly = is_on;
        config.appendfsync = AppendFsync::EverySecond;
        // A base has a checksum all the same.
        config.rdbchecksum = false;
    });
    set_keys(&bench, lines);
    bench
}

fn set_keys(bench: &Bench, lines: &[&str]) {
    let keys = Keys::parse(lines.join("\n").as_bytes()).ok();
    bench.node().vault.set(keys.filter(|_| !lines.is_empty()));
}

fn start(cores: usize, disk: &MemoryDisk, lines: &[&str]) -> Bench {
    let mut bench = unread(cores, lines, true);
    bench.log_to(disk);
    bench
}

fn why_not(disk: &MemoryDisk, lines: &[&str]) -> String {
    let done = unread(2, lines, true).try_log_to(disk);
    done.expect_err("a start that must fail").to_string()
}

fn change_all(bench: &mut Bench, client: Client) {
    let changes = CHANGES.iter();
    changes.for_each(|change| make(bench, client, change));
    make(bench, client, &format!("SET secret {SECRET}"));
}

fn rewrite(bench: &mut Bench, client: Client) {
    let started = "+Background append only file rewriting started\r\n";
    assert_eq!(bench.call(client, "BGREWRITEAOF"), started);
    bench.advance(2000);
    let info = bench.call(client, "INFO persistence");
    assert!(info.contains("aof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0"));
    assert!(info.contains("aof_last_bgrewrite_status:ok"));
}

/// The names of the log's files but its manifest, and what they hold.
fn files(disk: &MemoryDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list(Path::new("")).unwrap().into_iter();
    let files = names.filter(|name| !name.ends_with(".meridian"));
    files
        .map(|name| (name.clone(), disk.bytes(&name)))
        .collect()
}

/// The key of each file; None for one in the clear.
fn key_names(disk: &MemoryDisk) -> Vec<Option<String>> {
    let head = |bytes: &[u8]| match SegmentHead::decode(bytes) {
        Ok(head) if head.seal_bytes == 0 => None,
        Ok(_) => Some(bytes[SEGMENT_HEAD_BYTES..].to_vec()),
        Err(_) => Some(bytes.to_vec()).filter(|bytes| bytes.starts_with(MAGIC)),
    };
    let files = files(disk).into_iter();
    let mut names: Vec<_> = files
        .map(|(_, bytes)| head(&bytes).map(|head| seal::key_id(&head).unwrap().to_string()))
        .collect();
    names.sort();
    names.dedup();
    names
}

fn shows(disk: &MemoryDisk) -> bool {
    let files = files(disk);
    let mut all = files.iter().map(|(_, bytes)| bytes);
    all.any(|bytes| {
        bytes
            .windows(SECRET.len())
            .any(|window| window == SECRET.as_bytes())
    })
}

#[test]
fn after_a_rewrite_nothing_is_left_in_the_clear() {
    for cores in 1..=3 {
        let disk = MemoryDisk::default();
        let mut first = start(cores, &disk, &[]);
        let client = first.connect(0);
        change_all(&mut first, client);
        rewrite(&mut first, client);
        first.call(client, &format!("SET other {SECRET}"));
        let expected = state(&mut first, client);
        assert!(shows(&disk));
        // With keys, what is plain is read, and stays until the rewrite.
        let mut second = start(4 - cores, &disk, &[KEY_A]);
        let client = second.connect(0);
        assert_eq!(state(&mut second, client), expected);
        assert_eq!(key_names(&disk), [None, Some("a".to_owned())]);
        rewrite(&mut second, client);
        assert_eq!(key_names(&disk), [Some("a".to_owned())], "{cores} cores");
        second.call(client, &format!("APPEND other {SECRET}"));
        assert!(!shows(&disk));
        let expected = state(&mut second, client);
        assert_eq!(second.call(client, "DEBUG LOADAOF"), "+OK\r\n");
        assert_eq!(state(&mut second, client), expected);
        // The base's key is missing, then there.
        let before = files(&disk);
        for lines in [&[][..], &[KEY_B]] {
            let why = why_not(&disk, lines);
            let told = "rdb: it is sealed with the key 'a', which is not there";
            assert!(why.contains(told), "{why}");
        }
        assert_eq!(files(&disk), before, "nothing is lost");
        let mut third = start(2, &disk, &[KEY_A]);
        let client = third.connect(0);
        assert_eq!(state(&mut third, client), expected);
    }
}

#[test]
fn a_log_that_is_turned_on_with_keys_is_sealed() {
    let disk = MemoryDisk::default();
    let mut first = unread(2, &[KEY_A], false);
    first.may_log_to(&disk);
    let client = first.connect(1);
    change_all(&mut first, client);
    assert_eq!(first.call(client, "CONFIG SET appendonly yes"), "+OK\r\n");
    first.advance(3000);
    first.call(client, &format!("RPUSH behind {SECRET}"));
    first.advance(1000);
    assert_eq!(key_names(&disk), [Some("a".to_owned())]);
    assert!(!shows(&disk));
    let expected = state(&mut first, client);
    assert!(why_not(&disk, &[]).contains("the key 'a', which is not there"));
    let mut second = start(1, &disk, &[KEY_A]);
    let client = second.connect(0);
    assert_eq!(state(&mut second, client), expected);
}

#[test]
fn after_a_rotation_and_a_rewrite_old_keys_are_not_needed() {
    let disk = MemoryDisk::default();
    let mut first = start(2, &disk, &[KEY_A]);
    let client = first.connect(0);
    change_all(&mut first, client);
    rewrite(&mut first, client);
    first.call(client, "BGSAVE");
    first.advance(1000);
    set_keys(&first, &[KEY_B, KEY_A]);
    first.node().write_log.turn_over_soon();
    first.release_log();
    first.call(client, "INCR counter");
    let both = [Some("a".to_owned()), Some("b".to_owned())];
    assert_eq!(key_names(&disk), both);
    assert!(why_not(&disk, &[KEY_B]).contains("the key 'a', which is not there"));
    rewrite(&mut first, client);
    first.call(client, "BGSAVE");
    first.advance(1000);
    let names: Vec<String> = files(&disk).into_iter().map(|(name, _)| name).collect();
    assert!(names.iter().any(|name| name.ends_with("dump.rdb")));
    assert_eq!(key_names(&disk), [Some("b".to_owned())], "{names:?}");
    first.call(client, "INCR counter");
    let expected = state(&mut first, client);
    let mut second = start(3, &disk, &[KEY_B]);
    let client = second.connect(0);
    assert_eq!(state(&mut second, client), expected);
    // The snapshot alone, with a key that is missing: nothing has been written before that is told.
    let alone = MemoryDisk::default();
    let (name, bytes) = files(&disk)
        .into_iter()
        .find(|(name, _)| name.ends_with("dump.rdb"))
        .unwrap();
    let mut file = alone.create(Path::new(&name)).unwrap();
    file.append(&bytes).unwrap();
    assert!(why_not(&alone, &[KEY_A]).contains("dump.rdb: it is sealed with the key 'b'"));
    assert_eq!(alone.list(Path::new("")).unwrap(), [name]);
}
