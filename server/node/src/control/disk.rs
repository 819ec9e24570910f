//! The files of the log and of snapshots, behind a trait.
//!
//! What a crash may take away is part of the interface: bytes that were written are safe after [`File::sync`], a file's existence and
//! name after [`Disk::sync_dir`]. The simulator has a disk that takes away all that may be taken.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// See [`Disk::room_bytes`]. One sync in some hundreds is that of new room; twice as many bytes of the log reach the disk.
const ROOM_BYTES: u64 = 1 << 20;

/// A file system.
pub trait Disk: Send + Sync {
    /// A new file, empty, to be written; one that was there is emptied.
    ///
    /// # Errors
    /// As the system reports them; of all functions here.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// A file that is there, to be read from its beginning, or written at its end.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Names of a directory's files, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a directory, unless it is there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Gives a file another name of the same directory, in one step; a file of that name is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names that were made, changed and removed in a directory outlive a crash from here on.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// So many bytes of zeros are put behind the end of a file whose every write is synced: a write over bytes that are there needs
    /// no change of the file's length and no new blocks, so that its sync is that of the data alone. 0 where that gains nothing.
    fn room_bytes(&self) -> u64 {
        0
    }
}

/// An open file.
pub trait File: Send {
    /// Appends all of it.
    ///
    /// # Errors
    /// As the system reports them; then some of it may have been written. Of all functions here.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Writes all of it from this place on, over what is there; what goes beyond the end is appended.
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// What was written outlives a crash from here on.
    fn sync(&mut self) -> io::Result<()>;
    /// Reads on; 0 at the end.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;
    /// Reads from this place on, whatever [`File::read`] has read; 0 at the end.
    fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Its size, bytes.
    fn size(&mut self) -> io::Result<u64>;
    /// Cuts the file to this length, bytes.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Box::new(SystemFile(options.open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.or_else(|error| match error.kind() {
            // One that may only be read is read.
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                fs::File::open(path)
            }
            _ => Err(error),
        });
        Ok(Box::new(SystemFile(file?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // (None of ours has another name than this.)
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn room_bytes(&self) -> u64 {
        ROOM_BYTES
    }
}

struct SystemFile(fs::File);

impl File for SystemFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.seek(SeekFrom::End(0))?;
        self.0.write_all(bytes)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }

    fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(&self.0, into, at)
    }

    fn size(&mut self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_appended_to_renamed_and_cut() {
        let dir = std::env::temp_dir().join(format!("meridian-disk-{}", std::process::id()));
        let disk = SystemDisk;
        disk.create_dir(&dir).unwrap();
        let mut file = disk.create(&dir.join("a")).unwrap();
        file.append(b"one").unwrap();
        file.append(b"two").unwrap();
        file.sync().unwrap();
        file.truncate(4).unwrap();
        file.write_at(0, b"O").unwrap();
        disk.rename(&dir.join("a"), &dir.join("b")).unwrap();
        disk.sync_dir(&dir).unwrap();
        assert_eq!(disk.list(&dir).unwrap(), ["b"]);
        let mut file = disk.open(&dir.join("b")).unwrap();
        file.append(b"!").unwrap();
        let mut file = disk.open(&dir.join("b")).unwrap();
        let mut bytes = [0; 16];
        let read = file.read(&mut bytes).unwrap();
        assert_eq!(&bytes[..read], b"Onet!");
        assert_eq!(file.size().unwrap(), 5);
        assert_eq!(file.read_at(3, &mut bytes).unwrap(), 2);
        assert_eq!(&bytes[..2], b"t!");
        assert_eq!(file.read_at(9, &mut bytes).unwrap(), 0);
        file.write_at(4, b"??").unwrap();
        assert_eq!(file.size().unwrap(), 6);
        assert!(disk.create(&dir.join("c/d")).is_err());
        disk.remove(&dir.join("b")).unwrap();
        assert!(disk.open(&dir.join("b")).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }
}
