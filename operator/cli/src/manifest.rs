//! Manifests as they are written.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use crds::ChannelCluster;
use serde_json::Value;

/// Longest manifest that is read, in bytes; the API server takes less.
const MANIFEST_BYTES: u64 = 4 << 20;

/// The ChannelClusters of a file, each with what is written there; `-` is standard input.
///
/// # Errors
/// When it cannot be read, is no YAML, or has no ChannelCluster.
pub fn read(path: &Path) -> Result<Vec<(ChannelCluster, Value)>> {
    let shown = path.display();
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(MANIFEST_BYTES).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("--file: cannot open {shown}"))?;
        file.take(MANIFEST_BYTES).read_to_string(&mut text)
    };
    read.with_context(|| format!("--file: cannot read {shown}"))?;
    let mut found = Vec::new();
    for document in documents(&text) {
        let written: Value = serde_saphyr::from_str(document)
            .map_err(|error| anyhow!("--file: {shown} is no YAML: {error}"))?;
        if written["kind"] != "ChannelCluster" {
            continue;
        }
        let cluster = serde_json::from_value(written.clone())
            .map_err(|error| anyhow!("--file: {shown}: no ChannelCluster: {error}"))?;
        found.push((cluster, written));
    }
    if found.is_empty() {
        bail!("--file: {shown} has no object of kind ChannelCluster");
    }
    Ok(found)
}

/// The documents of a YAML stream: they are separated by lines that begin with `---` (YAML 1.2, 9.1.4).
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let mut starts = vec![0];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        at += line.len();
        if line.trim_end() == "---" {
            starts.push(at);
        }
    }
    let ends: Vec<_> = starts.iter().skip(1).copied().chain([text.len()]).collect();
    let parts = starts.into_iter().zip(ends).map(|(start, end)| &text[start..end]);
    parts.map(|part| part.trim_end().trim_end_matches("---")).filter(|part| {
        part.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    })
}
