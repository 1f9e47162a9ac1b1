//! A directory that lives as long as a test.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Removed when dropped.
pub(crate) struct TestDir(PathBuf);

impl TestDir {
    pub(crate) fn new(name: &str) -> Self {
        let unique = format!("channel-node-{name}-{}-{:x}", std::process::id(), rand::random::<u64>());
        let path = std::env::temp_dir().join(unique);
        fs::create_dir_all(&path).expect("a temporary directory");
        TestDir(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
