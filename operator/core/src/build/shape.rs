//! Lays a user's settings of pods over the settings that the pods need.

use crds::{EnvVar, PodOptions, UserIds};
use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{
    self, LocalObjectReference, PodSecurityContext, PodSpec, SecurityContext, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::pod;

/// The security context of a pod. Fields that the user set count before ours.
pub(super) fn pod_security(options: &PodOptions) -> PodSecurityContext {
    let mut context = pod::pod_security();
    if options.user_ids == Some(UserIds::Assigned) {
        context.run_as_user = None;
        context.run_as_group = None;
        context.fs_group = None;
    }
    if let Some(own) = &options.pod_security_context {
        context.merge_from(own.clone());
    }
    // The CRD has no such field; sysctls are asked for in `tuning.sysctls`.
    context.sysctls = None;
    context
}

/// The security context of a container.
pub(super) fn container_security(options: &PodOptions) -> SecurityContext {
    let mut context = pod::container_security();
    if let Some(own) = &options.security_context {
        context.merge_from(own.clone());
    }
    context
}

/// Lays the other settings over a pod; `selector` finds its labels.
pub(super) fn apply(spec: &mut PodSpec, options: &PodOptions, selector: &LabelSelector) {
    if let Some(secrets) = &options.image_pull_secrets {
        let named = secrets.iter().map(|secret| LocalObjectReference { name: secret.name.clone() });
        spec.image_pull_secrets = Some(named.collect());
    }
    if let Some(account) = &options.service_account_name {
        spec.service_account_name = Some(account.clone());
    }
    if let Some(constraints) = &options.topology_spread_constraints {
        let about = |constraint: &TopologySpreadConstraint| TopologySpreadConstraint {
            label_selector: constraint.label_selector.clone().or_else(|| Some(selector.clone())),
            ..constraint.clone()
        };
        spec.topology_spread_constraints =
            (!constraints.is_empty()).then(|| constraints.iter().map(about).collect());
    }
    spec.priority_class_name.clone_from(&options.priority_class_name);
    spec.runtime_class_name.clone_from(&options.runtime_class_name);
    for container in &mut spec.containers {
        container.env.get_or_insert_default().extend(options.env.iter().flatten().map(variable));
    }
}

fn variable(own: &EnvVar) -> v1::EnvVar {
    let source = own.value_from.as_ref().map(|source| v1::EnvVarSource {
        field_ref: source.field_ref.clone(),
        resource_field_ref: source.resource_field_ref.clone(),
        ..Default::default()
    });
    v1::EnvVar { name: own.name.clone(), value: own.value.clone(), value_from: source }
}
