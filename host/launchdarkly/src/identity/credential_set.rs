//! Every credential that one environment accepts, and how messages of auto-configuration change the set.
//!
//! U116 to U121, U173 to U181: one key of several is the *anchor*, which is used upstream for every key of an SDK; a
//! key with an expiry is accepted until then; a key that is no longer listed is revoked at once. Older messages (`sdkKey`
//! with an `expiring` key beside it) are the case of two keys.

use std::sync::Arc;

use super::credential::{EnvironmentId, MobileKey, SdkKey};
use super::sdk_kind::SdkKind;

/// The credentials of one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    sdk_keys: AcceptedKeys<SdkKey>,
    mobile_keys: Option<AcceptedKeys<MobileKey>>,
    env_id: Option<EnvironmentId>,
    /// Whether LaunchDarkly listed all keys, so that `/status` shows the list.
    is_listed: bool,
}

/// Accepted keys of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AcceptedKeys<K> {
    /// The key that is used upstream. It does not expire.
    anchor: K,
    /// The others.
    more: Vec<Accepted<K>>,
    /// Identifier of the anchor; `None` if LaunchDarkly sent none.
    anchor_name: Option<Arc<str>>,
}

/// A key that is accepted beside the anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted<K> {
    pub(crate) key: K,
    /// Identifier from LaunchDarkly.
    pub(crate) name: Option<Arc<str>>,
    /// Unix milliseconds after which it is no longer accepted.
    pub(crate) expires_ms: Option<u64>,
}

impl<K> Accepted<K> {
    fn for_good(key: K) -> Self {
        Self { key, name: None, expires_ms: None }
    }
}

/// The keys of an environment in a message. Empty keys count as absent.
#[derive(Debug, Clone, Default)]
pub(crate) struct OfferedKeys {
    pub(crate) sdk_key: Option<SdkKey>,
    /// The key before `sdk_key`, and until when it is accepted.
    pub(crate) expiring: Option<(SdkKey, u64)>,
    pub(crate) mobile_key: Option<MobileKey>,
    /// All keys; with it `expiring` is ignored.
    pub(crate) sdk_keys: Option<Vec<Accepted<SdkKey>>>,
    /// All mobile keys.
    pub(crate) mobile_keys: Option<Vec<Accepted<MobileKey>>>,
}

/// Why a message about keys is not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("there is no SDK key")]
    Missing,
    #[error("`sdkKey` is not among `sdkKeys`")]
    UnlistedSdk,
    #[error("`mobKey` is not among `mobileKeys`")]
    UnlistedMobile,
}

impl Credentials {
    /// Credentials that never change.
    pub(crate) fn fixed(sdk_key: SdkKey, mobile_key: Option<MobileKey>, env_id: Option<EnvironmentId>) -> Self {
        Self {
            sdk_keys: AcceptedKeys::one(sdk_key),
            mobile_keys: mobile_key.map(AcceptedKeys::one),
            env_id,
            is_listed: false,
        }
    }

    /// Accepts further keys, for good. Those of mobile SDKs need a mobile key.
    pub(crate) fn with_aliases(mut self, sdk_keys: Vec<SdkKey>, mobile_keys: Vec<MobileKey>) -> Self {
        self.is_listed |= !sdk_keys.is_empty() || !mobile_keys.is_empty();
        self.sdk_keys.more.extend(sdk_keys.into_iter().map(Accepted::for_good));
        if let Some(accepted) = &mut self.mobile_keys {
            accepted.more.extend(mobile_keys.into_iter().map(Accepted::for_good));
        }
        self
    }

    /// Credentials of a new environment.
    pub(crate) fn first(env_id: EnvironmentId, offered: OfferedKeys, now_ms: u64) -> Result<Self, KeyError> {
        let sdk_key = offered.sdk_key.clone().ok_or(KeyError::Missing)?;
        Self::fixed(sdk_key, offered.mobile_key.clone(), Some(env_id)).after(offered, now_ms)
    }

    /// Credentials after a message.
    pub(crate) fn after(&self, offered: OfferedKeys, now_ms: u64) -> Result<Self, KeyError> {
        let OfferedKeys { sdk_key, expiring, mobile_key, sdk_keys, mobile_keys } = offered;
        let is_listed = sdk_keys.is_some() || mobile_keys.is_some();
        let sdk_keys = match (sdk_key, sdk_keys) {
            (Some(anchor), Some(all)) => AcceptedKeys::listed(anchor, all, now_ms).ok_or(KeyError::UnlistedSdk)?,
            (anchor, _) => self.sdk_keys.rotated(anchor, expiring, now_ms),
        };
        let mobile_keys = match (mobile_key, mobile_keys) {
            (Some(anchor), Some(all)) => {
                Some(AcceptedKeys::listed(anchor, all, now_ms).ok_or(KeyError::UnlistedMobile)?)
            }
            (Some(anchor), None) => Some(AcceptedKeys::one(anchor)),
            // Without a primary key, the first listed key is used for events.
            (None, Some(all)) => match all.first().map(|it| it.key.clone()) {
                Some(anchor) => AcceptedKeys::listed(anchor, all, now_ms),
                None => None,
            },
            (None, None) => self.mobile_keys.clone(),
        };
        Ok(Self { sdk_keys, mobile_keys, env_id: self.env_id.clone(), is_listed })
    }

    /// Credentials as an earlier process persisted them: the first key of each kind is the anchor. `None` without an SDK key.
    pub(crate) fn restored(
        env_id: EnvironmentId,
        sdk_keys: Vec<Accepted<SdkKey>>,
        mobile_keys: Vec<Accepted<MobileKey>>,
        is_listed: bool,
    ) -> Option<Self> {
        let (sdk_keys, mobile_keys) = (AcceptedKeys::restored(sdk_keys)?, AcceptedKeys::restored(mobile_keys));
        Some(Self { sdk_keys, mobile_keys, env_id: Some(env_id), is_listed })
    }

    /// All SDK keys and all mobile keys, each with the anchor first, and whether LaunchDarkly listed them.
    pub(crate) fn all_keys(&self) -> (Vec<Accepted<SdkKey>>, Vec<Accepted<MobileKey>>, bool) {
        let mobile = self.mobile_keys.iter().flat_map(AcceptedKeys::all).collect();
        (self.sdk_keys.all().collect(), mobile, self.is_listed)
    }

    /// The same without expired keys; `None` if no key has expired.
    pub(crate) fn without_expired(&self, now_ms: u64) -> Option<Self> {
        let mut kept = self.clone();
        kept.sdk_keys.more.retain(|it| !it.is_expired(now_ms));
        if let Some(keys) = &mut kept.mobile_keys {
            keys.more.retain(|it| !it.is_expired(now_ms));
        }
        (kept != *self).then_some(kept)
    }

    /// The key that is used upstream.
    #[must_use]
    pub fn sdk_key(&self) -> &SdkKey {
        &self.sdk_keys.anchor
    }

    /// The key that mobile events are posted with.
    pub(crate) fn mobile_key(&self) -> Option<&MobileKey> {
        self.mobile_keys.as_ref().map(|it| &it.anchor)
    }

    /// The environment ID.
    pub(crate) fn env_id(&self) -> Option<&EnvironmentId> {
        self.env_id.as_ref()
    }

    /// The key beside the anchor that expires first; of several with one expiry, the smallest.
    pub(crate) fn expiring_sdk_key(&self) -> Option<&SdkKey> {
        let expiring = self.sdk_keys.more.iter().filter_map(|it| Some((it.expires_ms?, it.key.expose(), &it.key)));
        expiring.min_by_key(|(at, text, _)| (*at, *text)).map(|(_, _, key)| key)
    }

    /// All SDK keys and all mobile keys as LaunchDarkly listed them; `None` if it did not.
    #[expect(clippy::type_complexity, reason = "two lists of the same shape")]
    pub(crate) fn listed(&self) -> Option<(Vec<Accepted<SdkKey>>, Vec<Accepted<MobileKey>>)> {
        self.is_listed
            .then(|| (self.sdk_keys.all().collect(), self.mobile_keys.iter().flat_map(AcceptedKeys::all).collect()))
    }

    /// Everything that callers may present, by kind of caller.
    pub(crate) fn accepted(&self) -> impl Iterator<Item = (SdkKind, &str)> {
        let server = self.sdk_keys.texts().map(|key| (SdkKind::Server, key.expose()));
        let mobile = self.mobile_keys.iter().flat_map(AcceptedKeys::texts).map(|key| (SdkKind::Mobile, key.expose()));
        let browser = self.env_id.iter().map(|id| (SdkKind::Browser, id.as_str()));
        server.chain(mobile).chain(browser)
    }

    /// Whether a caller of this kind may present `credential`.
    pub(crate) fn accepts(&self, kind: SdkKind, credential: &str) -> bool {
        self.accepted().any(|it| it == (kind, credential))
    }
}

impl<K: Clone + PartialEq> AcceptedKeys<K> {
    fn one(anchor: K) -> Self {
        Self { anchor, more: Vec::new(), anchor_name: None }
    }

    /// The keys of an earlier process, the anchor first.
    fn restored(all: Vec<Accepted<K>>) -> Option<Self> {
        let mut all = all.into_iter();
        let anchor = all.next()?;
        Some(Self { anchor: anchor.key, anchor_name: anchor.name, more: all.collect() })
    }

    /// Exactly the listed keys; `None` if the anchor is not among them.
    fn listed(anchor: K, all: Vec<Accepted<K>>, now_ms: u64) -> Option<Self> {
        let (mut anchors, more): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| it.key == anchor);
        let anchor_name = anchors.pop()?.name;
        Some(Self { anchor, more: more.into_iter().filter(|it| !it.is_expired(now_ms)).collect(), anchor_name })
    }

    /// One anchor with at most one new key that expires beside it (U116 to U121).
    fn rotated(&self, anchor: Option<K>, expiring: Option<(K, u64)>, now_ms: u64) -> Self {
        let anchor = anchor.unwrap_or_else(|| self.anchor.clone());
        let is_other = |it: &Accepted<K>| it.key != anchor && it.expires_ms.is_some();
        let mut more: Vec<_> = self.more.iter().filter(|it| is_other(it) && !it.is_expired(now_ms)).cloned().collect();
        if let Some((key, expires_ms)) = expiring {
            let is_known = more.iter().any(|it| it.key == key);
            // LaunchDarkly repeats the last one: its first expiry stays, and the key before the new anchor, which the
            // message does not contain, is revoked.
            if !is_known && key != anchor && expires_ms >= now_ms {
                more.push(Accepted { key, name: None, expires_ms: Some(expires_ms) });
            }
        }
        Self { anchor, more, anchor_name: None }
    }

    fn texts(&self) -> impl Iterator<Item = &K> {
        std::iter::once(&self.anchor).chain(self.more.iter().map(|it| &it.key))
    }

    fn all(&self) -> impl Iterator<Item = Accepted<K>> {
        let anchor = Accepted { key: self.anchor.clone(), name: self.anchor_name.clone(), expires_ms: None };
        std::iter::once(anchor).chain(self.more.iter().cloned())
    }
}

impl<K> Accepted<K> {
    fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms.is_some_and(|at| now_ms > at)
    }
}

#[cfg(test)]
mod tests;
