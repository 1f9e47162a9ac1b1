//! Builds static binaries of this repository, and the images made from them.

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

/// How the product is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As for a release.
    Release,
    /// Optimized less, in a fraction of the time: to try a change on the cluster.
    Quick,
}

impl Profile {
    /// Name of cargo's profile, which is also the name of its directory.
    fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Quick => "quick",
        }
    }

    /// Settings that the workspace does not have.
    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Release => &[],
            Self::Quick => &[
                "profile.quick.inherits='release'",
                "profile.quick.lto=false",
                "profile.quick.codegen-units=16",
                // As fast as the tests need it, in half the build time of the usual level.
                "profile.quick.opt-level=1",
                "profile.quick.debug=false",
                "profile.quick.incremental=true",
            ],
        }
    }
}

/// Builds the product's images. An unchanged source gives unchanged names.
pub(crate) fn product(profile: Profile, progress: &Progress) -> Result<Product> {
    // The build has a directory of its own: its flags are different, and would otherwise throw away the usual build
    // each time.
    let target = target().join("static");
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut build = run::tied("nice");
    build
        .args(["cargo", "build", "--profile", profile.name(), "--target", &triple, "--target-dir"])
        .arg(&target)
        .args([
            "--package",
            "node",
            "--package",
            "operator",
            "--bin",
            "channel-node",
            "--bin",
            "channel-operator",
        ])
        .args(profile.settings().iter().flat_map(|setting| ["--config", setting]))
        // With --target the flag does not affect build scripts and procedural macros. There is no debug data, because
        // the binary is the image.
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols")
        .current_dir(repository());
    let what = format!(
        "building channel-node and channel-operator (Rust, {}; the first time about 8 minutes)",
        profile.name()
    );
    progress
        .long(&what, &mut build, &target.join("build.log"))
        .context("the Rust build failed; it needs a C compiler and cmake (build-essential, cmake)")?;
    let directory = images();
    let binaries = target.join(triple).join(profile.name());
    Ok(Product {
        operator: Image::of_binary(&binaries.join("channel-operator"), &directory)?,
        node: Image::of_binary(&binaries.join("channel-node"), &directory)?,
        nats: Image::of_binary(&Tool::Nats.ready(progress)?, &directory)?,
    })
}
