//! Prints the CustomResourceDefinition as YAML.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", serde_saphyr::to_string(&crds::crd()?)?);
    Ok(())
}
