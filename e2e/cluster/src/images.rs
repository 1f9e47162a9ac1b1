//! Makes container images without a registry or a daemon: one binary becomes a one-layer OCI archive (OCI image layout
//! 1.0 in a tar), with the same bytes each time. A static binary stands alone; another one brings its libraries with it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{procs::write_whole, run, tools::hex};

/// User and group in every image: a number, as the restricted profile asks, which no user of the host has.
const USER: u32 = 65_532;
/// Registry part of every local name; no image is ever pulled from it.
const REGISTRY: &str = "channelcluster.io";
/// Digits of the content hash that make a tag.
const TAG_DIGITS: usize = 16;

/// How many archives of one name are kept: some may be for clusters that are being started now, or from other
/// profiles.
const KEPT_ARCHIVES: usize = 4;

/// An image archive on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Full name with a tag that is a hash of the content.
    pub reference: String,
    /// The archive.
    pub archive: PathBuf,
}

impl Image {
    /// Makes the archive of a static binary in `directory`; an unchanged binary gives an unchanged tag.
    ///
    /// # Errors
    /// When the binary cannot be read, needs a dynamic loader, or the archive cannot be written.
    pub fn of_binary(binary: &Path, directory: &Path) -> Result<Self> {
        let name = binary.file_name().and_then(|name| name.to_str()).context("a binary has a name")?;
        let content = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
        anyhow::ensure!(
            !needs_loader(&content),
            "{} needs a dynamic loader, which its image would not have: build it statically",
            binary.display()
        );
        Self::of_files(name, &content, &[], directory)
    }

    /// Makes the archive of a binary that is linked dynamically, together with this machine's libraries.
    ///
    /// # Errors
    /// When the binary or a library cannot be read, or the archive cannot be written.
    pub fn of_linked(binary: &Path, directory: &Path) -> Result<Self> {
        let name = binary.file_name().and_then(|name| name.to_str()).context("a binary has a name")?;
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let said = run::output(run::tied("ldd").arg(binary))?;
        anyhow::ensure!(!said.contains("not found"), "a library of {} is missing:\n{said}", binary.display());
        let libraries: Vec<_> =
            libraries(&said).map(|path| Ok((path, read(Path::new(path))?))).collect::<Result<_>>()?;
        Self::of_files(name, &read(binary)?, &libraries, directory)
    }

    fn of_files(name: &str, binary: &[u8], libraries: &[(&str, Vec<u8>)], directory: &Path) -> Result<Self> {
        let (tag, bytes) = archive(name, binary, libraries)?;
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let image = Self {
            reference: format!("{REGISTRY}/{name}:{tag}"),
            archive: directory.join(format!("{name}-{tag}.tar")),
        };
        // It is written anew even when it exists, so that the newest archives are those in use.
        write_whole(&image.archive, &bytes)?;
        prune(directory, name)?;
        Ok(image)
    }
}

/// Removes all but the newest archives of a name, because each build of a changed source leaves one.
fn prune(directory: &Path, name: &str) -> Result<()> {
    let prefix = format!("{name}-");
    let mut archives = Vec::new();
    for entry in fs::read_dir(directory)?.flatten() {
        let file = entry.file_name();
        let tag = file.to_str().and_then(|file| file.strip_prefix(&prefix)?.strip_suffix(".tar"));
        if tag.is_some_and(|tag| tag.len() == TAG_DIGITS && tag.bytes().all(|b| b.is_ascii_hexdigit())) {
            archives.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    archives.sort();
    archives.truncate(archives.len().saturating_sub(KEPT_ARCHIVES));
    for (_, path) in archives {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// Whether an ELF binary names an interpreter; a static one does not.
fn needs_loader(binary: &[u8]) -> bool {
    // The path is in the first page, right after the program headers.
    binary.get(..4096).is_some_and(|head| head.windows(8).any(|window| window == b"/ld-linu"))
}

/// The paths of libraries in the output of ldd; the kernel's own page has none.
fn libraries(said: &str) -> impl Iterator<Item = &str> {
    said.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Self { digest: hex(&Sha256::digest(&bytes)), bytes }
    }

    fn json(value: &Value) -> Self {
        Self::new(value.to_string().into_bytes())
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({
            "mediaType": format!("application/vnd.oci.image.{media_type}"),
            "digest": format!("sha256:{}", self.digest),
            "size": self.bytes.len(),
        })
    }
}

/// The tag and the bytes of the archive.
fn archive(name: &str, binary: &[u8], libraries: &[(&str, Vec<u8>)]) -> Result<(String, Vec<u8>)> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let layer = Blob::new(layer(name, binary, libraries)?);
    let config = Blob::json(&json!({
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {"User": format!("{USER}:{USER}"), "Entrypoint": [format!("/{name}")], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layer.digest)]},
    }));
    let manifest = Blob::json(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.descriptor("config.v1+json"),
        "layers": [layer.descriptor("layer.v1.tar")],
    }));
    let tag = manifest.digest[..TAG_DIGITS].to_owned();
    let mut named = manifest.descriptor("manifest.v1+json");
    named["annotations"] = json!({
        "io.containerd.image.name": format!("{REGISTRY}/{name}:{tag}"),
        "org.opencontainers.image.ref.name": tag,
    });
    named["platform"] = json!({"architecture": architecture, "os": "linux"});
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [named],
    });
    let mut tar = tar::Builder::new(Vec::new());
    file(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    file(&mut tar, "index.json", index.to_string().as_bytes(), 0o644)?;
    directory(&mut tar, "blobs/", 0o755)?;
    directory(&mut tar, "blobs/sha256/", 0o755)?;
    for blob in [&layer, &config, &manifest] {
        file(&mut tar, &format!("blobs/sha256/{}", blob.digest), &blob.bytes, 0o644)?;
    }
    Ok((tag, tar.into_inner()?))
}

/// The image's only layer: the binary, its libraries, and the few files that programs expect.
fn layer(name: &str, binary: &[u8], libraries: &[(&str, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    directory(&mut tar, "tmp/", 0o1777)?;
    directory(&mut tar, "etc/", 0o755)?;
    let passwd = format!("root:x:0:0:root:/:/none\nnonroot:x:{USER}:{USER}:nonroot:/tmp:/none\n");
    file(&mut tar, "etc/passwd", passwd.as_bytes(), 0o644)?;
    file(&mut tar, "etc/group", format!("root:x:0:\nnonroot:x:{USER}:\n").as_bytes(), 0o644)?;
    for (path, content) in libraries {
        file(&mut tar, path.trim_start_matches('/'), content, 0o755)?;
    }
    file(&mut tar, name, binary, 0o755)?;
    Ok(tar.into_inner()?)
}

fn header(size: usize, mode: u32, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size as u64);
    header.set_mode(mode);
    header.set_entry_type(kind);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn file(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8], mode: u32) -> Result<()> {
    let mut header = header(content.len(), mode, tar::EntryType::Regular);
    Ok(tar.append_data(&mut header, path, content)?)
}

fn directory(tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32) -> Result<()> {
    let mut header = header(0, mode, tar::EntryType::Directory);
    Ok(tar.append_data(&mut header, path, &[][..])?)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        fs::File,
        io::Read,
        time::{Duration, UNIX_EPOCH},
    };

    use super::*;

    fn entries(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(bytes);
        let mut found = BTreeMap::new();
        for entry in archive.entries().expect("a tar") {
            let mut entry = entry.expect("an entry");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            found.insert(entry.path().expect("a path").display().to_string(), content);
        }
        found
    }

    #[test]
    fn libraries_are_found_in_what_ldd_says_and_put_where_the_loader_looks() {
        let said =
            "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x2)\n\t/lib64/ld-linux.so.2 (0x3)\n";
        let found: Vec<_> = libraries(said).collect();
        assert_eq!(found, ["/lib/x/libc.so.6", "/lib64/ld-linux.so.2"]);
        let made = entries(&layer("a", b"binary", &[(found[0], b"library".to_vec())]).expect("made"));
        assert_eq!(made["lib/x/libc.so.6"], b"library");
    }

    #[test]
    fn an_archive_is_the_same_each_time_and_follows_the_content() {
        let (tag, bytes) = archive("a", b"binary", &[]).expect("made");
        assert_eq!((tag.clone(), bytes), archive("a", b"binary", &[]).expect("made"));
        assert_ne!(tag, archive("a", b"binarz", &[]).expect("made").0);
    }

    #[test]
    fn every_blob_is_named_by_its_digest_and_reachable_from_the_index() {
        let (_, bytes) = archive("a", b"binary", &[]).expect("made");
        let blobs = entries(&bytes);
        let json = |path: &str| -> Value { serde_json::from_slice(&blobs[path]).expect("JSON") };
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().expect("digest").replace(':', "/");
            let path = format!("blobs/{digest}");
            assert_eq!(digest, format!("sha256/{}", hex(&Sha256::digest(&blobs[&path]))));
            assert_eq!(descriptor["size"], blobs[&path].len());
            path
        };
        let manifest = json(&blob(&json("index.json")["manifests"][0]));
        let config = json(&blob(&manifest["config"]));
        let layer = blob(&manifest["layers"][0]);
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["rootfs"]["diff_ids"][0], layer.replace("blobs/sha256/", "sha256:"));
        let layer = entries(&blobs[&layer]);
        assert_eq!(layer["a"], b"binary");
        assert!(layer.contains_key("tmp") || layer.contains_key("tmp/"));
    }

    #[test]
    fn old_archives_go_and_the_one_in_use_and_other_files_stay() {
        let dir = std::env::temp_dir().join(format!("images-test-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("directory");
        fs::write(dir.join("a-notes.tar"), "mine").expect("file");
        let make = |content: usize| {
            let binary = dir.join("a");
            fs::write(&binary, content.to_string()).expect("file");
            Image::of_binary(&binary, &dir).expect("made").archive
        };
        // Each archive gets an age of its own: files that are written within one tick of the file system's clock may
        // have one time.
        let make_old = |number: usize| {
            let archive = make(number);
            let file = File::options().write(true).open(&archive).expect("the archive");
            file.set_modified(UNIX_EPOCH + Duration::from_secs(1 + number as u64)).expect("its time");
            archive
        };
        let all: Vec<_> = (0..KEPT_ARCHIVES).map(make_old).collect();
        // The oldest archive is used again, so the second is removed.
        make(0);
        make(KEPT_ARCHIVES);
        let there: Vec<_> = all.iter().map(|archive| archive.exists()).collect();
        let others = dir.join("a-notes.tar").exists();
        fs::remove_dir_all(dir).expect("removed");
        assert!(others && there[0] && !there[1], "{there:?}");
    }

    #[test]
    fn a_dynamic_binary_is_refused() {
        let mut elf = vec![0_u8; 5000];
        elf[700..727].copy_from_slice(b"/lib64/ld-linux-x86-64.so.2");
        assert!(needs_loader(&elf));
        assert!(!needs_loader(&[0; 5000]));
    }
}
