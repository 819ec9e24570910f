//! The state's file: read at the start, replaced as a whole before each step that the other side can see.

use std::io;
use std::path::{Path, PathBuf};

use migration::{STATE_BYTES_MAX, State};

use crate::config::{Config, os_text};
use crate::control::disk::Disk;

/// Its name in `dir`...
const NAME: &str = "meridian-migration.state";
/// ...and while it is written.
const NEW: &str = "meridian-migration.state.new";

/// Where it is.
pub(super) fn path_of(config: &Config) -> PathBuf {
    Path::new(&config.dir).join(NAME)
}

/// The state of the disk; None when no migration was ever begun here.
///
/// # Errors
/// The file, and what is wrong with it: then nothing is known, and the server must not start as if there were none.
pub(super) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<State>, String> {
    let named = |why: &dyn core::fmt::Display| {
        format!(
            "{}: {why}; it says who decides what keys hold: mend it, or remove it when no migration is under way",
            path.display()
        )
    };
    let mut file = match disk.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(named(&os_text(&error))),
    };
    let mut bytes = vec![0; STATE_BYTES_MAX + 1];
    let mut len = 0;
    loop {
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) => return Err(named(&os_text(&error))),
        }
    }
    State::decode(&bytes[..len])
        .map(Some)
        .map_err(|why| named(&why))
}

/// Puts another in its place; when this returns it outlives a crash.
///
/// # Errors
/// As the system reports them; then the old one is there, or the new one.
pub(super) fn write(disk: &dyn Disk, path: &Path, state: &State) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let new = dir.join(NEW);
    let mut file = disk.create(&new)?;
    file.append(state.encode().as_bytes())?;
    file.sync()?;
    drop(file);
    disk.rename(&new, path)?;
    disk.sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use migration::Phase;

    use super::*;
    use crate::control::log::tests::MemoryDisk;

    #[test]
    fn a_state_outlives_a_crash_and_a_damaged_one_is_refused() {
        let (disk, path) = (
            MemoryDisk::default(),
            Path::new("d/meridian-migration.state"),
        );
        assert_eq!(read(&disk, path), Ok(None));
        let mut state = State::default();
        for phase in [Phase::Attach, Phase::Front] {
            state.enter(phase, 1);
            write(&disk, path, &state).unwrap();
            disk.crash();
            assert_eq!(read(&disk, path), Ok(Some(state.clone())));
        }
        let mut file = disk.create(path).unwrap();
        file.append(b"meridian-migration 1\nphase front\nsum 0\n")
            .unwrap();
        let why = read(&disk, path).unwrap_err();
        assert!(why.contains("checksum is wrong"), "{why}");
    }
}
