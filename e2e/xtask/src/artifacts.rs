//! Builds the programs of this repository, and the images made from them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cluster::{
    Image, Instance, Parts, Tool,
    run::{self, Progress},
};

/// Images of the product.
pub(crate) struct Product {
    /// The operator.
    pub(crate) operator: Image,
    /// A node of a fleet.
    pub(crate) node: Image,
    /// The managed message bus.
    pub(crate) nats: Image,
}

impl Product {
    pub(crate) fn all(&self) -> [&Image; 3] {
        [&self.operator, &self.node, &self.nats]
    }

    /// The same images under the names that they have in a registry of the user's.
    pub(crate) fn in_registry(self, registry: &str) -> Self {
        let renamed = |image: Image| Image { reference: in_registry(&image.reference, registry), ..image };
        Self { operator: renamed(self.operator), node: renamed(self.node), nats: renamed(self.nats) }
    }
}

/// An image's name in another registry.
pub(crate) fn in_registry(reference: &str, registry: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    format!("{}/{name}", registry.trim_end_matches('/'))
}

/// Root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or_else(|| Path::new(".")).to_owned()
}

/// Directory of all build results.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// The kubeconfig that `up` leaves to the user; only the user may read it.
pub(crate) fn kubeconfig(instance: &Instance) -> PathBuf {
    target().join(format!("kubeconfig-{}", instance.name()))
}

/// Directory of the image archives.
pub(crate) fn images() -> PathBuf {
    target().join("images")
}

/// The parts of a bare cluster.
pub(crate) fn parts(progress: &Progress) -> Result<Parts> {
    cluster::check_go()?;
    let directory = images();
    Ok(Parts {
        kube: Tool::Kube.ready(progress)?,
        pause: Image::of_binary(&Tool::Pause.ready(progress)?, &directory)?,
        coredns: Image::of_binary(&Tool::CoreDns.ready(progress)?, &directory)?,
    })
}

/// Features of the unit tests. All other builds of the development profile have these and `--workspace`, too, and may add
/// one of their own: with other packages chosen cargo would give the dependencies other features and build most of them
/// once more.
pub(crate) const FEATURES: &str = "node/nats-server";

/// How the product is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As it is released: static and optimized, over all crates at once.
    Release,
    /// As the tests are, and by the same builds: for trying a change on the cluster. Assertions of the development profile
    /// hold in it.
    Quick,
}

/// Builds the product's images. An unchanged source gives unchanged names.
pub(crate) fn product(profile: Profile, progress: &Progress) -> Result<Product> {
    let make = match profile {
        Profile::Release => released,
        Profile::Quick => of_the_tests,
    };
    let [operator, node] = make(progress)
        .context("the Rust build failed; it needs a C compiler and cmake (build-essential, cmake)")?;
    Ok(Product { operator, node, nats: Image::of_binary(&Tool::Nats.ready(progress)?, &images())? })
}

/// Builds programs of the workspace as the tests are, and says the directory that they are in.
pub(crate) fn programs(names: &[&str], progress: &Progress) -> Result<PathBuf> {
    let target = target();
    let mut build = run::tied("cargo");
    build.args(["build", "--workspace", "--features", FEATURES]);
    build.args(names.iter().flat_map(|name| ["--bin", name]));
    build.arg("--target-dir").arg(&target).current_dir(repository());
    let (names, log) = (names.join(" and "), target.join(format!("{}-build.log", names.join("-"))));
    progress.long(&format!("building {names} (Rust)"), &mut build, &log)?;
    Ok(target.join("debug"))
}

/// Builds the operator's program as it is released, and says where it is.
pub(crate) fn operator(progress: &Progress) -> Result<PathBuf> {
    Ok(released_programs(progress)?.join("channel-operator"))
}

fn released(progress: &Progress) -> Result<[Image; 2]> {
    let programs = released_programs(progress)?;
    let image = |name| Image::of_binary(&programs.join(name), &images());
    Ok([image("channel-operator")?, image("channel-node")?])
}

/// Builds both programs as they are released, and says the directory that they are in.
fn released_programs(progress: &Progress) -> Result<PathBuf> {
    // A directory of its own: other flags would otherwise throw away the usual build each time.
    let target = target().join("static");
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut build = run::tied("nice");
    build.args(["cargo", "build", "--release", "--target", &triple, "--target-dir"]).arg(&target);
    build.args(["--package", "node", "--package", "operator", "--bin", "channel-node"]);
    // With --target the flag leaves build scripts and procedural macros alone. No debug data: the binary is the image.
    build
        .args(["--bin", "channel-operator"])
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols")
        .current_dir(repository());
    let what = "building channel-node and channel-operator (Rust, release; the first time about 8 minutes)";
    progress.long(what, &mut build, &target.join("build.log"))?;
    Ok(target.join(triple).join("release"))
}

fn of_the_tests(progress: &Progress) -> Result<[Image; 2]> {
    // A test of a package is built with the package's programs.
    let mut build = run::tied("cargo");
    build.args(["test", "--workspace", "--features", FEATURES, "--test", "node", "--test", "operator"]);
    build.arg("--no-run").current_dir(repository());
    let what =
        "building channel-node and channel-operator (Rust, as the tests are; the first time about 5 minutes)";
    let target = target();
    progress.long(what, &mut build, &target.join("quick-build.log"))?;
    std::fs::create_dir_all(images())?;
    let image = |name: &str| {
        // Debug data is ten times the program, and each node of the cluster would load it.
        let stripped = images().join(name);
        run::output(run::tied("strip").arg("-o").arg(&stripped).arg(target.join("debug").join(name)))?;
        Image::of_linked(&stripped, &images())
    };
    Ok([image("channel-operator")?, image("channel-node")?])
}
