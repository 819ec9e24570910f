//! The keys of encryption at rest: read from a file or the environment, kept, and exchanged while the server runs.
//!
//! ```text
//! encryption-key-file PATH ──┐
//! encryption-key-env NAME  ──┴─> seal::Keys ─> Vault ──┬─ make(): a new file gets a key of its own, wrapped by the first key
//! CONFIG SET of either: read again ──────────────────> └─ open(): by whichever key the file's head names
//! ```
//! Without keys new files are in the clear. What has been read of a key is wiped when it is let go (what the library of
//! cryptography makes of a key is not).

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ring::rand::{SecureRandom, SystemRandom};
pub use seal::Keys;
use seal::{DataKey, Fault, HEAD_BYTES, Kind, RANDOM_BYTES};
use zeroize::Zeroizing;

use crate::config::{Config, os_text};

/// The options that name keys.
pub const OPTIONS: [&str; 2] = ["encryption-key-file", "encryption-key-env"];
/// A file of keys with more bytes is none.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// What the mode of a file of keys must not have: anything for the group or for others.
const MODE_OPEN: u32 = 0o077;

/// Fills a buffer with bytes that nobody can guess.
pub type Random = Box<dyn Fn(&mut [u8]) -> io::Result<()> + Send + Sync>;

/// See the module's head.
pub struct Vault {
    keys: Mutex<Option<Arc<Keys>>>,
    random: Random,
}

impl Vault {
    /// With these keys, or none, and the system's random bytes.
    pub fn new(keys: Option<Keys>) -> Vault {
        let system = SystemRandom::new();
        let random = move |into: &mut [u8]| {
            let filled = system.fill(into);
            filled.map_err(|_| io::Error::other("the system has no random bytes"))
        };
        Vault::with_random(keys, Box::new(random))
    }

    /// With another source of random bytes, for whoever repeats runs.
    pub fn with_random(keys: Option<Keys>, random: Random) -> Vault {
        Vault {
            keys: Mutex::new(keys.map(Arc::new)),
            random,
        }
    }

    /// The keys in force.
    pub fn keys(&self) -> Option<Arc<Keys>> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.clone()
    }

    /// From here on these are in force: for files that are made or opened afterwards.
    pub fn set(&self, keys: Option<Keys>) {
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys.map(Arc::new);
    }

    /// Whether these may come after those in force: a list without the key that new files have been sealed with would leave those files
    /// behind. (No list at all is the way out.)
    ///
    /// # Errors
    /// Why they may not.
    pub fn may_follow(&self, keys: Option<&Keys>) -> Result<(), String> {
        let (Some(before), Some(after)) = (self.keys(), keys) else {
            return Ok(());
        };
        match after.holds(before.current()) {
            true => Ok(()),
            false => Err(format!(
                "the key '{}', which files are sealed with, must stay in the list",
                before.current().id
            )),
        }
    }

    /// The head of a new file and its key; None without keys. `binds` stands before the head in the file.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn make(
        &self,
        kind: Kind,
        binds: &[u8],
    ) -> io::Result<Option<([u8; HEAD_BYTES], DataKey)>> {
        let Some(keys) = self.keys() else {
            return Ok(None);
        };
        let mut random = Zeroizing::new([0; RANDOM_BYTES]);
        (self.random)(&mut random[..])?;
        let made = seal::make(keys.current(), kind, binds, &random);
        made.map(Some).map_err(io::Error::other)
    }

    /// The key of a file, whose head this is.
    ///
    /// # Errors
    /// What is wrong with the head or with the keys, as a text.
    pub fn open(&self, kind: Kind, binds: &[u8], head: &[u8]) -> Result<DataKey, String> {
        let opened = seal::open(self.keys().as_deref(), kind, binds, head);
        opened.map_err(|fault| match fault {
            Fault::MissingKey(_) => format!("{fault} ({} or {})", OPTIONS[0], OPTIONS[1]),
            _ => fault.to_string(),
        })
    }
}

/// The keys that a configuration names; None when it names none.
///
/// # Errors
/// What is wrong with them, without a byte of them.
pub fn read_keys(config: &Config) -> Result<Option<Keys>, String> {
    let (file, variable) = (&config.encryption_key_file, &config.encryption_key_env);
    let (text, place) = match (file.is_empty(), variable.is_empty()) {
        (true, true) => return Ok(None),
        (false, false) => {
            return Err(format!(
                "{} and {} are both set: one of them is enough",
                OPTIONS[0], OPTIONS[1]
            ));
        }
        (false, true) => {
            let path = Path::new(&config.dir).join(file);
            let text = read_file(&path).map_err(|why| format!("{}: {why}", path.display()))?;
            (text, path.display().to_string())
        }
        (true, false) => {
            let text = std::env::var_os(variable);
            let text = text.ok_or_else(|| format!("the environment has no variable {variable}"))?;
            (
                Zeroizing::new(text.into_vec()),
                format!("the variable {variable}"),
            )
        }
    };
    let keys = Keys::parse(&text);
    keys.map(Some).map_err(|error| format!("{place}: {error}"))
}

/// A file that is its owner's alone.
fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let told = |error: io::Error| os_text(&error);
    // (Before it is opened: to open a pipe waits for somebody who writes.)
    if !fs::metadata(path).map_err(told)?.is_file() {
        return Err("it is not a file".to_owned());
    }
    let mut file = File::open(path).map_err(told)?;
    let meta = file.metadata().map_err(told)?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & MODE_OPEN != 0 {
        return Err(format!(
            "its mode is {mode:04o}: only its owner may have a way to it (chmod 600)"
        ));
    }
    if meta.len() > FILE_BYTES_MAX {
        return Err("it is too large for a list of keys".to_owned());
    }
    // With room for all of it: a vector that grows leaves copies behind.
    let mut text = Zeroizing::new(vec![0; FILE_BYTES_MAX as usize]);
    let mut len = 0;
    while len < text.len() {
        match file.read(&mut text[len..]).map_err(told)? {
            0 => break,
            read => len += read,
        }
    }
    text.truncate(len);
    Ok(text)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const KEY_A: &str =
        "a 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    pub(crate) const KEY_B: &str =
        "b ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff";

    /// A vault with keys of these lines.
    pub(crate) fn vault(lines: &[&str]) -> Vault {
        Vault::new(Some(Keys::parse(lines.join("\n").as_bytes()).unwrap()))
    }

    fn read(file: &str, variable: &str) -> Result<Option<String>, String> {
        let mut config = Config::default();
        config.encryption_key_file = file.to_owned();
        config.encryption_key_env = variable.to_owned();
        config.dir = std::env::temp_dir().display().to_string();
        let keys = read_keys(&config)?;
        Ok(keys.map(|keys| keys.current().id.to_string()))
    }

    #[test]
    fn a_file_of_keys_must_be_its_owners_alone() {
        let name = format!("meridian-keys-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        fs::write(&path, format!("{KEY_A}\n{KEY_B}\n")).unwrap();
        for (mode, expected) in [
            (0o600, Ok("a")),
            (0o400, Ok("a")),
            (0o640, Err("mode is 0640")),
            (0o604, Err("mode is 0604")),
            (0o620, Err("mode is 0620")),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match (read(&name, ""), expected) {
                (Ok(found), Ok(id)) => assert_eq!(found.as_deref(), Some(id)),
                (Err(why), Err(text)) => assert!(why.contains(text), "{why}"),
                (found, expected) => panic!("{mode:o}: {found:?}, not {expected:?}"),
            }
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read(&name, "X").unwrap_err().contains("both set"));
        fs::write(&path, "a 0123\n").unwrap();
        assert!(
            read(&name, "")
                .unwrap_err()
                .contains(&format!("{name}: line 1"))
        );
        fs::write(&path, vec![b'x'; 65 << 10]).unwrap();
        assert!(read(&name, "").unwrap_err().contains("too large"));
        fs::remove_file(&path).unwrap();
        assert!(read(&name, "").unwrap_err().contains("No such file"));
        assert!(read("/dev/null", "").unwrap_err().contains("not a file"));
        assert_eq!(read("", ""), Ok(None));
        assert!(
            read("", "MERIDIAN_NO_SUCH")
                .unwrap_err()
                .contains("no variable")
        );
        assert!(
            read("", "PATH")
                .unwrap_err()
                .contains("the variable PATH: line 1")
        );
    }

    #[test]
    fn rotated_keys_open_what_old_ones_have_sealed() {
        let vault = vault(&[KEY_A]);
        let list = |text: &str| Keys::parse(text.as_bytes()).unwrap();
        assert!(vault.may_follow(None).is_ok());
        assert!(
            vault
                .may_follow(Some(&list(&format!("{KEY_B}\n{KEY_A}"))))
                .is_ok()
        );
        let why = vault.may_follow(Some(&list(KEY_B))).unwrap_err();
        assert!(why.contains("the key 'a'"), "{why}");
        let (old, _) = vault.make(Kind::Snapshot, b"").unwrap().unwrap();
        vault.set(Some(
            Keys::parse(format!("{KEY_B}\n{KEY_A}").as_bytes()).unwrap(),
        ));
        let (new, _) = vault.make(Kind::Snapshot, b"").unwrap().unwrap();
        assert_eq!(seal::key_id(&new).unwrap().to_string(), "b");
        assert!(vault.open(Kind::Snapshot, b"", &old).is_ok());
        vault.set(Some(Keys::parse(KEY_B.as_bytes()).unwrap()));
        assert!(vault.open(Kind::Snapshot, b"", &new).is_ok());
        let why = vault.open(Kind::Snapshot, b"", &old).unwrap_err();
        assert!(
            why.contains("the key 'a', which is not there (encryption-key-file"),
            "{why}"
        );
        vault.set(None);
        assert!(vault.make(Kind::Snapshot, b"").unwrap().is_none());
    }
}
