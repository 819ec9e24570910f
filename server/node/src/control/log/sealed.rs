//! Tests of the log with sealed segments: what is torn, what is damaged, which key, and what must never be seen.

use std::path::Path;
use std::sync::Arc;

use seal::{HEAD_BYTES, Keys};
use storage::log::{FRAME_HEAD_BYTES, FrameHead, SEGMENT_HEAD_BYTES, payload_sum};

use super::tests::{Failing, MemoryDisk, read_with, say, sealed_log_on};
use super::{Gate, WriteLog};
use crate::config::AppendFsync;
use crate::control::disk::Disk;
use crate::control::vault::Vault;
use crate::control::vault::tests::{KEY_A, KEY_B, vault};

const FIRST: &str = "d/a.1.log";
/// Where the first frame of a sealed segment begins.
const FRAMES_AT: usize = SEGMENT_HEAD_BYTES + HEAD_BYTES;

fn keys(lines: &[&str]) -> Option<Keys> {
    Some(Keys::parse(lines.join("\n").as_bytes()).unwrap())
}

fn frames(disk: &MemoryDisk, vault: &Vault) -> Result<Vec<String>, String> {
    read_with(disk, vault).map(|(read, _)| read.frames)
}

fn log_on(disk: &MemoryDisk, vault: &Arc<Vault>, policy: AppendFsync) -> WriteLog {
    sealed_log_on(disk, Arc::clone(vault), policy)
}

/// Says these, each synced before the next one.
fn say_all(log: &WriteLog, texts: &[&str]) {
    for text in texts {
        let _gate = say(log, text);
        log.step();
    }
}

/// Where frames begin, and where the last one ends.
fn places(bytes: &[u8]) -> Vec<usize> {
    let mut places = vec![FRAMES_AT];
    while let Some(head) = FrameHead::decode(&bytes[places[places.len() - 1]..]) {
        places.push(places[places.len() - 1] + FRAME_HEAD_BYTES + head.len as usize);
    }
    places
}

#[test]
fn what_was_synced_is_read_after_a_crash_and_nothing_shows_on_the_disk() {
    let vault = Arc::new(vault(&[KEY_A]));
    for policy in [AppendFsync::EverySecond, AppendFsync::Always] {
        let disk = MemoryDisk::default();
        let long = "secret".repeat(20_000);
        let mut expected = Vec::new();
        for _ in 0..3 {
            say_all(
                &log_on(&disk, &vault, policy),
                &["secret 1", "secret 2", &long],
            );
            expected.extend(["secret 1", "secret 2", "secretsec"]);
            disk.crash();
            assert_eq!(frames(&disk, &vault).unwrap(), expected);
        }
        for name in disk.list(Path::new("d")).unwrap() {
            let bytes = disk.bytes(&format!("d/{name}"));
            assert!(
                !bytes.windows(6).any(|window| window == b"secret"),
                "{name}"
            );
        }
    }
}

#[test]
fn keys_are_rotated_without_a_change_of_old_segments() {
    let (disk, vault) = (MemoryDisk::default(), Arc::new(vault(&[KEY_A])));
    let log = log_on(&disk, &vault, AppendFsync::Always);
    say_all(&log, &["one"]);
    let before = disk.bytes(FIRST);
    for (lines, text) in [(vec![KEY_B, KEY_A], "two"), (vec![KEY_A, KEY_B], "three")] {
        vault.set(keys(&lines));
        log.turn_over_soon();
        log.step();
        say_all(&log, &[text]);
    }
    vault.set(None);
    log.turn_over_soon();
    log.step();
    say_all(&log, &["four"]);
    assert_eq!(disk.bytes(FIRST), before);
    let id = |file| seal::key_id(&disk.bytes(file)[SEGMENT_HEAD_BYTES..]);
    assert_eq!(id(FIRST).unwrap().to_string(), "a");
    assert_eq!(id("d/a.2.log").unwrap().to_string(), "b");
    assert_eq!(id("d/a.3.log").unwrap().to_string(), "a");
    vault.set(keys(&[KEY_B, KEY_A]));
    let (read, _) = read_with(&disk, &vault).unwrap();
    assert_eq!(read.frames, ["one", "two", "three", "four"]);
    assert_eq!(read.warnings.len(), 1, "of the segment in the clear");
    assert!(read.warnings[0].contains("1 of the log's segments are not sealed"));
    let bytes = disk.bytes("d/a.2.log");
    for (lines, expected) in [
        (
            vec![KEY_B],
            "d/a.1.log: it is sealed with the key 'a', which is not there",
        ),
        (
            vec![KEY_A],
            "d/a.2.log: it is sealed with the key 'b', which is not there",
        ),
    ] {
        vault.set(keys(&lines));
        let why = frames(&disk, &vault).unwrap_err();
        assert!(why.starts_with(expected), "{why}");
    }
    vault.set(None);
    assert!(frames(&disk, &vault).unwrap_err().contains("the key 'a'"));
    assert_eq!(
        (disk.bytes(FIRST), disk.bytes("d/a.2.log")),
        (before, bytes)
    );
}

#[test]
fn a_cut_at_any_byte_of_the_last_segment_is_a_torn_end_and_in_the_seal_damage() {
    let vault = Arc::new(vault(&[KEY_A]));
    let written = MemoryDisk::default();
    say_all(
        &log_on(&written, &vault, AppendFsync::Always),
        &["one", "two", "three"],
    );
    let bytes = written.bytes(FIRST);
    let places = places(&bytes);
    assert_eq!((places.len(), places[3]), (4, bytes.len()));
    for len in 0..bytes.len() {
        let disk = MemoryDisk::default();
        say_all(
            &log_on(&disk, &vault, AppendFsync::Always),
            &["one", "two", "three"],
        );
        disk.change(FIRST, |bytes| bytes.truncate(len));
        if len < FRAMES_AT {
            let why = frames(&disk, &vault).unwrap_err();
            assert!(why.starts_with("d/a.1.log: "), "{len}: {why}");
            assert_eq!(disk.bytes(FIRST).len(), len, "nothing has been changed");
            continue;
        }
        let whole = places.iter().rposition(|place| *place <= len).unwrap();
        let (read, _) = read_with(&disk, &vault).unwrap();
        assert_eq!(
            read.frames,
            ["one", "two", "three"][..whole],
            "cut at {len}"
        );
        assert_eq!(read.warnings.is_empty(), places[whole] == len);
        assert_eq!(disk.bytes(FIRST).len(), places[whole]);
        say_all(&log_on(&disk, &vault, AppendFsync::Always), &["new"]);
        assert_eq!(frames(&disk, &vault).unwrap().last().unwrap(), "new");
    }
    // Not the last one any more: what is missing is told.
    let disk = MemoryDisk::default();
    let log = log_on(&disk, &vault, AppendFsync::Always);
    say_all(&log, &["one", "two", "three"]);
    log.turn_over_soon();
    log.step();
    say_all(&log, &["four"]);
    disk.change(FIRST, |bytes| bytes.truncate(places[2] + 1));
    let expected = format!("d/a.1.log: damaged at offset {}: the file ends", places[2]);
    let why = frames(&disk, &vault).unwrap_err();
    assert!(why.starts_with(&expected), "{why}");
}

#[test]
fn every_flipped_bit_is_told_or_was_never_synced() {
    let (disk, vault) = (MemoryDisk::default(), Arc::new(vault(&[KEY_A])));
    say_all(
        &log_on(&disk, &vault, AppendFsync::Always),
        &["one", "two", "three"],
    );
    let bytes = disk.bytes(FIRST);
    let places = places(&bytes);
    for bit in 0..bytes.len() * 8 {
        disk.change(FIRST, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let whole = places.iter().rposition(|place| *place <= bit / 8);
        match (read_with(&disk, &vault), whole) {
            // No frame behind the last one says that it was on the disk: it may have been torn.
            (Ok((read, _)), Some(2)) => {
                assert_eq!(
                    (read.frames.len(), read.warnings.len()),
                    (2, 1),
                    "bit {bit}"
                );
            }
            (Err(why), Some(frame)) => {
                let expected = format!("d/a.1.log: damaged at offset {}: ", places[frame]);
                assert!(why.starts_with(&expected), "bit {bit}: {why}");
            }
            (Err(why), None) => assert!(why.starts_with("d/a.1.log: "), "bit {bit}: {why}"),
            (Ok(_), whole) => panic!("bit {bit} of frame {whole:?} was not seen"),
        }
        disk.change(FIRST, |all| all.clone_from(&bytes));
    }
}

/// Checksums keep nobody out: what was changed by somebody who makes them right is told as well, also in the last frame.
#[test]
fn what_was_forged_does_not_open() {
    let (disk, vault) = (MemoryDisk::default(), Arc::new(vault(&[KEY_A])));
    say_all(&log_on(&disk, &vault, AppendFsync::Always), &["one", "two"]);
    let bytes = disk.bytes(FIRST);
    let places = places(&bytes);
    for place in [places[0], places[1]] {
        let head = FrameHead::decode(&bytes[place..]).unwrap();
        let body = place + FRAME_HEAD_BYTES..place + FRAME_HEAD_BYTES + head.len as usize;
        disk.change(FIRST, |bytes| {
            bytes[body.start] ^= 1;
            let payload_sum = payload_sum(&bytes[body.clone()]);
            let forged = FrameHead {
                payload_sum,
                ..head
            }
            .encode();
            bytes[place..place + FRAME_HEAD_BYTES].copy_from_slice(&forged);
        });
        let expected = format!("d/a.1.log: damaged at offset {place}: the seal is broken");
        assert_eq!(frames(&disk, &vault).unwrap_err(), expected);
        disk.change(FIRST, |all| all.clone_from(&bytes));
    }
    // A frame of another segment, in the place of one of the same sequence.
    let other = MemoryDisk::default();
    say_all(
        &log_on(&other, &vault, AppendFsync::Always),
        &["One", "Two"],
    );
    let theirs = other.bytes(FIRST);
    disk.change(FIRST, |bytes| {
        bytes
            .splice(places[1].., theirs[places[1]..].to_vec())
            .for_each(drop)
    });
    let why = frames(&disk, &vault).unwrap_err();
    assert!(why.ends_with("the seal is broken"), "{why}");
}

/// The same nonce for other bytes would give both away: a write is repeated as it was, another segment has another key.
#[test]
fn no_nonce_seals_two_things() {
    let (disk, vault) = (MemoryDisk::default(), Arc::new(vault(&[KEY_A])));
    let log = log_on(&disk, &vault, AppendFsync::Always);
    say_all(&log, &["one"]);
    let halves = Failing {
        writes: true,
        halves: true,
        ..Failing::default()
    };
    disk.fail(halves);
    assert_eq!(say(&log, "two"), Gate::Until(2));
    log.step();
    let torn = disk.bytes(FIRST);
    let _gate = say(&log, "three");
    disk.fail(Failing::default());
    log.step();
    let whole = disk.bytes(FIRST);
    assert!(torn.len() > places(&torn)[1] && whole.starts_with(&torn));
    // A sync that fails: what it was for is written to another segment, under another key.
    disk.fail(Failing {
        syncs: true,
        ..Failing::default()
    });
    let _gate = say(&log, "four");
    log.step();
    let first = disk.bytes(FIRST);
    disk.fail(Failing::default());
    log.step();
    let second = disk.bytes("d/a.2.log");
    let place = places(&first)[3];
    let (head, body) = (FRAME_HEAD_BYTES, "four".len());
    assert_eq!(
        first[place + 8..place + 16],
        second[FRAMES_AT + 8..FRAMES_AT + 16],
        "frame 4"
    );
    assert_ne!(
        first[place + head..place + head + body],
        second[FRAMES_AT + head..FRAMES_AT + head + body]
    );
    disk.crash();
    assert_eq!(
        frames(&disk, &vault).unwrap(),
        ["one", "two", "three", "four"]
    );
    // Each start has a segment, and a key, of its own.
    drop(log_on(&disk, &vault, AppendFsync::Always));
    let third = disk.bytes("d/a.3.log");
    assert_ne!(
        second[SEGMENT_HEAD_BYTES..FRAMES_AT],
        third[SEGMENT_HEAD_BYTES..FRAMES_AT]
    );
}

/// What is copied at a start is opened with the old file's key and sealed with the fresh one's, whichever of both has one.
#[test]
fn the_unsynced_tail_goes_to_the_fresh_segment_under_its_key() {
    let long = "secret".repeat(20_000);
    let plain: &[&str] = &[];
    for (before, after) in [
        (plain, plain),
        (plain, &[KEY_A]),
        (&[KEY_A], &[KEY_A]),
        (&[KEY_A], &[KEY_B, KEY_A]),
    ] {
        let list = |lines: &[&str]| (!lines.is_empty()).then(|| keys(lines)).flatten();
        let (disk, all) = (MemoryDisk::default(), Arc::new(Vault::new(list(before))));
        let log = log_on(&disk, &all, AppendFsync::Always);
        // (Where the tail begins is known to some KiB.)
        say_all(&log, &[&long]);
        log.set_policy(AppendFsync::EverySecond);
        let synced_bytes = disk.bytes(FIRST).len();
        for text in ["secret 1", &long, &long, "secret 2"] {
            let _gate = say(&log, text);
        }
        all.set(list(after));
        let old = disk.bytes(FIRST);
        drop(log_on(&disk, &all, AppendFsync::EverySecond));
        assert_eq!(disk.bytes(FIRST), old, "nothing of it changes");
        let second = disk.bytes("d/a.2.log");
        let shows = second.windows(6).any(|window| window == b"secret");
        assert_eq!(shows, after.is_empty());
        // The sync that should have brought it to the disk has lost it: the copy has it.
        disk.change(FIRST, |bytes| bytes.truncate(synced_bytes));
        let expected = [
            "secretsec",
            "secret 1",
            "secretsec",
            "secretsec",
            "secret 2",
        ];
        assert_eq!(frames(&disk, &all).unwrap(), expected);
        // Sequences, and so nonces, are the same: only another key keeps them apart.
        if !before.is_empty() && !after.is_empty() {
            let tail = FRAME_HEAD_BYTES + "secret 1".len();
            let at = second[FRAMES_AT..]
                .windows(8)
                .position(|window| window == 2u64.to_le_bytes());
            let at = FRAMES_AT + at.unwrap() - 8;
            assert_eq!(
                old[synced_bytes + 8..synced_bytes + 16],
                second[at + 8..at + 16]
            );
            assert_ne!(
                old[synced_bytes + FRAME_HEAD_BYTES..synced_bytes + tail],
                second[at + FRAME_HEAD_BYTES..at + tail]
            );
        }
    }
}

/// The disk has no room for it when keys change: it is tried again, and nothing goes on under the old key for long.
#[test]
fn a_segment_that_is_owed_is_begun_when_the_disk_lets_it() {
    let (disk, vault) = (MemoryDisk::default(), Arc::new(vault(&[KEY_A])));
    let log = log_on(&disk, &vault, AppendFsync::Always);
    say_all(&log, &["one"]);
    vault.set(keys(&[KEY_B, KEY_A]));
    disk.fail(Failing {
        writes: true,
        ..Failing::default()
    });
    log.turn_over_soon();
    log.step();
    disk.fail(Failing::default());
    for _ in 0..2 {
        log.step();
    }
    say_all(&log, &["two"]);
    let id = seal::key_id(&disk.bytes("d/a.2.log")[SEGMENT_HEAD_BYTES..]);
    assert_eq!(id.unwrap().to_string(), "b");
    assert_eq!(frames(&disk, &vault).unwrap(), ["one", "two"]);
    let names = disk.list(Path::new("d")).unwrap();
    assert_eq!(names.len(), 3, "two segments and a manifest: {names:?}");
}
