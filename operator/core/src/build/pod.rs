//! What node pods and the NATS pod have in common: the restricted security profile, probes, environment.

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, EnvVar, EnvVarSource, ObjectFieldSelector, PodSecurityContext,
    SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};

use crate::names::NONROOT;

/// Mode of secret files: the pod's group may read them, and no user may write them.
const SECRET_MODE: i32 = 0o440;
/// The same where the pod has no group of its own, so that its user can read them. They are files of this pod alone.
const OPEN_SECRET_MODE: i32 = 0o444;

/// Pod-level part of the `restricted` Pod Security Standard.
pub(super) fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(NONROOT),
        run_as_group: Some(NONROOT),
        fs_group: Some(NONROOT),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..Default::default()
    }
}

/// Container-level part of the `restricted` Pod Security Standard.
pub(super) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        ..Default::default()
    }
}

/// An environment variable from the downward API.
pub(super) fn field_env(name: &str, path: &str) -> EnvVar {
    let field = ObjectFieldSelector { api_version: Some("v1".to_owned()), field_path: path.to_owned() };
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource { field_ref: Some(field), ..Default::default() }),
        ..Default::default()
    }
}

/// A volume with the files of a ConfigMap.
pub(super) fn config_volume(name: &str, config_map: String) -> Volume {
    Volume {
        name: name.to_owned(),
        config_map: Some(ConfigMapVolumeSource { name: config_map, ..Default::default() }),
        ..Default::default()
    }
}

/// A volume with the files of a Secret, for a pod whose files have a group or not.
pub(super) fn secret_volume(name: &str, secret: String, has_group: bool) -> Volume {
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(if has_group { SECRET_MODE } else { OPEN_SECRET_MODE }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A read-only mount. Always a directory: a file mounted by `subPath` would never change.
pub(super) fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..Default::default()
    }
}
