//! `report`: a support bundle, without secrets.
//!
//! Nobody reads a bundle before it is sent, so it is safe by what goes in: of Secrets the names and the names of their keys;
//! everything else through [`Redactor`], which also knows the values of the fleet's Secrets as far as the caller may read them.

mod collect;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use k8s_openapi::jiff::Timestamp;
use operator_core::redact::Redactor;

use crate::FINE;
use crate::args::Report;
use crate::connect::Place;

pub use collect::{LOG_LINES, MOST_PAGES, MOST_PODS, collect};

/// What goes into a bundle.
#[derive(Clone, Default)]
pub struct Bundle {
    /// Paths inside of it with their texts, without secrets.
    files: Vec<(String, String)>,
    /// What is not in it, and why.
    missing: Vec<String>,
    redactor: Redactor,
}

impl Bundle {
    /// An empty one.
    #[must_use]
    pub fn new(redactor: Redactor) -> Self {
        Self { redactor, ..Self::default() }
    }

    /// Adds a text, without what looks like a secret in it.
    pub fn add(&mut self, path: impl Into<String>, text: &str) {
        self.files.push((path.into(), self.redactor.text(text)));
    }

    /// Adds an object as YAML, likewise.
    pub fn add_object(&mut self, path: impl Into<String>, mut object: serde_json::Value) {
        self.redactor.value(&mut object);
        let path = path.into();
        match serde_saphyr::to_string(&object) {
            Ok(text) => self.files.push((path, text)),
            Err(error) => self.miss(&path, &error.to_string()),
        }
    }

    /// Says that something could not be had.
    pub fn miss(&mut self, what: &str, why: &str) {
        let why = self.redactor.text(why);
        self.missing.push(format!("{what}: {why}"));
    }

    /// The paths with their texts.
    #[must_use]
    pub fn files(&self) -> &[(String, String)] {
        &self.files
    }

    /// What is not in it.
    #[must_use]
    pub fn missing(&self) -> &[String] {
        &self.missing
    }
}

/// Runs the command; gives the exit code.
///
/// # Errors
/// When the fleet cannot be read, or the file cannot be written.
pub async fn run(place: &Place, wanted: &Report, now: u64, out: &mut dyn Write) -> Result<u8> {
    let path = wanted.to.clone().unwrap_or_else(|| usual_path(&wanted.name, now));
    let mut bundle = Box::pin(collect(place, wanted, now)).await?;
    let missing = bundle.missing.join("\n");
    bundle.add("MISSING.txt", if missing.is_empty() { "nothing\n" } else { &missing });
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let file = file.with_context(|| {
        format!("cannot make {}: give another place by --to FILE (no file is written over)", path.display())
    })?;
    pack(&bundle, &format!("{}-report", wanted.name), now, file)
        .with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(out, "wrote {}: {} files", path.display(), bundle.files.len())?;
    for line in &bundle.missing {
        writeln!(out, "not in it: {line}")?;
    }
    writeln!(out, "Look through it before you send it: it has no secrets that this program knows of.")?;
    Ok(FINE)
}

fn usual_path(name: &str, now: u64) -> PathBuf {
    let seconds = i64::try_from(now / 1_000).unwrap_or_default();
    let time = Timestamp::from_second(seconds).unwrap_or_default();
    PathBuf::from(format!("{name}-report-{}.tar.gz", time.strftime("%Y%m%dT%H%M%SZ")))
}

/// Writes the bundle as a compressed tar archive; all files are in one directory.
///
/// # Errors
/// When the target does not take it.
pub fn pack(bundle: &Bundle, directory: &str, now: u64, to: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(to, Compression::default()));
    for (path, text) in &bundle.files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now / 1_000);
        archive.append_data(&mut header, format!("{directory}/{path}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.flush()
}
