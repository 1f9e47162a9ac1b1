//! Files that root writes for the person behind sudo belong to that person, because a later command of theirs runs
//! without root.

use std::{
    env, fs, io,
    os::unix::fs::lchown,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// User and group.
pub type Owner = (u32, u32);

/// The person behind sudo; none when the process was not started by sudo.
#[must_use]
pub fn behind_sudo() -> Option<Owner> {
    let id = |name: &str| env::var(name).ok()?.parse().ok();
    Some((id("SUDO_UID")?, id("SUDO_GID")?))
}

/// Makes a directory and the missing ones above it, each for the person behind sudo.
///
/// # Errors
/// When one cannot be made.
pub fn create_dir_all(directory: &Path) -> Result<()> {
    create_for(directory, behind_sudo())
}

/// Gives a file, or a directory with all that is in it, to the person behind sudo.
///
/// # Errors
/// When it cannot be read or given.
pub fn give(path: &Path) -> Result<()> {
    let Some(owner) = behind_sudo() else { return Ok(()) };
    give_to(path, owner).with_context(|| format!("cannot give {} to its user", path.display()))
}

fn create_for(directory: &Path, owner: Option<Owner>) -> Result<()> {
    let lacking: Vec<PathBuf> =
        directory.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let Some((user, group)) = owner else { return Ok(()) };
    for made in lacking.iter().filter(|path| !path.as_os_str().is_empty()) {
        lchown(made, Some(user), Some(group))
            .with_context(|| format!("cannot give {} away", made.display()))?;
    }
    Ok(())
}

/// A link is given away, not followed: its target is not ours.
fn give_to(path: &Path, owner: Owner) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give_to(&entry?.path(), owner)?;
        }
    }
    lchown(path, Some(owner.0), Some(owner.1))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    /// Root may give files to anybody, other users only to themselves.
    fn other() -> Owner {
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        if user == 0 { (12_345, 12_346) } else { (user, group) }
    }

    fn owner(path: &Path) -> Owner {
        let meta = fs::symlink_metadata(path).expect("there");
        (meta.uid(), meta.gid())
    }

    #[test]
    fn directories_that_lacked_and_what_is_in_them_belong_to_the_user() {
        let top = env::temp_dir().join(format!("user-test-{}", std::process::id()));
        fs::create_dir_all(&top).expect("made");
        let before = owner(&top);
        let deep = top.join("e2e/logs");
        create_for(&deep, Some(other())).expect("made");
        assert_eq!((owner(&top), owner(&top.join("e2e")), owner(&deep)), (before, other(), other()));

        let outside = top.join("outside");
        fs::write(&outside, "").expect("written");
        fs::write(deep.join("a.log"), "").expect("written");
        symlink(&outside, deep.join("link")).expect("linked");
        give_to(&top.join("e2e"), other()).expect("given");
        assert_eq!((owner(&deep.join("a.log")), owner(&deep.join("link"))), (other(), other()));
        assert_eq!(owner(&outside), before, "what a link leads to is left alone");
        fs::remove_dir_all(top).expect("removed");
    }
}
