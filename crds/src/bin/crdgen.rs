//! Prints the CustomResourceDefinition as YAML, as it stands in the chart.

use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The text is what it is run for, so that it fails where this cannot be written whole.
    std::io::stdout().write_all(crds::crd_yaml()?.as_bytes())?;
    Ok(())
}
