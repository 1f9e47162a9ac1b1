//! The source of a fleet's load when it is a Prometheus: a task for each such ChannelCluster, which asks it again and
//! again beside the loop of the fleet, so that a slow Prometheus delays neither a look at the nodes nor a drain.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use operator_core::source::{Figures, PrometheusSource};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::clock;
use crate::shared::Shared;

mod prometheus;

pub use prometheus::Prometheus;

/// What a Prometheus says of one ChannelCluster.
#[derive(Default)]
pub struct Source {
    asking: Option<Asking>,
}

/// The task that asks, and what it had last.
struct Asking {
    source: PrometheusSource,
    figures: Arc<Mutex<Arc<Figures>>>,
    _task: AbortOnDropHandle<()>,
}

impl Source {
    /// From now on this Prometheus is asked, or none. One that is asked already goes on.
    pub fn want(&mut self, shared: &Arc<Shared>, namespace: &str, source: Option<&PrometheusSource>) {
        if self.asking.as_ref().map(|asking| &asking.source) == source {
            return;
        }
        self.asking = source.map(|source| {
            let figures = Arc::new(Mutex::new(Arc::new(Figures::none(source))));
            let task = ask(shared.clone(), namespace.to_owned(), source.clone(), figures.clone());
            let task = AbortOnDropHandle::new(tokio::spawn(task));
            Asking { source: source.clone(), figures, _task: task }
        });
    }

    /// What is known; none when the nodes are the source.
    #[must_use]
    pub fn figures(&self) -> Option<Arc<Figures>> {
        let asking = self.asking.as_ref()?;
        Some(asking.figures.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Asks for ever.
async fn ask(
    shared: Arc<Shared>,
    namespace: String,
    source: PrometheusSource,
    figures: Arc<Mutex<Arc<Figures>>>,
) {
    let mut prometheus = Prometheus::new(source.clone());
    loop {
        shared.metrics.queries.inc();
        let had = prometheus.ask(&shared.client, &namespace).await;
        let before = figures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = match had {
            Ok(answers) => source.figures(&answers, clock::now()),
            Err(why) => {
                shared.metrics.query_failures.inc();
                if before.failure() != Some(&why) {
                    warn!(namespace, host = source.host(), why, "Prometheus gives no figures");
                }
                before.after_failure(why)
            }
        };
        *figures.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(now);
        let pause = Duration::from_millis(source.pause_millis());
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.9..1.1))).await;
    }
}
