//! The instance itself: a client that connects to an address that nobody has is told so, and does not wait for minutes.

use anyhow::{Context, Result};
use cluster::Instance;
use e2e::fleet::Turn;

/// What `timeout` ends with when the command did not end by itself.
const TIMED_OUT: i32 = 124;

#[test]
fn an_address_that_nobody_has_is_refused() {
    let _turn = Turn::beside();
    let instance = Instance::attach("test").unwrap();
    // No Service gets the last address of its network, which would be the broadcast address of a link.
    let address = last_address(&instance.service_network()).unwrap();
    let connect = format!("echo > /dev/tcp/{address}/80");
    let status = instance
        .client_command("timeout")
        .args(["60", "bash", "-c", &connect])
        .status()
        .expect("timeout is part of coreutils");
    assert!(!status.success(), "something listens at {address}");
    assert_ne!(status.code(), Some(TIMED_OUT), "nobody answered for {address}");
}

fn last_address(network: &str) -> Result<String> {
    let (prefix, _) = network.rsplit_once('.').with_context(|| format!("{network} is no network"))?;
    Ok(format!("{prefix}.255"))
}
