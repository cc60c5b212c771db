//! The index of environments by credential and filter.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use yardarm_core::EnvironmentLabel;

use super::LdEnvironment;
use crate::identity::{SdkKind, label};

/// All environments, found by credential. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Environments(Arc<ArcSwap<Index>>);

/// The result of a lookup by credential and filter.
pub(crate) enum Lookup {
    Found(Arc<LdEnvironment>),
    UnknownCredential,
    UnknownFilter,
    /// The list of environments has not been received yet.
    Unlisted,
}

#[derive(Default)]
struct Index {
    /// `None` until the list is known.
    all: Option<Vec<Arc<LdEnvironment>>>,
    by_credential: HashMap<SdkKind, HashMap<Box<str>, Variants>>,
}

/// The unfiltered environment and its filtered variants, by filter key.
type Variants = HashMap<Arc<str>, Arc<LdEnvironment>>;

impl Environments {
    /// Replaces the list as a whole, with the credentials that each environment accepts at this moment.
    pub(crate) fn replace(&self, all: Vec<Arc<LdEnvironment>>) {
        let mut by_credential: HashMap<SdkKind, HashMap<Box<str>, Variants>> = HashMap::new();
        for environment in &all {
            for (kind, credential) in environment.config().credentials.accepted() {
                let variants = by_credential.entry(kind).or_default().entry(credential.into()).or_default();
                variants.insert(Arc::clone(&environment.filter), Arc::clone(environment));
            }
        }
        self.0.store(Arc::new(Index { all: Some(all), by_credential }));
    }

    /// Every environment, in order of the list.
    pub(crate) fn all(&self) -> Vec<Arc<LdEnvironment>> {
        self.0.load().all.clone().unwrap_or_default()
    }

    /// Whether the list of environments is known.
    pub(crate) fn are_listed(&self) -> bool {
        self.0.load().all.is_some()
    }

    /// The environment for a credential of `kind` and a filter key, which is empty for the unfiltered one.
    pub(crate) fn find(&self, kind: SdkKind, credential: &str, filter: &str) -> Lookup {
        let index = self.0.load();
        if index.all.is_none() {
            return Lookup::Unlisted;
        }
        let Some(variants) = index.by_credential.get(&kind).and_then(|it| it.get(credential)) else {
            return Lookup::UnknownCredential;
        };
        variants.get(filter).map_or(Lookup::UnknownFilter, |it| Lookup::Found(Arc::clone(it)))
    }

    /// Returns whether an environment still exists.
    pub(crate) fn contains(&self, label: &EnvironmentLabel) -> bool {
        self.0.load().all.iter().flatten().any(|it| it.label == *label)
    }

    /// The environment of a name and a filter key.
    pub(crate) fn find_named(&self, name: &str, filter: &str) -> Lookup {
        let index = self.0.load();
        let Some(all) = &index.all else { return Lookup::Unlisted };
        let find = |filter: &str| all.iter().find(|it| it.label == label(name, filter));
        match find(filter) {
            Some(found) => Lookup::Found(Arc::clone(found)),
            None if find("").is_some() => Lookup::UnknownFilter,
            None => Lookup::UnknownCredential,
        }
    }
}
