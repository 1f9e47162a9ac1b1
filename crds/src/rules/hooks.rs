//! The rules of the backend that rooms ask.

use kube::core::Rule;

use super::numbers::{range_of_duration, url_rule};

type Text = (&'static str, &'static str);

pub(crate) fn url() -> Rule {
    url_rule("hooks.url", "https://example.org/hooks or http://NAME.NAMESPACE.svc/hooks")
}

pub(crate) const SECRET_FORM: Text = (
    "self.secretName.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
    "hooks.secretName must name a Secret of this namespace by a-z, 0-9, - and .: write the name of one with the key signing-key",
);

pub(crate) fn timeout() -> Rule {
    range_of_duration(
        keys::HOOK_TIMEOUT_MILLIS.manifest,
        "timeout",
        "hooks.timeout",
        "a client waits for so long, and its heartbeats behind it",
    )
}

/// On the whole spec.
pub(crate) const NOBODY_TO_ASK: Text = (
    "has(self.hooks) || !has(self.rooms.policies) || self.rooms.policies.all(p, !has(p.hooks) || size(p.hooks) == 0)",
    "rooms.policies[].hooks needs a backend that is asked: write hooks.url and hooks.secretName, or remove it",
);
