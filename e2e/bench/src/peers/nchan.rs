//! nchan: pub/sub as a module of nginx, both from Debian.

use std::{fs, process::Command};

use anyhow::{Context, Result};
use cluster::{
    packages,
    run::{self, Progress},
};

use super::{NCHAN_TLS, Peer, Start, tls::Files};

/// Where Debian puts nginx.
const NGINX: &str = "/usr/sbin/nginx";
/// Where Debian puts the module.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

pub(super) struct Nchan {
    pub(super) tls: bool,
}

impl Peer for Nchan {
    fn name(&self) -> &'static str {
        if self.tls { NCHAN_TLS } else { "nchan" }
    }

    fn dialect(&self) -> &'static str {
        "nchan"
    }

    fn version(&self) -> Result<String> {
        run::output(Command::new("dpkg-query").args([
            "--show",
            "--showformat=${Version}",
            "libnginx-mod-nchan",
        ]))
    }

    fn settings(&self) -> &'static str {
        if self.tls {
            "as nchan, with `listen ... ssl` and `ssl_protocols TLSv1.3`, tickets on as by default"
        } else {
            "nginx of Debian, `nchan_pubsub websocket`, only new messages, no message buffer, pings off"
        }
    }

    fn workers(&self) -> &'static [u8] {
        &[1, 2]
    }

    fn install(&self, progress: &Progress) -> Result<()> {
        if std::path::Path::new(MODULE).exists() && std::path::Path::new(NGINX).exists() {
            return Ok(());
        }
        // apt starts a service right after the installation; here the server is started by the runner, on loopback.
        packages::ensure(&[&[("nginx", &[NGINX]), ("libnginx-mod-nchan", &[MODULE])]], progress)
    }

    fn command(&self, start: &Start<'_>) -> Result<Command> {
        let file = start.directory.join("nginx.conf");
        let certificate = if self.tls { Some(certificate(&Files::of(start.directory))?) } else { None };
        fs::write(&file, configuration(start, certificate.as_deref()))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = Command::new(NGINX);
        command.arg("-p").arg(start.directory).arg("-c").arg(file);
        Ok(command)
    }

    fn is_tls(&self) -> bool {
        self.tls
    }

    fn signal_on_our_death(&self) -> &'static str {
        "TERM"
    }
}

/// Writes the files of the certificate. Returns the lines that name them.
fn certificate(files: &Files) -> Result<String> {
    files.write()?;
    Ok(format!(
        "
    ssl_certificate {};
    ssl_certificate_key {};
    ssl_protocols TLSv1.3;",
        files.certificate().display(),
        files.key().display()
    ))
}

fn configuration(start: &Start<'_>, certificate: Option<&str>) -> String {
    let flag = if certificate.is_some() { " ssl" } else { "" };
    let certificate = certificate.unwrap_or_default();
    let (port, workers) = (start.port, start.workers);
    let connections = u64::from(start.connections) + 1000;
    format!(
        r"load_module {MODULE};
user root;
daemon off;
worker_processes {workers};
worker_rlimit_nofile {connections};
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections {connections}; multi_accept on; }}
http {{
  access_log off;
  tcp_nodelay on;
  keepalive_timeout 0;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  nchan_shared_memory_size 256M;
  server {{
    listen 127.0.0.1:{port}{flag} backlog=4096;{certificate}
    location = /pubsub {{
      nchan_pubsub websocket;
      nchan_channel_id $arg_room;
      nchan_subscriber_first_message newest;
      nchan_message_buffer_length 0;
      nchan_message_timeout 5s;
      nchan_websocket_ping_interval 0;
    }}
  }}
}}
"
    )
}
