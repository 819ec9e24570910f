//! The manifest: which files of its folder the log consists of, in order.
//!
//! ```text
//! meridian-log 1
//! imports yes                              while a log of Redis is read into it: it counts for nothing yet
//! base appendonly.aof.3.meridian.rdb 4711  the data as of this sequence; missing while the log begins with nothing
//! segment appendonly.aof.4.log
//! segment appendonly.aof.5.log
//! sum 1a2b3c4d                             CRC-32C of all lines before this one
//! ```
//! It is replaced in one step: a new one is written beside it and synced, takes its name, and the folder is synced. A file of
//! the folder that it does not name is no part of the log: a crash may leave one.

use std::io;
use std::path::{Path, PathBuf};

use storage::log::payload_sum;

use crate::control::disk::{Disk, File};

const FIRST_LINE: &str = "meridian-log 1";
/// A manifest has a line for each segment since the last snapshot; one of more bytes is none.
const BYTES_MAX: usize = 16 << 20;

/// See the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// A log of Redis is being read into this one: until all of it is, this one counts for nothing.
    pub imports: bool,
    /// The snapshot's file, and the last sequence whose effects it holds.
    pub base: Option<(String, u64)>,
    /// Files of the segments, in order.
    pub segments: Vec<String>,
}

/// Where the log lies, and how its files are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `appenddirname` below `dir`.
    pub folder: PathBuf,
    /// `appendfilename`.
    pub name: String,
}

impl Place {
    /// A file of the log.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// The manifest's name. (Redis's own log has another one of these names, and stays beside this one.)
    pub fn manifest(&self) -> String {
        format!("{}.meridian", self.name)
    }

    /// The name of a segment.
    pub fn segment(&self, number: u64) -> String {
        format!("{}.{number}.log", self.name)
    }

    /// The name of a snapshot.
    pub fn base(&self, number: u64) -> String {
        format!("{}.{number}.meridian.rdb", self.name)
    }

    /// The number in a name that [`Place::segment`] or [`Place::base`] gave.
    pub fn number(&self, file: &str) -> Option<u64> {
        let rest = file.strip_prefix(&self.name)?.strip_prefix('.')?;
        let number = rest
            .strip_suffix(".log")
            .or_else(|| rest.strip_suffix(".meridian.rdb"))?;
        number.parse().ok()
    }
}

impl Manifest {
    /// Its text.
    pub fn encode(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        if self.imports {
            text.push_str("imports yes\n");
        }
        if let Some((file, through)) = &self.base {
            text.push_str(&format!("base {file} {through}\n"));
        }
        for file in &self.segments {
            text.push_str(&format!("segment {file}\n"));
        }
        let sum = payload_sum(text.as_bytes());
        text.push_str(&format!("sum {sum:08x}\n"));
        text
    }

    /// Reads its text; None if it is none.
    pub fn decode(text: &str) -> Option<Manifest> {
        let (body, last) = text.strip_suffix('\n')?.rsplit_once('\n')?;
        let summed = text.get(..=body.len())?;
        if last.strip_prefix("sum ")? != format!("{:08x}", payload_sum(summed.as_bytes())) {
            return None;
        }
        let mut lines = body.lines();
        if lines.next() != Some(FIRST_LINE) {
            return None;
        }
        let mut manifest = Manifest::default();
        for line in lines {
            match line.split_once(' ')? {
                ("base", rest) if manifest.base.is_none() && manifest.segments.is_empty() => {
                    let (file, through) = rest.rsplit_once(' ')?;
                    manifest.base = Some((file_name(file)?, through.parse().ok()?));
                }
                ("imports", "yes") => manifest.imports = true,
                ("segment", file) => manifest.segments.push(file_name(file)?),
                _ => return None,
            }
        }
        Some(manifest)
    }

    /// Reads the manifest of a place; None when there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn read(disk: &dyn Disk, place: &Place) -> io::Result<Option<Manifest>> {
        let path = place.path(&place.manifest());
        let mut file = match disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(named(&path, &error)),
        };
        let text = read_all(&mut *file).map_err(|error| named(&path, &error))?;
        let manifest = core::str::from_utf8(&text).ok().and_then(Manifest::decode);
        match manifest {
            Some(manifest) => Ok(Some(manifest)),
            None => Err(named(&path, &"the manifest of the log is damaged")),
        }
    }

    /// Puts this one in the place of the one that is there. It outlives a crash from here on.
    ///
    /// # Errors
    /// Those of the disk; then the old one is still there, or this one.
    pub fn write(&self, disk: &dyn Disk, place: &Place) -> io::Result<()> {
        let path = place.path(&place.manifest());
        let beside = place.path(&format!("{}.new", place.manifest()));
        // One whose sync has failed is not written again: nobody knows what the disk has of it.
        let _gone = disk.remove(&beside);
        let mut file = disk.create(&beside)?;
        file.append(self.encode().as_bytes())?;
        file.sync()?;
        disk.rename(&beside, &path)?;
        disk.sync_dir(&place.folder)
    }
}

/// A name without a way out of the folder.
fn file_name(name: &str) -> Option<String> {
    let is_name = !name.is_empty() && name != ".." && name != "." && !name.contains('/');
    is_name.then(|| name.to_owned())
}

/// An error that says which file it is about.
pub fn named(path: &Path, error: &dyn core::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

fn read_all(file: &mut dyn File) -> io::Result<Vec<u8>> {
    let (mut all, mut some) = (Vec::new(), [0; 4096]);
    loop {
        match file.read(&mut some)? {
            0 => return Ok(all),
            read => all.extend_from_slice(&some[..read]),
        }
        if all.len() > BYTES_MAX {
            return Err(io::Error::other("too long"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_back_and_damage_is_seen() {
        let manifest = Manifest {
            base: Some(("a b.3.meridian.rdb".to_owned(), 4711)),
            segments: vec!["a b.4.log".to_owned(), "a b.5.log".to_owned()],
            imports: false,
        };
        let text = manifest.encode();
        assert!(
            text.starts_with("meridian-log 1\nbase a b.3.meridian.rdb 4711\nsegment a b.4.log\n")
        );
        assert_eq!(Manifest::decode(&text), Some(manifest));
        let empty = Manifest {
            imports: true,
            ..Manifest::default()
        };
        assert_eq!(Manifest::decode(&empty.encode()), Some(empty));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let flipped = core::str::from_utf8(&bytes).ok().and_then(Manifest::decode);
            assert_eq!(flipped, None, "byte {at}");
            assert_eq!(Manifest::decode(&text[..at]), None, "cut at {at}");
        }
        let outside = "meridian-log 1\nsegment ../x\n";
        let text = format!("{outside}sum {:08x}\n", payload_sum(outside.as_bytes()));
        assert_eq!(Manifest::decode(&text), None);
    }

    #[test]
    fn names_have_numbers() {
        let place = Place {
            folder: PathBuf::from("d"),
            name: "appendonly.aof".to_owned(),
        };
        assert_eq!(place.number(&place.segment(12)), Some(12));
        assert_eq!(place.number(&place.base(7)), Some(7));
        for other in [
            "appendonly.aof.1.base.rdb",
            "appendonly.aof.1.incr.aof",
            "x.3.log",
        ] {
            assert_eq!(place.number(other), None, "{other}");
        }
    }
}
