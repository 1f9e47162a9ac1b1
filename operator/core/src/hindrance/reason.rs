//! The words for what hinders, and what it is found in.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::names::Component;

/// What hinders. The order is that of the reasons' weight: the first of several is the reason of Ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A ResourceQuota.
    QuotaExceeded,
    /// A LimitRange.
    LimitRangeViolated,
    /// Pod Security admission, or a security context constraint of OpenShift.
    PodSecurityViolated,
    /// A webhook or an admission policy said no.
    PolicyDenied,
    /// A webhook that must be asked does not answer.
    WebhookFailed,
    /// Admission refuses for another reason.
    PodsForbidden,
    /// The name of the image is not valid.
    InvalidImageName,
    /// The image cannot be had.
    ImagePullFailed,
    /// What the container is configured with is missing or contradicts itself.
    ContainerConfigError,
    /// The container runtime cannot start the container.
    ContainerStartFailed,
    /// The process was killed for its memory.
    OutOfMemory,
    /// The process ends again and again.
    CrashLoop,
    /// A kubelet refuses a sysctl.
    SysctlForbidden,
    /// A volume cannot be mounted.
    VolumeFailed,
    /// The pod gets no network or no sandbox.
    SandboxFailed,
    /// No machine fits.
    Unschedulable,
    /// A scheduling gate holds the pod back.
    SchedulingGated,
    /// A kubelet evicted the pod.
    Evicted,
    /// A kubelet turned the pod away.
    RejectedByMachine,
    /// The machine that the pod runs on does not answer.
    MachineLost,
    /// The process runs, and its probe fails for long.
    ProbeFailing,
    /// The Deployment makes no progress, and nothing says why.
    NoProgress,
}

impl Reason {
    /// All reasons, in the same order.
    pub const ALL: [Self; 22] = [
        Self::QuotaExceeded,
        Self::LimitRangeViolated,
        Self::PodSecurityViolated,
        Self::PolicyDenied,
        Self::WebhookFailed,
        Self::PodsForbidden,
        Self::InvalidImageName,
        Self::ImagePullFailed,
        Self::ContainerConfigError,
        Self::ContainerStartFailed,
        Self::OutOfMemory,
        Self::CrashLoop,
        Self::SysctlForbidden,
        Self::VolumeFailed,
        Self::SandboxFailed,
        Self::Unschedulable,
        Self::SchedulingGated,
        Self::Evicted,
        Self::RejectedByMachine,
        Self::MachineLost,
        Self::ProbeFailing,
        Self::NoProgress,
    ];

    /// The word in conditions, REASON and Events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QuotaExceeded => "QuotaExceeded",
            Self::LimitRangeViolated => "LimitRangeViolated",
            Self::PodSecurityViolated => "PodSecurityViolated",
            Self::PolicyDenied => "PolicyDenied",
            Self::WebhookFailed => "WebhookFailed",
            Self::PodsForbidden => "PodsForbidden",
            Self::InvalidImageName => "InvalidImageName",
            Self::ImagePullFailed => "ImagePullFailed",
            Self::ContainerConfigError => "ContainerConfigError",
            Self::ContainerStartFailed => "ContainerStartFailed",
            Self::OutOfMemory => "OutOfMemory",
            Self::CrashLoop => "CrashLoop",
            Self::SysctlForbidden => "SysctlForbidden",
            Self::VolumeFailed => "VolumeFailed",
            Self::SandboxFailed => "SandboxFailed",
            Self::Unschedulable => "Unschedulable",
            Self::SchedulingGated => "SchedulingGated",
            Self::Evicted => "Evicted",
            Self::RejectedByMachine => "RejectedByMachine",
            Self::MachineLost => "MachineLost",
            Self::ProbeFailing => "ProbeFailing",
            Self::NoProgress => "NoProgress",
        }
    }

    /// The reason that has this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// One thing that keeps pods from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hindrance {
    /// The part of the fleet whose pods they are.
    pub component: Component,
    /// The reason.
    pub reason: Reason,
    /// The pod that says so; none when pods cannot even be made.
    pub pod: Option<String>,
    /// The words of the part of Kubernetes that refuses, cut and without anything that looks like a secret.
    pub words: String,
    /// What to do about it.
    pub remedy: &'static str,
}

impl Hindrance {
    /// One sentence with the remedy.
    #[must_use]
    pub fn sentence(&self) -> String {
        let part = match self.component {
            Component::Node => "node",
            Component::Nats => "NATS",
        };
        let who = match &self.pod {
            Some(pod) => format!("the {part} pod {pod}"),
            None => format!("the {part} pods"),
        };
        format!("{who} {}: {}; {}", self.reason.predicate(), self.words, self.remedy)
    }
}

impl Reason {
    /// What the pod does, or what is done to it.
    const fn predicate(self) -> &'static str {
        match self {
            Self::QuotaExceeded => "are refused by a ResourceQuota",
            Self::LimitRangeViolated => "are refused by a LimitRange",
            Self::PodSecurityViolated => "are refused by Pod Security",
            Self::PolicyDenied => "are refused by a policy",
            Self::WebhookFailed => "cannot be made, since an admission webhook fails",
            Self::PodsForbidden => "are refused",
            Self::InvalidImageName => "has an image that cannot be named so",
            Self::ImagePullFailed => "does not get its image",
            Self::ContainerConfigError => "cannot be configured",
            Self::ContainerStartFailed => "cannot be started by the container runtime",
            Self::OutOfMemory => "ran out of memory",
            Self::CrashLoop => "ends again and again",
            Self::SysctlForbidden => "was refused by its kubelet for a sysctl",
            Self::VolumeFailed => "does not get a volume",
            Self::SandboxFailed => "gets no sandbox or network",
            Self::Unschedulable => "fits on no machine",
            Self::SchedulingGated => "is held back from scheduling",
            Self::Evicted => "was evicted",
            Self::RejectedByMachine => "was turned away by its machine",
            Self::MachineLost => "is on a machine that does not answer",
            Self::ProbeFailing => "runs and does not become ready",
            Self::NoProgress => "make no progress",
        }
    }
}

/// The objects of one part of a fleet that were seen.
#[derive(Clone, Copy, Debug)]
pub struct FleetPart<'a> {
    /// The part.
    pub component: Component,
    /// Its Deployment.
    pub deployment: Option<&'a Deployment>,
    /// Its pods, those that have ended included.
    pub pods: &'a [&'a Pod],
    /// Warnings about pods for which [`super::waits_for_machine`] holds.
    pub events: &'a [Event],
}

/// Milliseconds since 1970; a time before is 0.
pub(super) fn millis(time: Option<&Time>) -> u64 {
    time.map_or(0, |time| u64::try_from(time.0.as_millisecond()).unwrap_or_default())
}
