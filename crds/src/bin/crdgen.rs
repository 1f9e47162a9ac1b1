//! Prints the CustomResourceDefinition as YAML, as it stands in the chart.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", crds::crd_yaml()?);
    Ok(())
}
