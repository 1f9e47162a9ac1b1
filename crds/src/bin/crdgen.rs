//! Prints the CustomResourceDefinition as YAML, as it stands in the chart.

use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Whoever runs this wants the text, so the program fails where the text cannot be written whole.
    std::io::stdout().write_all(crds::crd_yaml()?.as_bytes())?;
    Ok(())
}
