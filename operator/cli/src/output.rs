//! Values as JSON or YAML.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use crate::args::Format;

/// Writes a value.
///
/// # Errors
/// When it cannot be written.
pub fn write(value: &impl Serialize, format: Format, out: &mut dyn Write) -> Result<()> {
    let text = match format {
        Format::Json => serde_json::to_string_pretty(value)? + "\n",
        Format::Yaml => serde_saphyr::to_string(value)?,
    };
    out.write_all(text.as_bytes())?;
    Ok(())
}
