//! Sends, once a second, this node's figures to the other nodes, and the fleet's sums to the members of `$cluster`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use node_core::{counters::Counters, shard::Mail};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::{
    app::App,
    bus::fleet::{Figures, Fleet, Rate},
    near::{Watch, consequence},
};

/// Version of [`Figures`].
const VERSION: u32 = 1;
/// The rhythm.
const SECOND: Duration = Duration::from_secs(1);

/// Beats until the task is dropped. `bus` is where the figures for other nodes go.
pub async fn beat(app: Arc<App>, fleet: Arc<Mutex<Fleet>>, bus: Option<mpsc::Sender<Figures>>) {
    let mut tick = interval(SECOND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    let mut watch = Watch::default();
    let mut rate = Rate::new(Instant::now(), app.counters().writes);
    loop {
        tick.tick().await;
        app.tell_ready();
        let counters = app.counters();
        app.note(&counters);
        let now = Instant::now();
        tell_what_is_near(&app, &counters, &mut watch, now);
        let own = figures(&app, &counters, &mut rate, now);
        if let Some(bus) = &bus {
            // A full queue means that the bus is stuck; the next second brings new figures.
            bus.try_send(own.clone()).ok();
        }
        let sum = {
            let mut fleet = fleet.lock().unwrap_or_else(PoisonError::into_inner);
            fleet.observe(own, now);
            fleet.sum(now)
        };
        if app.config.load().chat_page
            && let Ok(json) = serde_json::to_string(&sum)
        {
            let json = Arc::from(json);
            app.tell_shards(|| Mail::ClusterStats(Arc::clone(&json)));
        }
    }
}

/// Writes a line for each limit that is nearly reached and was not told of lately.
fn tell_what_is_near(app: &App, counters: &Counters, watch: &mut Watch, now: Instant) {
    let limits = &app.config.load().limits;
    let memory = app.take_memory_permille();
    for (limit, times) in watch.look(&app.near, counters, limits, memory, now) {
        tracing::warn!(
            limit = limit.key(),
            times,
            beyond = consequence(limit),
            "80 % of a limit were reached; raise it if clients need more"
        );
    }
}

fn figures(app: &App, sum: &Counters, rate: &mut Rate, now: Instant) -> Figures {
    Figures {
        version: VERSION,
        boot_id: format!("{:032x}", app.boot_id),
        node: app.node_name.clone(),
        phase: app.phase(),
        connections: sum.connections,
        rooms: sum.rooms,
        writes_per_second: rate.per_second(now, sum.writes),
        utilization: app.utilization(),
        api: node_core::api::call::VERSION,
        sent_millis: app.bus.as_ref().map(|bus| bus.clock_millis()),
    }
}
