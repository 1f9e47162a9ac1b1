//! Reading files that other programs wrote.
//!
//! A mounted configuration or secret is a plain file. In its place may be a FIFO without a writer, a device without
//! an end, or a file that grows while it is read: opening or reading these as usual would block for ever or take all
//! memory. So a file is opened without blocking, looked at, and read up to its bound, whatever size it claims to have.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::OFlags;

/// Reads a plain file as text; none when it is longer than `max` bytes.
///
/// # Errors
/// Those of the system; [`io::ErrorKind::InvalidInput`] when it is no plain file, [`io::ErrorKind::InvalidData`] when it is
/// no UTF-8.
pub fn read_text(path: &Path, max: u64) -> io::Result<Option<String>> {
    let file = open_plain(path)?;
    let mut bytes = Vec::new();
    // One byte more than is wanted is read, to tell a file that is just as long as the bound from a longer one.
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Ok(None);
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no UTF-8 text"))
}

fn open_plain(path: &Path) -> io::Result<File> {
    // A terminal must not become the process' own. Plain files do not notice either flag.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    // The bits of flags fit an int on every system.
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A directory of this test, removed at its end.
    struct Dir(std::path::PathBuf);

    impl Dir {
        fn new() -> Self {
            let dir = std::env::temp_dir().join(format!("shell-file-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Dir(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn only_plain_files_within_their_bound_are_read_and_nothing_blocks() {
        let dir = Dir::new();
        let at = |name: &str| dir.0.join(name);
        fs::write(at("plain"), "12345").unwrap();
        assert_eq!(read_text(&at("plain"), 5).unwrap().as_deref(), Some("12345"));
        assert_eq!(read_text(&at("plain"), 4).unwrap(), None);
        std::os::unix::fs::symlink("plain", at("link")).unwrap();
        assert_eq!(read_text(&at("link"), 5).unwrap().as_deref(), Some("12345"));
        fs::write(at("bytes"), [0xff]).unwrap();
        assert_eq!(read_text(&at("bytes"), 5).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read_text(&at("none"), 5).unwrap_err().kind(), io::ErrorKind::NotFound);

        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for bad in [at("fifo"), dir.0.clone(), "/dev/zero".into(), "/dev/tty0".into()] {
            if bad.exists() {
                let error = read_text(&bad, 5).unwrap_err();
                assert!(!matches!(error.kind(), io::ErrorKind::NotFound), "{}: {error}", bad.display());
            }
        }
        // This file says that it is empty and is not: the bytes that are read count.
        assert_eq!(read_text(Path::new("/proc/self/status"), 5).unwrap(), None);
    }
}
