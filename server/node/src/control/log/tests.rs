//! The log over a disk in memory that fails when it is told to, and that loses at a crash what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use storage::log::{FrameHead, FrameKind};

use super::manifest::{Manifest, Place};
use super::recover::{self, Replays};
use super::writer::{Past, Writer};
use super::{Gate, WriteLog};
use crate::config::AppendFsync;
use crate::control::disk::{Disk, File};
use crate::control::vault::Vault;

/// The bytes of a file, and those of them that outlive a crash.
#[derive(Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) struct Failing {
    pub(crate) writes: bool,
    /// Half of what is to be written is written before it fails.
    pub(crate) halves: bool,
    pub(crate) syncs: bool,
    pub(crate) truncates: bool,
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    /// As of the last sync of the folder.
    kept: BTreeMap<PathBuf, usize>,
    failing: Failing,
    syncs: usize,
    room_bytes: u64,
}

/// See the module's head.
#[derive(Clone, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<State>>);

struct Handle {
    disk: MemoryDisk,
    inode: usize,
    at: usize,
}

impl MemoryDisk {
    fn state<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.0.lock().unwrap())
    }

    pub(crate) fn fail(&self, failing: Failing) {
        self.state(|state| state.failing = failing);
    }

    pub(crate) fn crash(&self) {
        self.state(|state| {
            state.failing = Failing::default();
            state.names = state.kept.clone();
            for inode in &mut state.inodes {
                inode.bytes = inode.synced.clone();
            }
        });
    }

    pub(crate) fn change(&self, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
        self.state(|state| {
            let inode = state.names[&PathBuf::from(file)];
            change(&mut state.inodes[inode].bytes);
        });
    }

    /// What reads see of a file.
    pub(super) fn bytes(&self, file: &str) -> Vec<u8> {
        self.state(|state| {
            state.inodes[state.names[&PathBuf::from(file)]]
                .bytes
                .clone()
        })
    }

    fn handle(&self, inode: usize) -> io::Result<Box<dyn File>> {
        Ok(Box::new(Handle {
            disk: self.clone(),
            inode,
            at: 0,
        }))
    }
}

fn full() -> io::Error {
    io::Error::from_raw_os_error(28)
}

impl Disk for MemoryDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let inode = self.state(|state| {
            if state.failing.writes {
                return Err(full());
            }
            state.inodes.push(Inode::default());
            let inode = state.inodes.len() - 1;
            state.names.insert(path.to_owned(), inode);
            Ok(inode)
        })?;
        self.handle(inode)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let inode = self.state(|state| state.names.get(path).copied());
        self.handle(inode.ok_or(io::ErrorKind::NotFound)?)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = self.state(|state| {
            let names = state
                .names
                .keys()
                .filter_map(|path| path.strip_prefix(dir).ok());
            names.map(|name| name.display().to_string()).collect()
        });
        Ok(names)
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state(|state| {
            let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.names.insert(to.to_owned(), inode);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.state(|state| state.names.remove(path));
        removed.map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.state(|state| state.kept = state.names.clone());
        Ok(())
    }

    fn room_bytes(&self) -> u64 {
        self.state(|state| state.room_bytes)
    }
}

impl File for Handle {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.state(|state| {
            let file = &mut state.inodes[self.inode].bytes;
            if state.failing.halves {
                file.extend_from_slice(&bytes[..bytes.len() / 2]);
            }
            if state.failing.writes {
                return Err(full());
            }
            file.extend_from_slice(bytes);
            Ok(())
        })
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.state(|state| {
            let file = &mut state.inodes[self.inode].bytes;
            let mut put = |bytes: &[u8]| {
                let (at, end) = (at as usize, at as usize + bytes.len());
                file.resize(file.len().max(end), 0);
                file[at..end].copy_from_slice(bytes);
            };
            if state.failing.halves {
                put(&bytes[..bytes.len() / 2]);
            }
            if state.failing.writes {
                return Err(full());
            }
            put(bytes);
            Ok(())
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.state(|state| {
            if state.failing.syncs {
                return Err(io::Error::from_raw_os_error(5));
            }
            state.syncs += 1;
            let inode = &mut state.inodes[self.inode];
            inode.synced = inode.bytes.clone();
            Ok(())
        })
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.disk.state(|state| {
            let rest = &state.inodes[self.inode].bytes[self.at..];
            let read = rest.len().min(into.len());
            into[..read].copy_from_slice(&rest[..read]);
            self.at += read;
            Ok(read)
        })
    }

    fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.disk.state(|state| {
            let bytes = &state.inodes[self.inode].bytes;
            let rest = bytes.get(at as usize..).unwrap_or_default();
            let read = rest.len().min(into.len());
            into[..read].copy_from_slice(&rest[..read]);
            Ok(read)
        })
    }

    fn size(&mut self) -> io::Result<u64> {
        Ok(self
            .disk
            .state(|state| state.inodes[self.inode].bytes.len()) as u64)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.disk.state(|state| {
            if state.failing.truncates {
                return Err(io::Error::from_raw_os_error(5));
            }
            state.inodes[self.inode].bytes.truncate(len as usize);
            Ok(())
        })
    }
}

/// What has been read.
#[derive(Default)]
pub(super) struct Read {
    pub(super) frames: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl Replays for Read {
    fn frame(&mut self, head: &FrameHead, payload: &[u8]) -> Result<(), String> {
        if head.kind != FrameKind::End {
            let text = String::from_utf8_lossy(&payload[..payload.len().min(9)]);
            self.frames.push(text.into_owned());
        }
        Ok(())
    }

    fn progress(&mut self, _: u64) {}

    fn warn(&mut self, text: &str) {
        self.warnings.push(text.to_owned());
    }
}

fn place() -> Place {
    Place {
        folder: PathBuf::from("d"),
        name: "a".to_owned(),
    }
}

fn read(disk: &MemoryDisk) -> Result<(Read, Past), String> {
    read_with(disk, &Vault::new(None))
}

pub(super) fn read_with(disk: &MemoryDisk, vault: &Vault) -> Result<(Read, Past), String> {
    let manifest = recover::find(disk, &place()).map_err(|error| error.to_string())?;
    let mut read = Read::default();
    let past = recover::replay(
        disk,
        &place(),
        &manifest.unwrap_or_default(),
        (vault, true),
        &mut read,
    );
    past.map(|past| (read, past))
        .map_err(|error| error.to_string())
}

/// A clock that stands still until it is told otherwise.
static CLOCK_US: AtomicU64 = AtomicU64::new(0);

fn log_on(disk: &MemoryDisk, policy: AppendFsync) -> WriteLog {
    sealed_log_on(disk, Arc::new(Vault::new(None)), policy)
}

pub(super) fn sealed_log_on(disk: &MemoryDisk, vault: Arc<Vault>, policy: AppendFsync) -> WriteLog {
    let (_, past) = read_with(disk, &vault).unwrap();
    let log = WriteLog::new(2, || CLOCK_US.fetch_add(1_000_000, super::Relaxed));
    log.set_policy(policy);
    let writer = Writer::begin(Arc::new(disk.clone()), vault, place(), past, 1).unwrap();
    log.turn_on(writer);
    log
}

pub(super) fn say(log: &WriteLog, text: &str) -> Gate {
    log.push(FrameKind::Effects, 0, 1, text.as_bytes());
    log.gate(0)
}

#[test]
fn replies_wait_for_what_the_policy_says() {
    let disk = MemoryDisk::default();
    let log = log_on(&disk, AppendFsync::EverySecond);
    assert_eq!(log.gate(1), Gate::Open);
    assert_eq!(say(&log, "one"), Gate::Open, "it has been written here");
    assert_eq!(read(&disk).unwrap().0.frames, ["one"]);
    log.set_policy(AppendFsync::Always);
    assert_eq!(
        log.gate(1),
        Gate::Until(1),
        "what others wrote may show in a reply, too"
    );
    assert_eq!(say(&log, "two"), Gate::Until(2));
    let syncs = disk.state(|state| state.syncs);
    log.step();
    assert_eq!(
        disk.state(|state| state.syncs),
        syncs + 1,
        "both share a sync"
    );
    assert_eq!((log.gate(0), log.gate(1)), (Gate::Open, Gate::Open));
    disk.crash();
    assert_eq!(read(&disk).unwrap().0.frames, ["one", "two"]);
    assert_eq!(say(&log, &"x".repeat(100_000)), Gate::Until(3));
    log.step();
    log.end(5).unwrap();
    let (read, past) = read(&disk).unwrap();
    assert_eq!(read.frames[2], "xxxxxxxxx");
    assert_eq!((past.last, read.warnings.len()), (4, 0));
}

#[test]
fn what_a_crash_tears_is_cut_and_the_log_goes_on() {
    let disk = MemoryDisk::default();
    let log = log_on(&disk, AppendFsync::EverySecond);
    for (round, text) in ["one", "two", "three"].into_iter().enumerate() {
        assert_eq!(say(&log, text), Gate::Open);
        if round == 1 {
            log.step();
        }
    }
    disk.change("d/a.1.log", |bytes| {
        bytes.pop();
    });
    let (read_now, past) = read(&disk).unwrap();
    assert_eq!(read_now.frames, ["one", "two"]);
    assert!(read_now.warnings[0].contains("a.1.log: 48 bytes at its end, from offset 126 on"));
    assert_eq!(past.last, 2);
    let log = log_on(&disk, AppendFsync::Always);
    let _ = say(&log, "four");
    log.step();
    disk.crash();
    let (read_now, past) = read(&disk).unwrap();
    assert_eq!(
        (read_now.frames, past.last),
        (vec!["one".into(), "two".into(), "four".into()], 3)
    );
}

#[test]
fn room_for_frames_that_never_came_is_neither_torn_nor_damage() {
    let disk = MemoryDisk::default();
    disk.state(|state| state.room_bytes = 1000);
    let log = log_on(&disk, AppendFsync::Always);
    let put = |log: &WriteLog, text: &str| {
        let _ = say(log, text);
        log.step();
        disk.bytes("d/a.1.log").len()
    };
    let sizes = [put(&log, "one"), put(&log, "two")];
    assert_eq!(sizes, [1079; 2], "the second frame lies over zeros");
    // A disk that is full for the next piece of room takes the frame, once there is so much room again.
    let full = Failing {
        writes: true,
        ..Failing::default()
    };
    disk.fail(full);
    assert_eq!(put(&log, &"x".repeat(2000)), 126);
    disk.fail(Failing::default());
    assert_eq!(put(&log, "three"), 126 + 2044 + 49 + 1000);
    disk.crash();
    let whole = disk.bytes("d/a.1.log");
    let manifest = recover::find(&disk, &place()).unwrap().unwrap();
    let mut to = Read::default();
    let vault = Vault::new(None);
    recover::replay(&disk, &place(), &manifest, (&vault, false), &mut to).unwrap();
    assert_eq!(to.frames, ["one", "two", "xxxxxxxxx", "three"]);
    assert!(to.warnings.is_empty(), "{:?}", to.warnings);
    let len = disk.bytes("d/a.1.log").len();
    assert_eq!(len, whole.len() - 1000, "it has been cut");
    // A frame that was torn over its room.
    disk.change("d/a.1.log", |bytes| {
        *bytes = whole.clone();
        bytes[len - 2..].fill(0);
    });
    let (now, _) = read(&disk).unwrap();
    assert_eq!(now.frames, ["one", "two", "xxxxxxxxx"]);
    assert!(
        now.warnings[0].contains("1049 bytes at its end"),
        "{:?}",
        now.warnings
    );
    // Another segment: the one before is cut to its frames.
    let log = log_on(&disk, AppendFsync::Always);
    let _ = say(&log, "four");
    log.step();
    log.cut();
    log.step();
    let _ = say(&log, "five");
    log.step();
    assert!(disk.bytes("d/a.2.log").ends_with(b"four"));
    assert_eq!(read(&disk).unwrap().0.frames[3..], ["four", "five"]);
}

#[test]
fn damage_is_told_with_file_and_offset() {
    let disk = MemoryDisk::default();
    let log = log_on(&disk, AppendFsync::Always);
    for text in ["one", "two", "three"] {
        let _ = say(&log, text);
        log.step();
    }
    // Another segment.
    log.cut();
    log.step();
    let _ = say(&log, "four");
    log.step();
    let cases: [(&str, usize, &str); 5] = [
        (
            "d/a.1.log",
            40,
            "d/a.1.log: damaged at offset 32: the head of a frame is damaged",
        ),
        (
            "d/a.1.log",
            77,
            "d/a.1.log: damaged at offset 32: the checksum of a frame does not match",
        ),
        (
            "d/a.1.log",
            172,
            "d/a.1.log: damaged at offset 126: the checksum of a frame does not match",
        ),
        (
            "d/a.2.log",
            3,
            "d/a.2.log: damaged at offset 0: the head of the segment is damaged",
        ),
        (
            "d/a.meridian",
            20,
            "d/a.meridian: the manifest of the log is damaged",
        ),
    ];
    for (file, at, expected) in cases {
        disk.change(file, |bytes| bytes[at] ^= 4);
        assert_eq!(read(&disk).err().as_deref(), Some(expected));
        disk.change(file, |bytes| bytes[at] ^= 4);
    }
    assert_eq!(read(&disk).unwrap().0.frames.len(), 4);
    let manifest = disk.state(|state| state.names.remove(Path::new("d/a.meridian")));
    assert!(read(&disk).err().unwrap().contains("a.meridian is missing"));
    disk.state(|state| state.names.insert("d/a.meridian".into(), manifest.unwrap()));
    disk.state(|state| state.names.remove(Path::new("d/a.1.log")));
    let missing = "d/a.1.log: the manifest of the log names this file, and it is missing";
    assert_eq!(read(&disk).err().as_deref(), Some(missing));
}

/// Half a frame was left in the file, and frames behind it: at the next start that was damage.
#[test]
fn a_full_disk_refuses_and_recovers() {
    for policy in [
        AppendFsync::EverySecond,
        AppendFsync::No,
        AppendFsync::Always,
    ] {
        let disk = MemoryDisk::default();
        let log = log_on(&disk, policy);
        let _ = say(&log, "one");
        log.step();
        disk.fail(Failing {
            writes: true,
            halves: true,
            ..Failing::default()
        });
        assert_eq!(say(&log, "two"), Gate::Until(2));
        log.step();
        assert!(log.is_failed());
        assert_eq!(log.failure(), "No space left on device");
        assert_eq!(say(&log, "three"), Gate::Until(3));
        disk.fail(Failing {
            truncates: true,
            ..Failing::default()
        });
        log.step();
        assert!(log.is_failed(), "half a frame is in the way");
        disk.fail(Failing::default());
        log.step();
        assert!(!log.is_failed());
        assert_eq!(log.gate(0), Gate::Open);
        disk.crash();
        assert_eq!(read(&disk).unwrap().0.frames, ["one", "two", "three"]);
    }
}

/// The next sync after one that failed may succeed though the data is lost.
#[test]
fn what_a_failed_sync_left_open_is_written_again() {
    for policy in [AppendFsync::EverySecond, AppendFsync::Always] {
        let disk = MemoryDisk::default();
        let log = log_on(&disk, policy);
        let _ = say(&log, "one");
        log.step();
        disk.fail(Failing {
            syncs: true,
            ..Failing::default()
        });
        let _ = say(&log, "two");
        log.step();
        assert!(log.is_failed());
        let _ = say(&log, "three");
        log.step();
        // The kernel has given the pages up.
        disk.change("d/a.1.log", |bytes| bytes.truncate(79));
        disk.fail(Failing::default());
        log.step();
        assert!(!log.is_failed());
        let _ = say(&log, "four");
        log.step();
        disk.crash();
        let (read, past) = read(&disk).unwrap();
        assert_eq!(read.frames, ["one", "two", "three", "four"]);
        assert_eq!(past.last, 4);
    }
}

/// A sync fails and loses its pages, the process is killed before it has written them again, the next one reads them from the
/// system's memory and relies upon them, the machine dies: the log was called damaged then.
#[test]
fn what_a_failed_sync_has_lost_is_written_again_by_the_next_start() {
    let disk = MemoryDisk::default();
    let log = log_on(&disk, AppendFsync::Always);
    let _ = say(&log, "one");
    log.step();
    disk.fail(Failing {
        syncs: true,
        ..Failing::default()
    });
    let _ = say(&log, "two");
    log.step();
    assert!(log.is_failed());
    drop(log);
    // The kernel reports the failure once: the next sync of that file is told that all is well.
    disk.fail(Failing::default());
    let name = PathBuf::from("d/a.1.log");
    let log = log_on(&disk, AppendFsync::Always);
    let _ = say(&log, "three");
    log.step();
    disk.state(|state| {
        for (of, inode) in &state.kept {
            let inode = &mut state.inodes[*inode];
            if *of == name {
                inode.synced.truncate(80);
            }
        }
    });
    disk.crash();
    let (read, past) = read(&disk).unwrap();
    assert_eq!(read.frames, ["one", "two", "three"]);
    assert_eq!(past.last, 3);
}

#[test]
fn a_snapshot_takes_the_place_of_older_segments() {
    let disk = MemoryDisk::default();
    let log = log_on(&disk, AppendFsync::Always);
    let _ = say(&log, "one");
    log.step();
    let mut file = disk.create(Path::new("d/a.9.meridian.rdb")).unwrap();
    file.append(b"snapshot").unwrap();
    assert_eq!(log.cut(), 1);
    let _ = say(&log, "two");
    log.step();
    log.step();
    log.set_base("a.9.meridian.rdb".to_owned(), 1, 8).unwrap();
    assert_eq!(
        disk.list(Path::new("d")).unwrap(),
        ["a.2.log", "a.9.meridian.rdb", "a.meridian"]
    );
    disk.crash();
    let manifest = recover::find(&disk, &place()).unwrap().unwrap();
    let expected = Manifest {
        imports: false,
        base: Some(("a.9.meridian.rdb".to_owned(), 1)),
        segments: vec!["a.2.log".to_owned()],
    };
    assert_eq!(manifest, expected);
    assert_eq!(read(&disk).unwrap().0.frames, ["two"]);
    log.set_base("a.9.meridian.rdb".to_owned(), 2, 8).unwrap();
    assert_eq!(
        read(&disk).unwrap().0.frames,
        [""; 0],
        "it is in the snapshot"
    );
}
