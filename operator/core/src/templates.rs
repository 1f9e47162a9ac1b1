//! The Deployments of a fleet's nodes: there is one for each pod template that its nodes are, or were, made from.
//!
//! Each knows its template by the hash in its label, and is numbered: the one with the highest revision is current. To
//! go back to a template gives its Deployment the highest number. Nothing else says which one is current, so another
//! operator finds the same, also where there is no status.

use std::cmp::Reverse;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::names::{Names, REVISION_ANNOTATION, TEMPLATE_LABEL};

/// Deployments without nodes that are kept, so that a fleet can go back to their templates as they were written.
pub const KEPT: usize = 3;

/// A Deployment of nodes, as far as it matters for which template it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Its name.
    pub name: String,
    /// The hash of its template; none when a version made it that knew no hashes.
    pub template: Option<String>,
    /// Its number; 0 when it has none.
    pub revision: u64,
    /// When it was made, in milliseconds since 1970.
    pub created: i64,
}

impl Made {
    /// Reads a Deployment.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        let revision = meta.annotations.as_ref().and_then(|all| all.get(REVISION_ANNOTATION));
        Self {
            name: meta.name.clone().unwrap_or_default(),
            template: meta.labels.as_ref().and_then(|all| all.get(TEMPLATE_LABEL)).cloned(),
            revision: revision.and_then(|text| text.parse().ok()).unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map_or(0, |time| time.0.as_millisecond()),
        }
    }

    /// Whether it has the name of a Deployment of nodes of this fleet.
    #[must_use]
    pub fn is_named(&self, names: &Names) -> bool {
        let own = self.template.as_ref().is_some_and(|template| self.name == names.deployment(template));
        own || self.name == names.first_deployment()
    }

    /// Its place among the Deployments of its fleet: the highest is the current one.
    #[must_use]
    pub fn rank(&self) -> (u64, i64, String) {
        (self.revision, self.created, self.name.clone())
    }
}

/// The current one; none when there is none.
#[must_use]
pub fn current(all: &[Made]) -> Option<&Made> {
    all.iter().max_by_key(|made| made.rank())
}

/// The Deployment whose pods are as they are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// It has this name, whether it is there or not.
    Named(String),
    /// The first Deployment of the fleet does not say which template it has: it is the one if its pods are as wanted.
    PerhapsFirst,
}

/// The Deployment for the template with the hash `wanted`.
#[must_use]
pub fn target(all: &[Made], wanted: &str, names: &Names) -> Target {
    let of_template = |made: &&Made| made.template.as_deref() == Some(wanted);
    if let Some(there) = all.iter().filter(of_template).max_by_key(|made| made.rank()) {
        return Target::Named(there.name.clone());
    }
    let first = names.first_deployment();
    if all.iter().any(|made| made.name == first && made.template.is_none()) {
        return Target::PerhapsFirst;
    }
    Target::Named(names.deployment(wanted))
}

/// The number of the Deployment `name` when it is the current one.
#[must_use]
pub fn revision(all: &[Made], name: &str) -> u64 {
    match current(all) {
        Some(current) if current.name == name && current.revision > 0 => current.revision,
        Some(current) => current.revision.saturating_add(1),
        None => 1,
    }
}

/// Those of these Deployments without nodes that are not kept: all but the newest few.
#[must_use]
pub fn expendable(mut idle: Vec<Made>) -> Vec<Made> {
    idle.sort_by_key(|made| Reverse(made.rank()));
    idle.split_off(KEPT.min(idle.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Made, Target, current, expendable, revision, target};
    use crate::names::Names;

    fn made(name: &str, template: Option<&str>, revision: u64) -> Made {
        Made { name: name.to_owned(), template: template.map(str::to_owned), revision, created: 0 }
    }

    #[test]
    fn what_a_deployment_stands_for_is_in_its_metadata() {
        let meta = |template: &str, name: &str| {
            let meta = json!({
                "name": name, "labels": {"channelcluster.io/template": template},
                "annotations": {"channelcluster.io/revision": "7"}, "creationTimestamp": "1970-01-01T00:00:01Z",
            });
            Made::of(&serde_json::from_value(meta).unwrap())
        };
        let own = meta("ab", "chat-node-ab");
        assert_eq!(own, Made { created: 1_000, ..made("chat-node-ab", Some("ab"), 7) });
        let names = Names::new("chat");
        assert!(own.is_named(&names) && meta("ab", "chat-node").is_named(&names));
        assert!(!meta("ab", "chat-node-cd").is_named(&names) && !meta("ab", "mine").is_named(&names));
        assert_eq!(Made::of(&serde_json::from_value(json!({})).unwrap()), Made::default());
    }

    #[test]
    fn the_first_deployment_stays_if_its_pods_are_as_wanted() {
        let names = Names::new("chat");
        let named = |name: &str| Target::Named(name.to_owned());
        assert_eq!(target(&[], "ab", &names), named("chat-node-ab"));
        let first = made("chat-node", None, 0);
        assert_eq!(target(std::slice::from_ref(&first), "ab", &names), Target::PerhapsFirst);
        assert_eq!(revision(std::slice::from_ref(&first), "chat-node"), 1, "it is numbered now");
        let known = made("chat-node", Some("ab"), 1);
        assert_eq!(target(std::slice::from_ref(&known), "ab", &names), named("chat-node"));
        assert_eq!(target(&[known], "cd", &names), named("chat-node-cd"));
        let both = [first, made("chat-node-ab", Some("ab"), 1)];
        assert_eq!(target(&both, "ab", &names), named("chat-node-ab"));
        assert_eq!(current(&both), Some(&both[1]));
    }

    #[test]
    fn to_go_back_gives_the_highest_number() {
        let all = [made("chat-node-a", Some("a"), 1), made("chat-node-b", Some("b"), 2)];
        assert_eq!(current(&all).unwrap().name, "chat-node-b");
        assert_eq!((revision(&all, "chat-node-b"), revision(&all, "chat-node-a")), (2, 3));
        assert_eq!((revision(&all, "chat-node-c"), revision(&[], "chat-node-c")), (3, 1));
        assert_eq!(current(&[]), None);
    }

    #[test]
    fn the_newest_without_nodes_are_kept() {
        let all = [4, 1, 5, 3, 2].map(|number| made(&format!("chat-node-{number}"), None, number));
        let gone: Vec<_> = expendable(all.to_vec()).into_iter().map(|made| made.revision).collect();
        assert_eq!(gone, [2, 1]);
        assert_eq!(expendable(all[..3].to_vec()), []);
    }
}
