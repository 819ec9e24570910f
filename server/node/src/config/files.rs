//! The one place of the configuration that touches the file system and standard input.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::glob::glob_match;

/// Longest text that is read as configuration: far above any real file, far below harm.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// What loading and rewriting need of the outside; tests bring a table of texts.
pub trait Files {
    /// The bytes of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// All of standard input.
    fn read_standard_input(&self) -> io::Result<Vec<u8>>;
    /// The files that a path with wildcards names, sorted; none is no error.
    fn matching(&self, pattern: &Path) -> Vec<PathBuf>;
    /// The absolute path of a folder that can be entered.
    fn enter(&self, folder: &Path) -> io::Result<PathBuf>;
    /// The absolute path of a file, which need not exist.
    fn absolute(&self, path: &Path) -> io::Result<PathBuf>;
    /// Whether a log could be appended to this file; makes it.
    fn try_append(&self, path: &Path) -> io::Result<()>;
    /// Puts a file in the place of another: whole or not at all, and on the disk.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()>;
}

/// The machine's own files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        bounded(File::open(path)?)
    }

    fn read_standard_input(&self) -> io::Result<Vec<u8>> {
        bounded(io::stdin().lock())
    }

    fn matching(&self, pattern: &Path) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::new()];
        for part in pattern {
            let part = part.as_encoded_bytes();
            found = if is_pattern(part) {
                found
                    .iter()
                    .flat_map(|folder| children(folder, part))
                    .collect()
            } else {
                let plain = path_of(part);
                found
                    .into_iter()
                    .map(|folder| folder.join(&plain))
                    .collect()
            };
        }
        found.retain(|path| path.exists());
        found.sort();
        found
    }

    fn enter(&self, folder: &Path) -> io::Result<PathBuf> {
        let folder = folder.canonicalize()?;
        if folder.is_dir() {
            Ok(folder)
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    }

    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        std::path::absolute(path)
    }

    fn try_append(&self, path: &Path) -> io::Result<()> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map(drop)
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let temporary = beside(path);
        let written = write_new(&temporary, path, content)
            .and_then(|()| std::fs::rename(&temporary, path))
            .and_then(|()| sync_folder(path));
        if written.is_err() {
            // The first failure is the one to tell; after the rename there is nothing left to remove.
            drop(std::fs::remove_file(&temporary));
        }
        written
    }
}

/// Whether a path or a part of one has a wildcard.
pub(super) fn is_pattern(part: &[u8]) -> bool {
    part.iter().any(|b| matches!(b, b'*' | b'?' | b'['))
}

/// What the system says of a failure, without Rust's remark of its number.
pub fn os_text(failure: &io::Error) -> String {
    let text = failure.to_string();
    match text.split_once(" (os error") {
        Some((said, _)) => said.to_owned(),
        None => text,
    }
}

fn bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    let too_long = u64::try_from(bytes.len()).is_ok_and(|len| len > TEXT_BYTES_MAX);
    if too_long {
        Err(io::ErrorKind::FileTooLarge.into())
    } else {
        Ok(bytes)
    }
}

/// The entries of a folder whose names match; a leading dot must be written out, as in a shell.
fn children(folder: &Path, pattern: &[u8]) -> Vec<PathBuf> {
    let here = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let Ok(entries) = std::fs::read_dir(here) else {
        return Vec::new();
    };
    let names = entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name());
    let fits = |name: &OsString| {
        let name = name.as_encoded_bytes();
        let hidden = name.first() == Some(&b'.') && pattern.first() != Some(&b'.');
        !hidden && glob_match(pattern, name, false)
    };
    names.filter(fits).map(|name| folder.join(name)).collect()
}

/// A path of bytes.
pub(super) fn path_of(part: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    OsString::from_vec(part.to_vec()).into()
}

/// A name in the same folder, so that the rename stays on one file system.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    name.into()
}

/// Writes a new file with the old one's permissions: it may hold passwords.
fn write_new(path: &Path, old: &Path, content: &[u8]) -> io::Result<()> {
    drop(std::fs::remove_file(path)); // what an earlier process of this id may have left
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    if let Ok(old) = std::fs::metadata(old) {
        file.set_permissions(old.permissions())?;
    }
    file.write_all(content)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("meridian-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn replacing_keeps_the_mode_and_leaves_nothing_behind() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder("replace");
        let path = folder.join("a.conf");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        Disk.replace(&path, b"new").unwrap();
        assert_eq!(Disk.read(&path).unwrap(), b"new");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        assert!(Disk.replace(&folder.join("none/a.conf"), b"").is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn wildcards_name_files_in_order() {
        let folder = folder("glob");
        for name in ["b.conf", "a.conf", "c.txt", ".hidden.conf"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let found = Disk.matching(&folder.join("*.conf"));
        assert_eq!(found, [folder.join("a.conf"), folder.join("b.conf")]);
        assert!(Disk.matching(&folder.join("*.none")).is_empty());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_system_s_words_come_without_numbers() {
        let failure = Disk.read(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(os_text(&failure), "No such file or directory");
    }
}
