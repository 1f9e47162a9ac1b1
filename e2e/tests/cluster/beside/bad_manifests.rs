//! (h) A manifest that cannot work is refused by `kubectl apply` with a sentence that says what to change.
//!
//! Each file of `manifests/bad` begins with `# expect: ` and a phrase of that sentence.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use cluster::Instance;
use e2e::fleet::Turn;

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/bad");
const NAMESPACE: &str = "e2e-bad-manifests";
/// The test needs at least so many manifests to show anything.
const FEWEST: usize = 10;

fn manifests() -> Result<Vec<PathBuf>> {
    let mut paths: Vec<_> = fs::read_dir(DIRECTORY)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    Ok(paths)
}

/// Applies one manifest and looks for its phrase in the refusal.
fn refused_well(instance: &Instance, path: &Path) -> Result<()> {
    let text = fs::read_to_string(path)?;
    let first = text.lines().next().unwrap_or_default();
    let phrase = first.strip_prefix("# expect: ").context("does not begin with `# expect: `")?;
    let file = path.as_os_str();
    let applied = instance
        .kubectl_command()?
        .args(["-n", NAMESPACE, "apply", "-f"])
        .arg(file)
        .output()
        .context("cannot run kubectl")?;
    let said = String::from_utf8_lossy(&applied.stderr);
    if applied.status.success() {
        bail!("was accepted");
    }
    ensure!(said.contains(phrase), "wanted {phrase:?} in: {said}");
    Ok(())
}

#[test]
fn bad_manifests_are_refused_with_a_sentence_that_helps() {
    let _turn = Turn::beside();
    let instance = Instance::attach("test").unwrap();
    instance.kubectl(["delete", "namespace", NAMESPACE, "--ignore-not-found"]).unwrap();
    instance.kubectl(["create", "namespace", NAMESPACE]).unwrap();
    let manifests = manifests().unwrap();
    assert!(manifests.len() >= FEWEST, "only {} manifests", manifests.len());
    let wrong: Vec<String> = manifests
        .iter()
        .filter_map(|path| {
            let error = refused_well(&instance, path).err()?;
            Some(format!("{}: {error:#}", path.display()))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let left = instance.kubectl(["-n", NAMESPACE, "get", "channelclusters", "-o", "name"]).unwrap();
    assert_eq!(left.trim(), "", "made in spite of the refusal");
    instance.kubectl(["delete", "namespace", NAMESPACE, "--wait=false"]).unwrap();
}
