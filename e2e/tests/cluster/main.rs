//! The tests that need the running `test` cluster, in one program: two run at a time, and the code that they share is
//! built once.
//!
//! A test in `beside` touches its own fleet only, so that tests side by side do not notice each other. A test in `alone`
//! breaks or loads things that all fleets share: the API server, the operators, the client namespace. It waits until
//! the tests before it are over, and no other begins before its end: see [`e2e::fleet::Turn`].
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

#[path = "../repository/pages.rs"]
mod pages;

mod alone {
    mod api_server_away;
    mod chart_upgrade;
    mod machine_goes;
    mod operator_killed;
    mod operator_killed_at_each_step;
    mod readme_commands;
    mod rollout_handed_over;
    mod tsung_phoenix;
    mod two_installations;
}

mod beside {
    mod bad_manifests;
    mod chat_two_nodes;
    mod delete;
    mod derived_capacity;
    mod drain_scale_in;
    mod hindrances;
    mod hooks;
    mod install_ready;
    mod metric_loss;
    mod nats_deleted;
    mod nats_frozen;
    mod node_killed;
    mod orphans;
    mod polite_goodbye;
    mod prometheus_source;
    mod rebalance_scale_out;
    mod rollout;
    mod rollout_held;
    mod scale_out;
    mod secret_deleted;
    mod server_api;
    mod sysctl_forbidden;
    mod tls_clients;
    mod unknown_address;
}
