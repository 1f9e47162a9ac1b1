//! The URL of an issuer's keys.

use std::net::Ipv6Addr;

use keys::MAX_URL_BYTES;

/// Endings of the names of Services in a cluster. Only the cluster's own name server knows these.
const SERVICE_ENDINGS: [&str; 2] = [".svc", ".svc.cluster.local"];
/// Hosts of the machine, or the pod, itself.
const OWN_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Where keys are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether the connection is encrypted and the server's certificate verified.
    pub https: bool,
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// Port of the server.
    pub port: u16,
    /// Host and port as they stand in the URL, for the header of that name.
    pub authority: String,
    /// Path and query, with `/` in front.
    pub target: String,
}

impl Endpoint {
    /// Reads a URL: `https://HOST[:PORT][/PATH]`. What comes without encryption could have been replaced on its way, and
    /// with it the keys by which everybody gets in, so `http://` is only for what stays in the pod or in the cluster:
    /// `localhost`, `127.0.0.1`, `[::1]`, and Services, `NAME.NAMESPACE.svc` or `NAME.NAMESPACE.svc.cluster.local`.
    ///
    /// # Errors
    /// What is wrong with it, to be put after the name of the key.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        if url.len() > MAX_URL_BYTES {
            return Err("is too long; use at most 512 bytes");
        }
        let (https, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err("is not a URL of the kind; write https://HOST/PATH"),
        };
        let split = rest.find('/').unwrap_or(rest.len());
        let (authority, target) = rest.split_at(split);
        let (host, port) = host_and_port(authority).ok_or(
            "has no host, or more before its path than a host and a port; write https://HOST[:PORT]/PATH",
        )?;
        if !target.bytes().all(is_of_target) {
            return Err(
                "has a character that no path has, or a fragment; write it in percent encoding, or leave it out",
            );
        }
        if !https && !may_be_plain(host) {
            return Err(
                "is not encrypted, and does not stay in the cluster; write https://, or http:// with a Service as \
                 NAME.NAMESPACE.svc or with localhost",
            );
        }
        Ok(Self {
            https,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port.unwrap_or(if https { 443 } else { 80 }),
            authority: authority.to_owned(),
            target: if target.is_empty() { "/".to_owned() } else { target.to_owned() },
        })
    }
}

fn is_of_target(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&()*+,;=:@/?%".contains(&byte)
}

fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at(end);
    let is_good = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        // The form that ends with an IPv4 address has no use in a URL.
        Some(address) => !address.contains('.') && address.parse::<Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    let port = match port.strip_prefix(':') {
        Some(digits) => {
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
            Some(digits.parse().ok().filter(|_| is_number)?)
        }
        None if port.is_empty() => None,
        None => return None,
    };
    is_good.then_some((host, port))
}

/// Whether this is a name, or an IPv4 address, which reads as one.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(is_letter)
    };
    host.split('.').all(is_label)
}

fn may_be_plain(host: &str) -> bool {
    let is_service =
        |ending: &&str| host.strip_suffix(*ending).is_some_and(|rest| rest.split('.').count() == 2);
    OWN_HOSTS.contains(&host) || SERVICE_ENDINGS.iter().any(is_service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (url, https, host, port, authority, target) in [
            ("https://id.example.org", true, "id.example.org", 443, "id.example.org", "/"),
            (
                "https://ID.example/.well-known/jwks.json?a=b%20c",
                true,
                "ID.example",
                443,
                "ID.example",
                "/.well-known/jwks.json?a=b%20c",
            ),
            ("https://10.0.0.1:8443/k", true, "10.0.0.1", 8443, "10.0.0.1:8443", "/k"),
            ("https://[fd00::1]:8443/k", true, "fd00::1", 8443, "[fd00::1]:8443", "/k"),
            ("http://keys.auth.svc/k", false, "keys.auth.svc", 80, "keys.auth.svc", "/k"),
            (
                "http://keys.auth.svc.cluster.local:81/",
                false,
                "keys.auth.svc.cluster.local",
                81,
                "keys.auth.svc.cluster.local:81",
                "/",
            ),
            ("http://[::1]:9/k", false, "::1", 9, "[::1]:9", "/k"),
        ] {
            let (host, authority, target) = (host.to_owned(), authority.to_owned(), target.to_owned());
            assert_eq!(Endpoint::parse(url), Ok(Endpoint { https, host, port, authority, target }), "{url}");
        }
    }

    #[test]
    fn what_is_no_url_or_leaves_the_cluster_in_the_clear_is_refused() {
        for url in [
            "",
            "id.example.org/k",
            "HTTPS://id.example.org/k",
            "ftp://id.example.org/k",
            "file:///etc/passwd",
            "https://",
            "https:///k",
            "https://a b/k",
            "https://user:password@id.example.org/k",
            "https://id.example.org:0/k",
            "https://id.example.org:65536/k",
            "https://id.example.org:/k",
            "https://id.example.org:+1/k",
            "https://id..example.org/k",
            "https://-a.example/k",
            "https://id_x.example/k",
            "https://[::1/k",
            "https://[id]/k",
            "https://[::1]x/k",
            "https://id.example.org/k#fragment",
            "https://id.example.org/\r\nhost: other",
            "https://id.example.org/k k",
            "https://id.example.org?k",
            "https://id.example.org\\k",
            "https://id.example.org/\u{fc}",
            "http://id.example.org/k",
            "http://169.254.169.254/latest/meta-data",
            "http://keys.svc/k",
            "http://a.keys.auth.svc/k",
            "http://keys.auth.svc.example.org/k",
            "http://keys.auth.svc.cluster.local.example.org/k",
            "http://127.0.0.2/k",
            "http://localhost.example.org/k",
        ] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
        let long = format!("https://id.example.org/{}", "k".repeat(490));
        assert!(Endpoint::parse(&long).is_err() && Endpoint::parse(&long[..512]).is_ok());
    }
}
