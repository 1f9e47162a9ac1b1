//! Limits of open files, sysctls, memory and CPU time of this process, read back from the kernel rather than assumed
//! from what was asked for, and the time of day.

use std::{
    collections::BTreeMap,
    fs, io,
    time::{SystemTime, UNIX_EPOCH},
};

use node_core::admin::Nofile;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Sysctls read back in any case: the namespaced ones that matter to many connections and that the kubelet lets a pod
/// set (Kubernetes `pkg/kubelet/sysctl/safe_sysctls.go`), and the listen backlog.
pub const OBSERVED_SYSCTLS: [&str; 10] = [
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// Longest sysctl value kept, in bytes.
const SYSCTL_BYTES: usize = 256;

/// The time of day in milliseconds since 1970.
#[must_use]
pub fn unix_millis() -> u64 {
    // A clock before 1970 is not set, and no token is valid by it but one without a beginning.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Raises the soft limit of open files to the hard one, or to `asked` when that is lower.
///
/// # Errors
/// When the kernel refuses, which it does not for a value up to the hard limit.
pub fn raise_nofile(asked: Option<u64>) -> io::Result<Nofile> {
    let hard = getrlimit(Resource::Nofile).maximum;
    let target = match (hard, asked) {
        (Some(hard), Some(asked)) => Some(hard.min(asked)),
        (hard, asked) => hard.or(asked),
    };
    setrlimit(Resource::Nofile, Rlimit { current: target, maximum: hard })?;
    Ok(nofile())
}

/// The limits as `/proc/self/limits` shows them; `u64::MAX` is unlimited. Zero when `/proc` is not there.
pub fn nofile() -> Nofile {
    fs::read_to_string("/proc/self/limits").ok().and_then(|text| parse_limits(&text)).unwrap_or_default()
}

fn parse_limits(text: &str) -> Option<Nofile> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut words = line.split_ascii_whitespace().map(|word| word.parse().unwrap_or(u64::MAX));
    Some(Nofile { soft: words.next()?, hard: words.next()? })
}

/// Values of the observed and the asked-for sysctls under `/proc/sys`; one that cannot be read is left out.
pub fn sysctls(asked: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let keys = OBSERVED_SYSCTLS.iter().copied().chain(asked.keys().map(String::as_str));
    keys.filter_map(|key| Some((key.to_owned(), sysctl(key)?))).collect()
}

fn sysctl(key: &str) -> Option<String> {
    // The configuration's check admits only letters, digits, '-', '_' and single dots, so that no name leads out of
    // /proc/sys.
    let mut value = fs::read_to_string(format!("/proc/sys/{}", key.replace('.', "/"))).ok()?;
    value.truncate(value.floor_char_boundary(SYSCTL_BYTES));
    Some(normal(&value))
}

/// A sysctl value with single blanks between its words, as it is compared: the kernel writes tabs.
pub fn normal(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// Asked-for sysctls that `got` does not show, as `key: asked x, got y`.
pub fn mismatches(asked: &BTreeMap<String, String>, got: &BTreeMap<String, String>) -> Vec<String> {
    let wrong = asked.iter().filter(|(key, value)| got.get(*key) != Some(&normal(value)));
    wrong
        .map(|(key, value)| {
            format!("{key}: asked {value}, got {}", got.get(key).map_or("nothing readable", String::as_str))
        })
        .collect()
}

/// Resident memory in bytes; zero when `/proc` is not there.
pub fn rss_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok().and_then(|text| {
        let word = text.split_ascii_whitespace().nth(1)?;
        word.parse::<u64>().ok()
    });
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// CPU seconds of all threads of the process.
pub fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_from_the_kernels_table() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             127000               unlimited            processes \n\
                    Max open files            1024                 unlimited            files     \n";
        assert_eq!(parse_limits(text), Some(Nofile { soft: 1024, hard: u64::MAX }));
        assert_eq!(parse_limits("nothing"), None);
    }

    #[test]
    fn raising_shows_in_proc() {
        let got = raise_nofile(None).unwrap();
        assert_eq!(got.soft, got.hard);
        assert_eq!(got, nofile());
    }

    #[test]
    fn asked_and_got_are_compared_whatever_the_blanks() {
        let got = BTreeMap::from([("a.b".to_owned(), "1 2".to_owned()), ("c.d".to_owned(), "3".to_owned())]);
        let asked = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        assert_eq!(mismatches(&asked("a.b", "1\t2"), &got), Vec::<String>::new());
        assert_eq!(mismatches(&asked("c.d", "4"), &got), ["c.d: asked 4, got 3"]);
        assert_eq!(mismatches(&asked("e.f", "4"), &got), ["e.f: asked 4, got nothing readable"]);
    }

    #[test]
    fn this_process_is_measured() {
        assert!(rss_bytes() > 100_000);
        assert!(cpu_seconds() > 0.0);
        assert!(sysctls(&BTreeMap::new()).contains_key("net.core.somaxconn"));
    }
}
