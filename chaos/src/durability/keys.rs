//! Keys of a server whose files are sealed, and the look whether anything shows in them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::rng::Rng;

/// The option that names them, in the folder of the data.
pub(super) const OPTION: [&str; 2] = ["--encryption-key-file", "keys"];
const FILE: &str = "keys";
/// What clients write again and again, and no sealed file holds by chance.
const SHOWS: &[u8] = b"xxxxxxxxxxxxxxxxxxxxxxxx";

/// A new key in front of the others, now and then; there is always one.
pub(super) fn rotate(folder: &Path, rng: &mut Rng) -> io::Result<()> {
    let path = folder.join(FILE);
    let old = fs::read_to_string(&path).unwrap_or_default();
    if !old.is_empty() && !rng.percent(30) {
        return Ok(());
    }
    let number = old.lines().count() + 1;
    let digits: String = (0..4).map(|_| format!("{:016x}", rng.next())).collect();
    fs::write(&path, format!("key-{number} {digits}\n{old}"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
}

/// A file of the data that shows what was written, if there is one.
pub(super) fn showing(folder: &Path) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Some(found) = showing(&path)? {
                return Ok(Some(found));
            }
            continue;
        }
        let bytes = fs::read(&path)?;
        if bytes.windows(SHOWS.len()).any(|window| window == SHOWS) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
