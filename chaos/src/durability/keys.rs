//! Keys of a server whose files are sealed, and the look whether anything shows in them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::rng::Rng;

/// The option that names them, in the folder of the data.
pub(super) const OPTION: [&str; 2] = ["--encryption-key-file", "keys"];
const FILE: &str = "keys";
/// What clients write again and again, and no sealed file holds by chance.
const SHOWS: &[u8] = b"xxxxxxxxxxxxxxxxxxxxxxxx";

/// Where the name of a key stands in a file that is sealed, behind its seal's mark (docs/operations/encryption.md): of a snapshot
/// the mark is at its beginning, of a segment behind its own head.
const MARK: &[u8] = b"MERISEAL";
const MARKS_AT: [usize; 2] = [0, 32];
const NAME_AT: usize = 32;
const NAME_BYTES: usize = 32;

/// A new key in front of the others, now and then; there is always one. Those that no file of the data needs are let go.
pub(super) fn rotate(folder: &Path, rng: &mut Rng) -> io::Result<()> {
    let path = folder.join(FILE);
    let old = fs::read_to_string(&path).unwrap_or_default();
    if !old.is_empty() && !rng.percent(30) {
        return Ok(());
    }
    let mut needed = BTreeSet::new();
    needed_names(folder, &mut needed)?;
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let number = old
        .lines()
        .next()
        .map_or(1, |line| 1 + number_of(&name(line)));
    let digits: String = (0..4).map(|_| format!("{:016x}", rng.next())).collect();
    let mut text = format!("key-{number} {digits}\n");
    for line in old.lines().filter(|line| needed.contains(&name(line))) {
        text.push_str(line);
        text.push('\n');
    }
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
}

fn number_of(name: &str) -> u64 {
    let digits = name.strip_prefix("key-").unwrap_or_default();
    digits.parse().unwrap_or(0)
}

/// The names of the keys that files are sealed with.
fn needed_names(folder: &Path, names: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            needed_names(&path, names)?;
            continue;
        }
        let mut head = Vec::new();
        fs::File::open(&path)?.take(128).read_to_end(&mut head)?;
        names.extend(MARKS_AT.iter().filter_map(|at| name_behind(&head, *at)));
    }
    Ok(())
}

fn name_behind(head: &[u8], at: usize) -> Option<String> {
    let seal = head.get(at..)?.strip_prefix(MARK).and(head.get(at..))?;
    let name = seal.get(NAME_AT..NAME_AT + NAME_BYTES)?;
    let len = name.iter().position(|byte| *byte == 0);
    let name = &name[..len.unwrap_or(NAME_BYTES)];
    Some(String::from_utf8_lossy(name).into_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_no_file_needs_are_let_go() {
        let folder = std::env::temp_dir().join(format!("meridian-rotated-{}", std::process::id()));
        fs::create_dir_all(folder.join("log")).unwrap();
        let head = |at: usize, name: &str| {
            let mut bytes = vec![0; at];
            bytes.extend_from_slice(MARK);
            bytes.resize(at + NAME_AT, 0);
            bytes.extend_from_slice(name.as_bytes());
            bytes.resize(at + NAME_AT + NAME_BYTES + 8, 0);
            bytes
        };
        fs::write(folder.join("dump.rdb"), head(0, "key-2")).unwrap();
        fs::write(folder.join("log/a.log"), head(32, "key-4")).unwrap();
        let lines: String = (1..=5).rev().map(|n| format!("key-{n} 00\n")).collect();
        fs::write(folder.join(FILE), lines).unwrap();
        let mut rng = Rng::new(1);
        let is_rotated = |text: &str| text.starts_with("key-6 ");
        while !is_rotated(&fs::read_to_string(folder.join(FILE)).unwrap()) {
            rotate(&folder, &mut rng).unwrap();
        }
        let text = fs::read_to_string(folder.join(FILE)).unwrap();
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(names, ["key-6", "key-4", "key-2"]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
