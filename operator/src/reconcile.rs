//! Keeps the objects of one ChannelCluster as its spec says: fetch -> validate -> build -> apply -> tell its loop,
//! which writes the status.

use std::sync::Arc;
use std::time::Duration;

use crds::ChannelCluster;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use operator_core::autoscale::Settings;
use operator_core::hindrance::Reason;
use operator_core::sysctl_probes::Proof;
use operator_core::validate::{Problem, ValidatedCluster, validate};
use operator_core::view::Outcome;
use tracing::warn;

use crate::apply::{Applied, Trial, apply, fingerprint};
use crate::context::Context;
use crate::fetch::fetch;
use crate::metrics::{ClusterLabels, ResultLabels};
use crate::ours::ApplyError;
use crate::pending::{Cause, Guarded};
use crate::shared::Reconciled;
use crate::unreadable::unreadable;
use crate::watches;

/// Pause after which everything is looked at although nothing has changed.
const RESYNC: Duration = Duration::from_secs(300);
/// Pause between looks at a Secret that a spec names and that is not there, or not as it has to be: cert-manager makes one
/// within seconds.
const SECRETS: Duration = Duration::from_secs(10);
/// Pause between looks whether nodes still use objects that a spec no longer asks for: the status of the nodes'
/// Deployment triggers nothing.
const LEFTOVERS: Duration = Duration::from_secs(10);
/// Pause before refused objects are tried again without a change of the spec: somebody may raise a quota or mend a
/// webhook.
const REFUSED: Duration = Duration::from_secs(60);
/// Pause between looks whether pods have tried the unsafe sysctls of a spec; the status that says so triggers one too.
const PROBING: Duration = Duration::from_secs(5);
/// Pause between looks whether another installation has left a namespace, or a lost one is seen again.
const FOREIGN: Duration = Duration::from_secs(5);
/// How long to wait for the first list of the Deployments before looking again.
const LISTING: Duration = Duration::from_secs(1);
/// First and longest pause after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Why a reconcile is to be tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading failed.
    #[error("cannot read what belongs to the ChannelCluster: {0}")]
    Fetch(#[source] kube::Error),
    /// Writing failed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl Error {
    fn result(&self) -> &'static str {
        match self {
            Self::Apply(ApplyError::NotOurs { .. }) => "conflict",
            Self::Apply(ApplyError::Fenced(_)) => "fenced",
            Self::Apply(ApplyError::Refused(_) | ApplyError::Partly(_)) => "refused",
            Self::Fetch(_) | Self::Apply(ApplyError::Api { .. }) => "error",
        }
    }
}

fn labels(object: &impl Resource) -> ClusterLabels {
    let meta = object.meta();
    ClusterLabels {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
    }
}

fn count(context: &Context, result: &'static str) {
    context.shared.metrics.reconciles.get_or_create(&ResultLabels { result }).inc();
}

/// Reconciles one ChannelCluster, and puts the next look at it into the queue.
///
/// # Errors
/// When it is to be tried again.
pub async fn reconcile(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    if let Some(pause) = one(&object, &context).await? {
        again(&object, &context, pause);
    }
    Ok(Action::await_change())
}

/// Looks at it again after a pause. The controller's own queue has no order.
fn again(object: &Guarded, context: &Context, pause: Duration) {
    context.shared.pending.push_after(ObjectRef::from_obj(object), Cause::Sight, pause);
}

/// Reconciles one, and says after which pause to look again.
async fn one(object: &Guarded, context: &Context) -> Result<Option<Duration>, Error> {
    let labels = labels(object);
    if !context.shared.stores.pulses.sees(&labels.namespace) {
        count(context, "unseen");
        return Ok(Some(FOREIGN));
    }
    // The image and the sysctls that a fleet keeps are read from its Deployment: without it, all nodes would be replaced.
    if !context.shared.stores.pulses.listed(watches::DEPLOYMENTS) {
        count(context, "unseen");
        return Ok(Some(LISTING));
    }
    if !context.shared.claims.holds(&labels.namespace) {
        count(context, "foreign");
        context.stop(&labels);
        return Ok(Some(FOREIGN));
    }
    let cluster = match &object.0 {
        Ok(cluster) => cluster,
        Err(invalid) => {
            count(context, "invalid");
            unreadable(context, &labels, invalid).await;
            return Ok(None);
        }
    };
    if cluster.metadata.deletion_timestamp.is_some()
        || context.shared.stores.cluster(&labels.namespace, &labels.name).is_none()
    {
        context.stop(&labels);
        return Ok(None);
    }
    let result = Box::pin(look(cluster, &labels, context)).await;
    match &result {
        Ok((result, _)) => {
            count(context, result);
            context.succeeded(&labels);
        }
        Err(error) => count(context, error.result()),
    }
    let (_, pause) = result?;
    Ok(Some(pause.mul_f64(rand::random_range(0.9..1.1))))
}

/// Reconciles a spec that can be read, tells its loop, and says how it ended and when to look again.
async fn look(
    cluster: &ChannelCluster,
    labels: &ClusterLabels,
    context: &Context,
) -> Result<(&'static str, Duration), Error> {
    let uid = cluster.uid().unwrap_or_default();
    let tell = |outcome: Outcome, valid: Option<Arc<ValidatedCluster>>| {
        let cluster_ = valid.or_else(|| context.last_valid(labels, &uid));
        let generation = cluster.metadata.generation.unwrap_or_default();
        context.tell(
            labels,
            Reconciled { uid: uid.clone(), generation, outcome, cluster: cluster_, waiting: None },
        );
    };
    let fetched = match fetch(&context.shared, cluster).await {
        Ok(fetched) => fetched,
        Err(error) => {
            let error = Error::Fetch(error);
            tell(Outcome::Failed(error.to_string()), None);
            return Err(error);
        }
    };
    let valid = match validate(cluster, &context.shared.env, &fetched) {
        Ok(valid) => Arc::new(valid),
        Err(problems) => {
            say_problems(context, cluster, &problems).await;
            let waits = problems.iter().all(|problem| problem.reason.starts_with("Secret"));
            tell(Outcome::Invalid(problems), None);
            return Ok(("invalid", if waits { SECRETS } else { RESYNC }));
        }
    };
    if valid.paused {
        tell(Outcome::Applied, Some(valid));
        return Ok(("paused", RESYNC));
    }
    if valid.pod.proof == Proof::Awaited {
        // Without another spec the fleet goes on by this one, which leaves out what is still to be tried.
        let served = context.last_valid(labels, &uid).or_else(|| Some(valid.clone()));
        let (generation, outcome) = (valid.generation, Outcome::Pending);
        let waiting = Some(valid);
        context.tell(labels, Reconciled { uid: uid.clone(), generation, outcome, cluster: served, waiting });
        return Ok(("probing", PROBING));
    }
    say_newer_image(context, cluster, &valid).await;
    write(cluster, labels, context, valid, tell).await
}

/// Writes the objects of a checked spec, and tells how that ended.
async fn write(
    cluster: &ChannelCluster,
    labels: &ClusterLabels,
    context: &Context,
    valid: Arc<ValidatedCluster>,
    tell: impl Fn(Outcome, Option<Arc<ValidatedCluster>>),
) -> Result<(&'static str, Duration), Error> {
    let last = cluster.status.as_ref().and_then(|status| status.desired_replicas);
    let known = cluster.status.as_ref().and_then(|status| status.capacity.as_ref());
    let replicas = Settings::of(&valid).knowing(&valid, known).initial(last);
    let fingerprint = fingerprint(&valid);
    let trial = match () {
        () if context.is_applied(labels, &fingerprint) => Trial::Known,
        () if was_applied(cluster) => Trial::Before,
        () => Trial::New,
    };
    match apply(&context.shared, &valid, replicas, trial).await {
        Ok(Applied { leftovers, contested }) => {
            context.applied(labels, fingerprint);
            tell(Outcome::Applied, Some(valid));
            let pause = if leftovers { LEFTOVERS } else { RESYNC };
            Ok(match contested {
                Some(until) => ("contested", until.min(pause)),
                None => ("applied", pause),
            })
        }
        Err(ApplyError::Refused(message)) => {
            context.shared.events.say(cluster, true, "Refused", "Apply", &message).await;
            let served = valid_after_refusal(context.last_valid(labels, &valid.uid), valid);
            tell(Outcome::Refused(message), Some(served));
            Ok(("refused", REFUSED))
        }
        Err(error) => {
            context.begun(labels, &fingerprint);
            let message = error.to_string();
            let (outcome, event) = match &error {
                ApplyError::NotOurs { .. } => (Outcome::Conflict(message.clone()), Some("NameConflict")),
                ApplyError::Partly(_) => (Outcome::Failed(message.clone()), Some("Refused")),
                _ => (Outcome::Failed(message.clone()), None),
            };
            if let Some(reason) = event {
                context.shared.events.say(cluster, true, reason, "Apply", &message).await;
            }
            tell(outcome, Some(valid));
            Err(error.into())
        }
    }
}

/// The spec that the fleet goes on by after its present one was refused: the last one that was not refused, or the
/// refused one when no other is known, because another operator led then. Without a spec the nodes would neither
/// follow the load nor end a drain.
fn valid_after_refusal<T>(last: Option<T>, refused: T) -> T {
    last.unwrap_or(refused)
}

/// Whether the status says that this generation was applied. The status of a spec that was refused does not count.
fn was_applied(cluster: &ChannelCluster) -> bool {
    let Some(status) = &cluster.status else { return false };
    let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled" && c.status == "True");
    let hindered = stalled.is_none_or(|c| Reason::parse(&c.reason).is_some());
    status.observed_generation.is_some()
        && status.observed_generation == cluster.metadata.generation
        && hindered
}

async fn say_newer_image(context: &Context, cluster: &ChannelCluster, valid: &ValidatedCluster) {
    let Some(newer) = &valid.pod.newer_image else { return };
    let image = &valid.pod.image;
    let note = format!("the nodes run {image}; {newer} exists: set nodes.image to it to roll it out");
    context.shared.events.say(cluster, false, "NewerNodeImage", "Keep", &note).await;
}

async fn say_problems(context: &Context, cluster: &ChannelCluster, problems: &[Problem]) {
    for problem in problems {
        context.shared.events.say(cluster, true, problem.reason, "Validate", &problem.message).await;
    }
}

/// When to try again.
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "the controller's signature")]
pub fn error_policy(object: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    let labels = labels(object.as_ref());
    let failures = context.failed(&labels);
    warn!(namespace = labels.namespace, name = labels.name, %error, failures, "reconcile failed, trying again");
    again(&object, &context, backoff(failures, rand::random_range(0.5..1.0)));
    Action::await_change()
}

/// Doubles from 1 s to 60 s, times a jitter in 0.5 to 1.
fn backoff(failures: u32, jitter: f64) -> Duration {
    let (first, longest) = BACKOFF;
    first.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(longest).mul_f64(jitter)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{backoff, valid_after_refusal};

    #[test]
    fn a_fleet_goes_on_by_what_was_taken_or_else_by_what_was_refused() {
        assert_eq!(valid_after_refusal(Some("taken"), "refused"), "taken");
        assert_eq!(valid_after_refusal(None, "refused"), "refused", "another operator led before");
    }

    #[test]
    fn failures_are_tried_again_ever_more_slowly_up_to_a_minute() {
        assert_eq!(backoff(1, 1.0), Duration::from_secs(1));
        assert_eq!(backoff(4, 1.0), Duration::from_secs(8));
        assert_eq!(backoff(u32::MAX, 1.0), Duration::from_secs(60));
        assert_eq!(backoff(2, 0.5), Duration::from_secs(1));
    }
}
