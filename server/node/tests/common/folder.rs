//! Folders for tests of programs.

use std::path::PathBuf;

/// A folder that goes with its owner.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What has failed is looked into.
        if !std::thread::panicking() {
            let _gone = std::fs::remove_dir_all(&self.0);
        }
    }
}

impl Folder {
    /// One of this process; no two of its tests give the same name.
    pub(crate) fn new(name: &str) -> Folder {
        let name = format!("meridian-{name}-{}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&folder.0).unwrap();
        folder
    }
}
