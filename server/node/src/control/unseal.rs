//! The way out: what a sealed snapshot holds, as an RDB file in the clear, for whatever reads such files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::disk::{Disk, SystemDisk};
use super::sealed::Input;
use super::vault::{OPTIONS, Vault, read_keys};
use crate::config::{Config, os_text};

/// Bytes that are read at once.
const PIECE_BYTES: usize = 1 << 20;

/// Writes what the snapshot `input` holds to `output`, which must not be there yet and gets its owner's rights only; the bytes
/// that were written. The keys are those that the configuration names.
///
/// # Errors
/// What is wrong, with the file that it is about; then there is no `output`.
pub fn unseal(config: &Config, input: &Path, output: &Path) -> Result<u64, String> {
    let named = |path: &Path, why: &dyn core::fmt::Display| format!("{}: {why}", path.display());
    let keys = read_keys(config)?;
    if keys.is_none() {
        return Err(format!(
            "no keys are given: {} or {}",
            OPTIONS[0], OPTIONS[1]
        ));
    }
    let opened = open(&SystemDisk, input, &Vault::new(keys));
    let mut sealed = opened.map_err(|why| named(input, &why))?;
    let mut options = OpenOptions::new();
    let made = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(output);
    let mut file = made.map_err(|error| named(output, &os_text(&error)))?;
    let done = copy(&mut sealed, &mut file);
    done.map_err(|error| {
        // (What is there is of no use; that it cannot be removed either is no news.)
        let _gone = fs::remove_file(output);
        match error {
            Failed::Read(why) => named(input, &why),
            Failed::Write(error) => named(output, &os_text(&error)),
        }
    })
}

enum Failed {
    Read(String),
    Write(io::Error),
}

fn open(disk: &dyn Disk, path: &Path, vault: &Vault) -> Result<Input, String> {
    let input = Input::open(disk, path, vault).map_err(|fault| fault.to_string())?;
    match input.is_sealed() {
        true => Ok(input),
        false => Err("it is not a sealed snapshot".to_owned()),
    }
}

fn copy(from: &mut Input, to: &mut File) -> Result<u64, Failed> {
    let (mut piece, mut bytes) = (vec![0; PIECE_BYTES], 0);
    loop {
        let read = from.read(&mut piece);
        match read.map_err(|fault| Failed::Read(fault.to_string()))? {
            0 => break,
            read => {
                to.write_all(&piece[..read]).map_err(Failed::Write)?;
                bytes += read as u64;
            }
        }
    }
    to.sync_all().map_err(Failed::Write)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::sealed::{Output, SYNC_BYTES};
    use super::super::vault::tests::{KEY_A, KEY_B, vault};
    use super::*;

    #[test]
    fn what_is_sealed_can_leave_and_what_is_broken_cannot() {
        let dir = std::env::temp_dir().join(format!("meridian-unseal-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (input, output, keys) = (dir.join("in"), dir.join("out"), dir.join("keys"));
        let give = |line: &str| {
            fs::write(&keys, line).unwrap();
            fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
        };
        let mut config = Config::default();
        config.dir = dir.display().to_string();
        let run = |config: &Config| unseal(config, &input, &output);
        assert!(run(&config).unwrap_err().contains("no keys are given"));
        config.encryption_key_file = "keys".to_owned();
        give(KEY_A);
        fs::write(&input, b"REDIS0010 and so on").unwrap();
        assert!(
            run(&config)
                .unwrap_err()
                .ends_with("in: it is not a sealed snapshot")
        );
        let mut file = Output::create(&SystemDisk, &input, &vault(&[KEY_A]), SYNC_BYTES).unwrap();
        file.append(&[b'x'; 200_000]).unwrap();
        file.finish().unwrap();
        assert_eq!(run(&config), Ok(200_000));
        assert_eq!(fs::read(&output).unwrap(), [b'x'; 200_000]);
        assert_eq!(
            fs::metadata(&output).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(run(&config).unwrap_err().ends_with("out: File exists"));
        fs::remove_file(&output).unwrap();
        give(KEY_B);
        assert!(
            run(&config)
                .unwrap_err()
                .contains("in: it is sealed with the key 'a'")
        );
        give(KEY_A);
        let mut bytes = fs::read(&input).unwrap();
        bytes[150_000] ^= 1;
        fs::write(&input, bytes).unwrap();
        assert!(
            run(&config)
                .unwrap_err()
                .contains("in: damaged at offset 131232")
        );
        assert!(!output.exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
