//! DEBUG RELOAD: all is written to the file of snapshots, removed, and read back, with every slot in hand.
//!
//! ```text
//!                     NOFLUSH: what is there stays       else: it is removed
//! MERGE               the file's replaces it             all is the file's
//! without             refused when the file has any      all is the file's
//!                     of it; nothing changes
//! ```
//! (Redis stops altogether when a key is twice there. Here the file is read once more, before anything is taken from it.)

use std::path::Path;
use std::sync::Arc;

use storage::Key;

use crate::control::disk::Disk;
use crate::control::load::{self, Batch, Expired};
use crate::control::snapshot::path_of;
use crate::core::Core;
use crate::scripts;

/// The options of DEBUG RELOAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// First all is written to the file.
    pub save: bool,
    /// What is there is removed before the file is read.
    pub flush: bool,
    /// What the file has may take the place of what is there.
    pub merge: bool,
}

impl Core {
    /// See the module's head.
    ///
    /// # Errors
    /// What is wrong with the file, or why it was not taken.
    pub(crate) fn reload(&mut self, how: How, disk: &dyn Disk) -> Result<(), String> {
        if how.save {
            self.write_now(disk).map_err(|error| error.to_string())?;
        }
        let path = path_of(&self.config);
        if !how.flush && !how.merge {
            self.read_file(&path, disk, Core::must_be_new)?;
        }
        let mut reader = self.open_file(&path, disk)?;
        if how.flush {
            self.shard.edit().flush_all();
            self.forget_libraries();
        }
        let expired = match self.authority.ends_keys() {
            true => Expired::Drop,
            false => Expired::Keep,
        };
        let read = reader.read_all(|part| self.take_part(part, expired));
        scripts::log_libraries(self);
        read.map_err(|why| format!("{}: {why}", path.display()))?;
        let changes = self.changes();
        self.node.snapshots.note(|facts| facts.changes = changes);
        Ok(())
    }

    fn open_file(&self, path: &Path, disk: &dyn Disk) -> Result<load::Reader, String> {
        let config = Arc::clone(&self.config);
        let reader = load::Reader::open(disk, path, &config, &self.node.vault);
        reader.map_err(|why| format!("{}: {why}", path.display()))
    }

    fn read_file(
        &mut self,
        path: &Path,
        disk: &dyn Disk,
        mut take: impl FnMut(&mut Core, load::Part) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut reader = self.open_file(path, disk)?;
        let read = reader.read_all(|part| take(self, part));
        read.map_err(|why| format!("{}: {why}", path.display()))
    }

    /// Nothing of a part of the file is there already.
    fn must_be_new(&mut self, part: load::Part) -> Result<(), String> {
        match part {
            load::Part::Function(code) => scripts::must_be_new(self, &code),
            load::Part::Keys(batch) => self.keys_must_be_new(&batch),
            load::Part::Expect { .. } => Ok(()),
        }
    }

    fn keys_must_be_new(&self, batch: &Batch) -> Result<(), String> {
        for raw in batch.iter() {
            let name = match raw.text().map_err(|damage| damage.to_string())? {
                Some((name, _)) => name,
                None => {
                    let decoded = raw.decode(self.shard.limits());
                    decoded.map_err(|damage| damage.to_string())?.0
                }
            };
            if self.shard.peek(&Key::new(raw.db, &name)).is_some() {
                let name = String::from_utf8_lossy(&name);
                return Err(format!("the key '{name}' of database {} is there", raw.db));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn noflush_and_merge_are_two_options() {
        for cores in [1, 2] {
            let name = format!("meridian-reload{cores}-{}", std::process::id());
            let dir = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&dir).unwrap();
            let text = dir.display().to_string();
            let mut bench = Bench::with(cores, |config| {
                config.dir = text;
                config.enable_debug_command = crate::config::ProtectedAction::Local;
            });
            let client = bench.connect(0);
            let library = "#!lua name=one\nredis.register_function('f', function() return 1 end)";
            let mut load = Vec::new();
            protocol::request::encode(&["FUNCTION", "LOAD", library], &mut load);
            let libraries = |bench: &mut Bench| {
                let list = bench.call(client, "FUNCTION LIST");
                list.matches("library_name").count()
            };
            bench.call(client, "SET k old");
            assert_eq!(bench.call(client, "SAVE"), "+OK\r\n");
            let failed = "-ERR Error trying to load the RDB dump, check server logs.\r\n";
            // A key that the file has: nothing changes.
            bench.call(client, "SET k new");
            bench.call(client, "SET other x");
            let noflush = "DEBUG RELOAD NOSAVE NOFLUSH";
            assert_eq!(bench.call(client, noflush), failed);
            assert_eq!(bench.call(client, "GET k"), "$3\r\nnew\r\n");
            bench.call(client, "DEL k");
            assert_eq!(bench.call(client, noflush), "+OK\r\n");
            assert_eq!(
                bench.call(client, "MGET k other"),
                "*2\r\n$3\r\nold\r\n$1\r\nx\r\n"
            );
            bench.call(client, "SET k new");
            let both = format!("{noflush} MERGE");
            assert_eq!(bench.call(client, &both), "+OK\r\n");
            assert_eq!(
                bench.call(client, "MGET k other"),
                "*2\r\n$3\r\nold\r\n$1\r\nx\r\n"
            );
            // A function goes with what is flushed, and comes with the file.
            bench.send(client, &load);
            assert_eq!(bench.received(client), b"$3\r\none\r\n");
            let merge = "DEBUG RELOAD NOSAVE MERGE";
            assert_eq!(bench.call(client, merge), "+OK\r\n");
            assert_eq!(
                (libraries(&mut bench), bench.call(client, "DBSIZE")),
                (0, ":1\r\n".to_owned())
            );
            bench.send(client, &load);
            bench.received(client);
            assert_eq!(bench.call(client, "DEBUG RELOAD"), "+OK\r\n");
            assert_eq!(libraries(&mut bench), 1);
            bench.call(client, "FLUSHALL");
            assert_eq!(
                bench.call(client, "DEBUG RELOAD NOFLUSH"),
                failed,
                "the library is there"
            );
            assert_eq!(bench.call(client, "DEBUG RELOAD NOFLUSH MERGE"), "+OK\r\n");
            assert_eq!(bench.call(client, "FCALL f 0"), ":1\r\n");
            bench.check();
            std::fs::remove_dir_all(&dir).unwrap();
        }
    }
}
