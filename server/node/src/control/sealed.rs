//! Snapshots as files that may be sealed: written once from beginning to end, and read so.
//!
//! ```text
//! Output: bytes ──> [chunks, sealed] ──> file        sealed when the vault has keys
//! Input:  file ──> "MERISEAL"? chunks, opened : as it is ──> bytes
//! ```
//! A plain file is read as ever: that is the way in. A write that has failed is never repeated: the file is given up.

use std::io;
use std::path::Path;

use seal::{HEAD_BYTES, Kind, MAGIC, Opener, SEALED_CHUNK_BYTES, Sealer, plain_bytes};

use super::disk::{Disk, File};
use super::vault::Vault;

/// What is kept of the buffer between two writes, bytes.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// Bytes that are written between two syncs: all of a large file at once would keep the disk, and the processor that drives it, from
/// everything else (rdb-save-incremental-fsync of Redis, whose number this is).
pub const SYNC_BYTES: usize = 4 << 20;
/// The same where clients are served meanwhile, and who writes is not in a hurry: with the other one their p99.9 was 12 ms, with this 5.
pub const SYNC_BYTES_BESIDE: usize = 1 << 20;

/// A file that is written.
pub struct Output {
    file: Box<dyn File>,
    /// Bytes since the last sync, and how many there may be.
    unsynced: usize,
    unsynced_max: usize,
    sealer: Option<Sealer>,
    sealed: Vec<u8>,
}

impl Output {
    /// Makes a file, which is synced after so many bytes each time.
    ///
    /// # Errors
    /// Those of the disk; of all functions here. After one the file is of no use.
    pub fn create(
        disk: &dyn Disk,
        path: &Path,
        vault: &Vault,
        unsynced_max: usize,
    ) -> io::Result<Output> {
        let mut output = Output {
            file: disk.create(path)?,
            unsynced: 0,
            unsynced_max,
            sealer: None,
            sealed: Vec::new(),
        };
        if let Some((head, key)) = vault.make(Kind::Snapshot, &[])? {
            output.file.append(&head)?;
            output.sealer = Some(Sealer::new(key));
        }
        Ok(output)
    }

    /// Appends bytes.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(sealer) = &mut self.sealer else {
            return self.write(bytes.len(), |output| output.file.append(bytes));
        };
        sealer
            .push(bytes, &mut self.sealed)
            .map_err(io::Error::other)?;
        self.write_sealed()
    }

    /// That was all: it outlives a crash from here on.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(sealer) = self.sealer.take() {
            sealer.finish(&mut self.sealed).map_err(io::Error::other)?;
            self.write_sealed()?;
        }
        self.file.sync()
    }

    /// Writes so many bytes, and syncs them every now and then.
    fn write(
        &mut self,
        bytes: usize,
        write: impl FnOnce(&mut Output) -> io::Result<()>,
    ) -> io::Result<()> {
        write(self)?;
        self.unsynced += bytes;
        if self.unsynced >= self.unsynced_max {
            self.unsynced = 0;
            self.file.sync()?;
        }
        Ok(())
    }

    fn write_sealed(&mut self) -> io::Result<()> {
        if !self.sealed.is_empty() {
            let write = |output: &mut Output| output.file.append(&output.sealed);
            self.write(self.sealed.len(), write)?;
            self.sealed.clear();
            self.sealed.shrink_to(SPARE_BYTES_MAX);
        }
        Ok(())
    }
}

/// Why a file was not read.
#[derive(Debug)]
pub enum Fault {
    /// The system would not.
    Io(io::Error),
    /// Its seal is broken at this place of the file, bytes.
    Broken(u64, seal::Fault),
    /// It cannot be opened: a key is missing, or its head is damaged.
    Locked(String),
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Fault::Io(error) => write!(f, "{error}"),
            Fault::Broken(offset, fault) => write!(f, "damaged at offset {offset}: {fault}"),
            Fault::Locked(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for Fault {}

/// A file that is read.
pub struct Input {
    file: Box<dyn File>,
    opener: Option<Opener>,
    /// Bytes of the file that have not been read, of a sealed one.
    left: u64,
    /// The last chunk is open.
    is_done: bool,
    /// What has been read and not been taken: the part of `buf` from here on.
    at: usize,
    buf: Vec<u8>,
    size: u64,
}

impl Input {
    /// Opens a file.
    ///
    /// # Errors
    /// A [`Fault`]
    pub fn open(disk: &dyn Disk, path: &Path, vault: &Vault) -> Result<Input, Fault> {
        let mut file = disk.open(path).map_err(Fault::Io)?;
        let size = file.size().map_err(Fault::Io)?;
        let mut head = vec![0; HEAD_BYTES];
        let read = read_full(&mut *file, &mut head).map_err(Fault::Io)?;
        head.truncate(read);
        let mut input = Input {
            file,
            opener: None,
            left: 0,
            is_done: false,
            at: 0,
            buf: head,
            size,
        };
        if !input.buf.starts_with(MAGIC) {
            return Ok(input);
        }
        let key = vault.open(Kind::Snapshot, &[], &input.buf);
        input.opener = Some(Opener::new(key.map_err(Fault::Locked)?));
        input.left = size.saturating_sub(HEAD_BYTES as u64);
        let broken = Fault::Broken(HEAD_BYTES as u64, seal::Fault::Broken);
        input.size = plain_bytes(size).ok_or(broken)?;
        input.buf.clear();
        Ok(input)
    }

    /// Whether it is sealed.
    pub fn is_sealed(&self) -> bool {
        self.opener.is_some()
    }

    /// How many bytes it holds, those of its seals left out.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads on; 0 at the end, which a sealed file has behind its last chunk only.
    ///
    /// # Errors
    /// A [`Fault`]
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, Fault> {
        let mut filled = 0;
        while filled < into.len() {
            if self.at == self.buf.len() && !self.next_chunk()? {
                break;
            }
            let ready = &self.buf[self.at..];
            let bytes = ready.len().min(into.len() - filled);
            into[filled..filled + bytes].copy_from_slice(&ready[..bytes]);
            self.at += bytes;
            filled += bytes;
            if self.opener.is_none() {
                break;
            }
        }
        if filled == 0 && self.opener.is_none() {
            return self.file.read(into).map_err(Fault::Io);
        }
        Ok(filled)
    }

    /// Opens the next chunk; false when there is none.
    fn next_chunk(&mut self) -> Result<bool, Fault> {
        let Some(opener) = self.opener.as_mut().filter(|_| !self.is_done) else {
            return Ok(false);
        };
        let bytes = self.left.min(SEALED_CHUNK_BYTES as u64);
        self.buf.resize(bytes as usize, 0);
        let read = read_full(&mut *self.file, &mut self.buf).map_err(Fault::Io)?;
        let offset = opener.offset();
        if read < self.buf.len() {
            let text = "the file has become shorter while it was read";
            return Err(Fault::Io(io::Error::other(text)));
        }
        self.left -= bytes;
        let opened = opener.open(&mut self.buf, self.left == 0);
        let plain = opened.map_err(|fault| Fault::Broken(offset, fault))?.len();
        self.buf.truncate(plain);
        self.at = 0;
        self.is_done = self.left == 0;
        Ok(plain > 0)
    }
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &mut dyn File, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read(&mut into[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::super::log::tests::MemoryDisk;
    use super::super::vault::tests::{KEY_A, KEY_B, vault};
    use super::*;

    fn write(disk: &MemoryDisk, vault: &Vault, bytes: &[u8], piece: usize) {
        let mut output = Output::create(disk, Path::new("f"), vault, SYNC_BYTES).unwrap();
        let mut pieces = bytes.chunks(piece);
        pieces.try_for_each(|piece| output.append(piece)).unwrap();
        output.finish().unwrap();
    }

    fn read(disk: &MemoryDisk, vault: &Vault, piece: usize) -> Result<Vec<u8>, String> {
        let (mut all, mut some) = (Vec::new(), vec![0; piece]);
        let input = Input::open(disk, Path::new("f"), vault);
        let mut input = input.map_err(|fault| fault.to_string())?;
        loop {
            match input.read(&mut some).map_err(|fault| fault.to_string())? {
                0 => break,
                read => all.extend_from_slice(&some[..read]),
            }
        }
        assert_eq!(input.size(), all.len() as u64);
        Ok(all)
    }

    #[test]
    fn what_was_written_is_read_sealed_or_not() {
        let disk = MemoryDisk::default();
        let (sealed, plain) = (vault(&[KEY_A]), Vault::new(None));
        for len in [0, 1, 127, 128, 129, 70_000, 200_000] {
            let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            for piece in [33, 5000, 1 << 20] {
                write(&disk, &sealed, &bytes, piece);
                assert_eq!(read(&disk, &sealed, piece), Ok(bytes.clone()));
                let why = read(&disk, &plain, piece).unwrap_err();
                assert!(why.contains("the key 'a', which is not there"), "{why}");
                let why = read(&disk, &vault(&[KEY_B]), piece).unwrap_err();
                assert!(why.contains("the key 'a', which is not there"), "{why}");
                // The way in: what is in the clear is read with keys, too.
                write(&disk, &plain, &bytes, piece);
                assert_eq!(read(&disk, &sealed, piece), Ok(bytes.clone()));
            }
        }
    }

    #[test]
    fn damage_is_told_with_its_place() {
        let (disk, keys) = (MemoryDisk::default(), vault(&[KEY_A]));
        for (at, expected) in [
            (3, None),
            (40, Some("its sealed head is damaged")),
            (130, Some("damaged at offset 128: the seal is broken")),
            (70_000, Some("damaged at offset 65680: the seal is broken")),
        ] {
            write(&disk, &keys, &[7; 100_000], 1000);
            disk.change("f", |bytes| bytes[at] ^= 1);
            match expected {
                Some(expected) => assert_eq!(read(&disk, &keys, 1 << 20), Err(expected.to_owned())),
                // It says no more that it is sealed: whoever reads it finds no RDB file.
                None => assert!(!read(&disk, &keys, 1 << 20).unwrap().starts_with(MAGIC)),
            }
        }
        for (len, expected) in [
            (100, "it ends inside its sealed head"),
            (128, "damaged at offset 128: the seal is broken"),
            (65_680, "damaged at offset 128: the file is cut off"),
            (65_681, "damaged at offset 65680: the seal is broken"),
        ] {
            write(&disk, &keys, &[7; 100_000], 1000);
            disk.change("f", |bytes| bytes.truncate(len));
            let why = read(&disk, &keys, 1 << 20).unwrap_err();
            assert!(why.starts_with(expected), "{why}");
        }
    }
}
