//! Ends an instance and leaves nothing behind, whatever state a crash left it in.

use std::{fs, io, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::{Instance, cgroup::Layout, components::recorded, mounts, net, procs, run::Progress, start::lock};

impl Instance {
    /// Ends every process of the instance and removes its mounts, namespaces, cgroups and files.
    ///
    /// # Errors
    /// When something cannot be removed; names it.
    pub fn stop(&self, progress: &Progress) -> Result<()> {
        let _lock = lock(self)?;
        self.clear(&Layout::detect()?)?;
        progress.say(&format!("cluster {} is gone", self.name()));
        Ok(())
    }

    /// The same without the lock, which the caller has.
    pub(crate) fn clear(&self, layout: &Layout) -> Result<()> {
        // A kubelet or a containerd that survived would replace what is killed beside it. Recorded numbers may be of
        // an earlier boot, so only a process that also carries our marks is ours.
        let ours = procs::of_instance(self, layout);
        for first in ["kubelet", "containerd"] {
            let recorded = recorded(self);
            let known = recorded.iter().filter(|started| ours.contains(&started.process));
            for started in known.filter(|started| started.name.starts_with(first)) {
                started.process.signal(rustix::process::Signal::KILL)?;
            }
        }
        procs::kill_all(self, layout)?;
        mounts::unmount_below(&self.state())?;
        net::remove(self)?;
        layout.remove(&self.cgroup())?;
        // This ends programs that were about to join the group when their starter was killed.
        procs::kill_all(self, layout)?;
        match fs::remove_dir_all(self.state()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => Err(error).with_context(|| format!("cannot remove {}", self.state().display()))?,
        }
        if let Some(parent) = self.state().parent() {
            // The directory may still have other instances in it.
            fs::remove_dir(parent).ok();
        }
        Ok(())
    }

    /// Everything of the instance that exists on this machine, one name each; empty after [`stop`](Self::stop).
    ///
    /// # Errors
    /// When the machine cannot be looked at.
    pub fn remains(&self) -> Result<Vec<String>> {
        let layout = Layout::detect()?;
        let mut found: Vec<String> = procs::of_instance(self, &layout)
            .iter()
            .map(|process| {
                let line = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
                format!("process {} {}", process.pid, String::from_utf8_lossy(&line).replace('\0', " "))
            })
            .collect();
        let table = mounts::table()?;
        let places = [self.state(), Path::new("/run/netns").join(self.netns())];
        for place in &places {
            found.extend(
                mounts::below(&table, place).iter().map(|point| format!("mount {}", point.display())),
            );
        }
        found.extend(net::remains(self));
        found.extend(layout.existing(&self.cgroup()).iter().map(|dir| format!("cgroup {}", dir.display())));
        if self.state().exists() {
            found.push(format!("directory {}", self.state().display()));
        }
        let routes = crate::run::output(Command::new("ip").args(["route", "show", &self.network()]))?;
        found.extend(routes.lines().map(|route| format!("route {route}")));
        Ok(found)
    }

    /// Bytes of memory that the whole cluster uses (its processes and pods; page cache not counted).
    ///
    /// # Errors
    /// When it does not run.
    pub fn memory_bytes(&self) -> Result<u64> {
        Layout::detect()?.memory_bytes(&self.cgroup())
    }
}
