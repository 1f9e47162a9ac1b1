//! Kernel parameters of a node: which ones are asked for, which ones the kubelet allows, and whether they were got.
//!
//! Kubernetes splits sysctls in safe ones, which every kubelet allows, and unsafe ones, which a kubelet refuses unless
//! its `allowedUnsafeSysctls` lists them: the pod then fails with `SysctlForbidden` and is created again without end.
//! So nothing beyond the safe list of the server's version is ever asked for under the `Safe` profile.

use std::collections::BTreeMap;

/// Sysctls that a kubelet allows, with the minor version of Kubernetes 1.x that first did.
///
/// Source: `pkg/kubelet/sysctl/safe_sysctls.go` of Kubernetes and its page "Using sysctls in a Kubernetes cluster".
const SAFE_SINCE: [(&str, u32); 14] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.ip_unprivileged_port_start", 22),
    ("net.ipv4.ping_group_range", 18),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_notsent_lowat", 37),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_slow_start_after_idle", 37),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.tcp_wmem", 32),
];

/// What the `Safe` profile asks for, chosen for a server that holds many mostly idle WebSockets.
const SAFE_PROFILE: [(&str, &str); 9] = [
    // 55,000 ports for connections that start here, above the node's own 4000 and 9400 (kernel: 32768 to 60999).
    ("net.ipv4.ip_local_port_range", "10240 65535"),
    // A closed socket waits 15 s, not 60, for a client that never answers its FIN: a drain closes thousands at once.
    ("net.ipv4.tcp_fin_timeout", "15"),
    // For the node's client sockets, which have SO_KEEPALIVE. A peer that is gone while nothing is on its way to it
    // is noticed after 60 + 6 x 10 s, not after two hours. With the default `limits.idleTimeout` of 60 s the node
    // closes such a connection itself by then; with a longer one the keepalive ends it. Also, a silent connection has
    // a packet each 60 s, which is below the idle timeouts of NAT gateways and cloud load balancers (the shortest
    // common one is 240 s).
    ("net.ipv4.tcp_keepalive_intvl", "10"),
    ("net.ipv4.tcp_keepalive_probes", "6"),
    ("net.ipv4.tcp_keepalive_time", "60"),
    // The sender is woken once fewer than 128 KiB are unsent in the kernel, so that the node's own bound decides.
    ("net.ipv4.tcp_notsent_lowat", "131072"),
    // min, initial, most bytes of a socket's receive buffer: a client sends at most one 64 KiB frame at a time, and
    // 100,000 sockets must not be able to claim 6 MiB each (the kernel's default).
    ("net.ipv4.tcp_rmem", "4096 65536 1048576"),
    // A room that was silent for a second must not go through TCP's slow start again.
    ("net.ipv4.tcp_slow_start_after_idle", "0"),
    // As above for sending; the most is twice the default send queue of the node (kernel: 4 MiB).
    ("net.ipv4.tcp_wmem", "4096 16384 1048576"),
];

/// Prefixes of the sysctls that exist per pod; all others are the machine's.
const NAMESPACED: [&str; 5] = ["net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];

/// How a kubelet of Kubernetes 1.`minor` treats a sysctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Allowed everywhere.
    Safe,
    /// Allowed everywhere from that minor version on, unsafe before.
    SafeSince(u32),
    /// Allowed where the kubelet's `allowedUnsafeSysctls` lists it.
    Unsafe,
    /// No parameter of a pod: it is the machine's.
    NotNamespaced,
}

/// How a kubelet of Kubernetes 1.`minor` treats the sysctl `name`.
#[must_use]
pub fn standing(name: &str, minor: u32) -> Standing {
    match SAFE_SINCE.iter().find(|(safe, _)| *safe == name) {
        Some((_, since)) if *since <= minor => Standing::Safe,
        Some((_, since)) => Standing::SafeSince(*since),
        None if is_namespaced(name) => Standing::Unsafe,
        None => Standing::NotNamespaced,
    }
}

/// Whether `name` is that of a sysctl which exists per pod.
pub(crate) fn is_namespaced(name: &str) -> bool {
    NAMESPACED.iter().any(|prefix| name.starts_with(prefix))
}

/// The sysctls of the `Safe` profile that Kubernetes 1.`minor` allows.
#[must_use]
pub fn safe_profile(minor: u32) -> BTreeMap<String, String> {
    SAFE_PROFILE
        .iter()
        .filter(|(name, _)| standing(name, minor) == Standing::Safe)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// What differs between the sysctls that were asked for and those a node reads from `/proc/sys`, as
/// `asked X, got Y` by name. A sysctl that the node could not read is reported as `got nothing`.
#[must_use]
pub fn differences(
    asked: &BTreeMap<String, String>,
    got: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    asked
        .iter()
        .filter_map(|(name, want)| {
            let have = got.get(name);
            if have.is_some_and(|have| have.split_whitespace().eq(want.split_whitespace())) {
                return None;
            }
            let have = have.map_or("nothing", |have| have.trim());
            Some((name.clone(), format!("asked {want}, got {have}")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_grows_with_the_server() {
        assert_eq!(safe_profile(28).into_keys().collect::<Vec<_>>(), ["net.ipv4.ip_local_port_range"]);
        assert!(safe_profile(34).contains_key("net.ipv4.tcp_rmem"));
        assert!(!safe_profile(36).contains_key("net.ipv4.tcp_notsent_lowat"));
        assert_eq!(safe_profile(37).len(), SAFE_PROFILE.len());
    }

    /// The rule of the CRD has a list of its own of sysctls that are never safe.
    #[test]
    fn the_rule_of_the_crd_has_the_same_list() {
        let crd = serde_json::to_value(crds::crd().unwrap()).unwrap();
        let tuning = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/tuning/x-kubernetes-validations";
        let rules = crd.pointer(tuning).unwrap().as_array().unwrap();
        let rule =
            rules.iter().find_map(|rule| rule["rule"].as_str().filter(|text| text.contains("Safe"))).unwrap();
        let listed: Vec<_> =
            rule.split('\'').filter(|part| part.contains('.')).filter(|part| !part.contains(' ')).collect();
        assert_eq!(listed, SAFE_SINCE.map(|(name, _)| name));
    }

    #[test]
    fn each_sysctl_has_a_standing() {
        assert_eq!(standing("net.ipv4.tcp_syncookies", 1), Standing::Safe);
        assert_eq!(standing("net.ipv4.tcp_rmem", 31), Standing::SafeSince(32));
        assert_eq!(standing("net.core.somaxconn", 34), Standing::Unsafe);
        assert_eq!(standing("vm.swappiness", 34), Standing::NotNamespaced);
    }

    #[test]
    fn blanks_do_not_make_a_difference_but_values_do() {
        let map =
            |value: &str| BTreeMap::from([("net.ipv4.ip_local_port_range".to_owned(), value.to_owned())]);
        assert!(differences(&map("1024 65535"), &map("1024\t65535\n")).is_empty());
        let found = differences(&map("1024 65535"), &map("32768\t60999"));
        assert_eq!(found["net.ipv4.ip_local_port_range"], "asked 1024 65535, got 32768\t60999");
        let found = differences(&map("1024 65535"), &BTreeMap::new());
        assert_eq!(found["net.ipv4.ip_local_port_range"], "asked 1024 65535, got nothing");
    }
}
