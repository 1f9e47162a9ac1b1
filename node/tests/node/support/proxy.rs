//! Real proxies of Debian as child processes: nginx and HAProxy.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::{port::Port, wait::wait};

const NGINX: &str = "/usr/sbin/nginx";
const HAPROXY: &str = "/usr/sbin/haproxy";

/// A proxy that runs until dropped, with a directory of its own.
pub(crate) struct Proxy {
    child: Child,
    directory: PathBuf,
    /// Keeps the port from others.
    _port: Port,
    pub(crate) address: SocketAddr,
}

impl Proxy {
    /// nginx before a server, with the parameters that its documentation has for WebSocket, and with connections to the
    /// server that it keeps for further requests.
    pub(crate) fn nginx(server: SocketAddr) -> Self {
        let configuration = |directory: &str, port: u16| {
            format!(
                r#"daemon off; master_process off; pid {directory}/pid; error_log stderr crit;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream node {{ server {server}; keepalive 1; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://node;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"#
            )
        };
        Self::start(NGINX, &["-c"], configuration)
    }

    /// HAProxy before a server. `options` are of the part `defaults`, and `server_options` of the line of the server.
    pub(crate) fn haproxy(server: SocketAddr, options: &str, server_options: &str) -> Self {
        let configuration = |_: &str, port: u16| {
            format!(
                "global\n  maxconn 512\ndefaults\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n  \
                 timeout tunnel 60s\n{options}\nlisten door\n  bind 127.0.0.1:{port}\n  server node {server} {server_options}\n"
            )
        };
        Self::start(HAPROXY, &["-db", "-f"], configuration)
    }

    fn start(program: &str, arguments: &[&str], configuration: impl FnOnce(&str, u16) -> String) -> Self {
        let port = Port::reserve();
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        let directory = std::env::temp_dir().join(format!("channel-node-proxy-{:x}", rand::random::<u64>()));
        fs::create_dir(&directory).expect("a directory");
        let file = directory.join("configuration");
        fs::write(&file, configuration(directory.to_str().expect("a path"), port.number())).expect("a file");
        let child =
            Command::new(program).args(arguments).arg(&file).stdout(Stdio::null()).spawn().unwrap_or_else(
                |error| panic!("{program}: {error}; install it: apt-get install nginx haproxy"),
            );
        let mut proxy = Proxy { child, directory, _port: port, address };
        wait("the proxy to listen", || {
            let ended = proxy.child.try_wait().expect("a child");
            assert!(ended.is_none(), "{program} ended: {ended:?}");
            TcpStream::connect(proxy.address).is_ok()
        });
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        fs::remove_dir_all(&self.directory).ok();
    }
}
