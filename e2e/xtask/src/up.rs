//! `up`: from a bare machine to a live chat page.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result};
use cluster::{Instance, Tool, packages, run::Progress, user};

use crate::{
    artifacts::{self, Product, Profile},
    cli::Up,
    context,
    install::{self, Place},
    root,
};

/// Runs the command.
pub(crate) fn up(wanted: &Up) -> Result<ExitCode> {
    let progress = Progress::new();
    if let Some(context) = &wanted.context {
        return onto_context(context, wanted, &progress).map(|()| ExitCode::SUCCESS);
    }
    let _sudo = root::ask_early()?;
    packages::ensure(&[packages::BUILD, packages::RUN], &progress)?;
    // These are built as the user, because build results must not belong to root.
    let parts = artifacts::parts(&progress)?;
    let product = if wanted.bare { None } else { Some(artifacts::product(profile(wanted), &progress)?) };
    cluster::helm(&progress)?;
    if let Some(code) = root::as_root()? {
        return Ok(code);
    }
    wanted.on.instance.start(&parts, &progress)?;
    write_kubeconfig(&wanted.on.instance)?;
    let result = match &product {
        None => Ok(()),
        Some(product) => onto_instance(wanted, product, &progress),
    };
    if result.is_err() {
        let directory = logs(&wanted.on.instance);
        // The first failure is the one to report.
        match wanted.on.instance.collect_logs(&directory) {
            Ok(()) => say::err!("all logs are in {}", directory.display()),
            Err(error) => say::err!("the logs could not be collected: {error:#}"),
        }
    }
    result?;
    summary(wanted, &progress)?;
    Ok(ExitCode::SUCCESS)
}

fn profile(wanted: &Up) -> Profile {
    if wanted.quick { Profile::Quick } else { Profile::Release }
}

/// Where the logs of an instance go when something fails.
pub(crate) fn logs(instance: &Instance) -> std::path::PathBuf {
    artifacts::target().join("e2e/logs").join(instance.name())
}

fn onto_instance(wanted: &Up, product: &Product, progress: &Progress) -> Result<()> {
    let instance = &wanted.on.instance;
    for image in product.all() {
        instance.import(image)?;
    }
    let place = Place::Local(instance);
    install::chart_onto(&place, product, progress)?;
    if wanted.no_sample {
        return Ok(());
    }
    install::sample_onto(&place, progress)?;
    let address = instance.service_address("default", "chat")?;
    instance.relay(wanted.port, &format!("{address}:80"))?;
    progress.say(&format!("the chat page is carried to 127.0.0.1:{}", wanted.port));
    Ok(())
}

/// Installs into the user's own cluster: it starts nothing, replaces nothing of the user's, and the user has to bring
/// the images there.
fn onto_context(context: &str, wanted: &Up, progress: &Progress) -> Result<()> {
    packages::ensure(&[packages::BUILD], progress)?;
    cluster::check_go()?;
    Tool::Kube.ready(progress)?;
    let place = Place::Context(context.to_owned());
    context::check(&place, context, !wanted.no_sample, progress)?;
    let product = artifacts::product(profile(wanted), progress)?;
    say::out!("\nThe images must be where the nodes of {context} find them:");
    for image in product.all() {
        say::out!("{}", bring(image, context, wanted.registry.as_deref()));
    }
    let product = match &wanted.registry {
        Some(registry) => product.in_registry(registry),
        None => product,
    };
    say::out!("");
    install::chart_onto(&place, &product, progress)
        .context("are the images there? see the commands above")?;
    if !wanted.no_sample {
        install::sample_onto(&place, progress)?;
    }
    say::out!("\n{}", place.kubectl(["get", "channelclusters,pods"])?);
    say::out!(
        "chat page:  {} port-forward service/chat 8080:80, then http://127.0.0.1:8080/",
        place.kubectl_words()
    );
    Ok(())
}

/// Commands by which a user brings one image to a cluster's nodes.
fn bring(image: &cluster::Image, context: &str, registry: Option<&str>) -> String {
    let archive = image.archive.display();
    if let Some(registry) = registry {
        let name = artifacts::in_registry(&image.reference, registry);
        return format!("  skopeo copy oci-archive:{archive} docker://{name}");
    }
    match context.strip_prefix("kind-") {
        Some(name) => format!("  kind load image-archive --name {name} {archive}"),
        None => {
            format!("  ctr -n k8s.io images import {archive}    (on every node; or use --registry HOST/PATH)")
        }
    }
}

/// A kubeconfig that only the user may read: whoever has it can be root on this machine, through a privileged pod.
/// The API server can be reached from the host as well.
fn write_kubeconfig(instance: &Instance) -> Result<()> {
    let path = artifacts::kubeconfig(instance);
    let text = fs::read(instance.kubeconfig()).context("the instance has no kubeconfig")?;
    write_private(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    user::give(&path)
}

/// Writes a file that only its owner may read, in place of one that others may.
fn write_private(path: &Path, text: &[u8]) -> std::io::Result<()> {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text)
}

fn summary(wanted: &Up, progress: &Progress) -> Result<()> {
    let instance = &wanted.on.instance;
    let place = Place::Local(instance);
    let words = place.kubectl_words();
    let what = if wanted.bare { "nodes" } else { "channelclusters,pods" };
    say::out!("\n{}", place.kubectl(["get", what, "-o", "wide"])?);
    let name = instance.name();
    let flag = if name == "demo" { String::new() } else { format!(" --instance {name}") };
    if !wanted.no_sample && !wanted.bare {
        say::out!("chat page   http://127.0.0.1:{}/   (open it in two windows)", wanted.port);
        say::out!("load        cargo xtask load{flag} --connections 1000 --rooms 10 --rate 60 --duration 60");
    }
    let kubeconfig = artifacts::kubeconfig(instance);
    say::out!("kubectl     {words} get channelclusters   (or KUBECONFIG={})", kubeconfig.display());
    say::out!(
        "channels    cargo xtask cli, then kubectl channels status --kubeconfig {}",
        kubeconfig.display()
    );
    say::out!("stop        cargo xtask down{flag}");
    let mebibytes = instance.memory_bytes()? / (1 << 20);
    progress.say(&format!("up; the whole cluster uses {mebibytes} MiB of memory"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_file_is_private_also_in_place_of_an_open_one() {
        let path = std::env::temp_dir().join(format!("private-{}", std::process::id()));
        fs::write(&path, "old").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
        write_private(&path, b"new").expect("written");
        let mode = fs::metadata(&path).expect("there").permissions().mode() & 0o777;
        let text = fs::read_to_string(&path).expect("read");
        fs::remove_file(path).expect("removed");
        assert_eq!((mode, text.as_str()), (0o600, "new"));
    }
}
