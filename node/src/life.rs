//! The two long stretches of a node's life: serving, and leaving.

use std::{sync::Arc, time::Duration};

use node_core::{
    admin::{DrainRequest, DrainStage, VERSION},
    config::DrainSettings,
    shard::Mail,
};
use shell::signals::{Asked, Signals};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::{
    api_keys::KeyWatch as ApiKeyWatch,
    app::App,
    config::{POLL, Watch},
    drain::DrainError,
    sysinfo,
    token_keys::KeyWatch,
    transport::TlsWatch,
};

/// How often a leaving node looks whether it is empty, or sends an order again after it found a mailbox full.
const LOOK: Duration = Duration::from_millis(20);

/// The files that a node reads again when they change.
#[derive(Debug)]
pub struct Watches {
    /// The configuration.
    pub config: Option<Watch>,
    /// The keys of tokens.
    pub keys: KeyWatch,
    /// The certificate of the public port.
    pub tls: Option<TlsWatch>,
    /// The keys of the server API.
    pub api: ApiKeyWatch,
}

/// Serves until a signal asks for the end. Meanwhile it picks up changes of files, at once when SIGHUP asks for it. Without a
/// configuration file SIGHUP is the end: a terminal was closed.
pub async fn serve(app: &App, watches: Watches, signals: &mut Signals) {
    let Watches { config: mut watch, mut keys, mut tls, mut api } = watches;
    let mut look = interval(POLL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut untold = false;
    loop {
        keys.fetch();
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Reload if watch.is_some() => tracing::info!("SIGHUP: looking at the configuration"),
                Asked::Reload | Asked::End | Asked::Interrupt => return,
            },
            () = keys.fetched() => (),
            _ = look.tick() => (),
        }
        if let Some(changed) = watch.as_mut().and_then(Watch::changed) {
            if let Ok(new) = &changed {
                keys.want(&new.auth);
            }
            app.reload(changed);
            untold = true;
        }
        if let Some(changed) = keys.changed() {
            app.take_auth(changed);
            untold = true;
        }
        if let Some(changed) = api.changed() {
            app.take_api_keys(changed);
        }
        if let Some(changed) = tls.as_mut().and_then(TlsWatch::changed) {
            app.note_certificate(changed);
        }
        if let Some(changed) = tls.as_mut().and_then(TlsWatch::tickets_changed) {
            app.note_tickets(changed);
        }
        if let Some(not_after) = tls.as_mut().and_then(|tls| tls.ending(sysinfo::unix_millis() / 1_000)) {
            tracing::warn!(not_after, "the certificate of the public port ends soon and is not renewed");
        }
        // A shard whose mailbox was full gets the configuration at the next look.
        untold = untold && !app.tell_config();
    }
}

/// Leaves: unready but accepting for the drain delay (unless the operator has drained the node already), then closing
/// at the pace until empty or until the deadline. SIGINT ends the wait at once. Connections that are left then are
/// closed by the shards' shutdown.
pub async fn leave(app: &Arc<App>, signals: &mut Signals) {
    let mut drain = app.config.load().drain.clone();
    if app.drain.end(app.now_millis(), &app.shards) {
        drain.delay_millis = 0;
    }
    app.tell_ready();
    let (delay, pace) = (drain.delay_millis, drain.connections_per_second);
    tracing::info!(delay_millis = delay, connections_per_second = pace, "leaving");
    tokio::select! {
        () = depart(app, &drain) => (),
        () = interrupt(signals) => tracing::warn!("second interrupt: closing everything at once"),
    }
}

/// Waits for SIGINT. Whatever another signal asks for is under way already, or comes too late.
async fn interrupt(signals: &mut Signals) {
    while signals.next().await != Asked::Interrupt {}
}

async fn depart(app: &App, drain: &DrainSettings) {
    sleep(Duration::from_millis(drain.delay_millis)).await;
    let order = DrainRequest { version: VERSION, stage: DrainStage::Close, connections_per_second: None };
    let close = async {
        while app.drain.request(&order, drain.connections_per_second, app.now_millis(), &app.shards)
            == Err(DrainError::Busy)
        {
            sleep(LOOK).await;
        }
        while app.counters().connections > 0 {
            sleep(LOOK).await;
        }
    };
    if timeout(Duration::from_millis(drain.deadline_millis), close).await.is_err() {
        tracing::warn!(left = app.counters().connections, "drain deadline: closing the rest at once");
    }
}

/// Orders every shard to end, however full its mailbox is.
pub async fn shut_down(app: &App) {
    for shard in &app.shards {
        while shard.send(Mail::Shutdown).is_err() {
            sleep(LOOK).await;
        }
    }
}
