//! The flags that each kind of SDK may see, in order of key.

use std::cmp::Ordering;
use std::sync::{Arc, OnceLock};

use imbl::Vector;

use super::Audience;
use super::flag::CompiledFlag;

/// A list of flags per audience, made when it is first needed, because most environments have SDKs of few kinds. Clones
/// share everything, and a change copies a few nodes of a tree.
#[derive(Clone, Default)]
pub(super) struct VisibleFlags {
    server: OnceLock<FlagList>,
    mobile: OnceLock<FlagList>,
    browser: OnceLock<FlagList>,
}

/// Flags in order of key.
#[derive(Clone, Default)]
pub(super) struct FlagList(Vector<Arc<CompiledFlag>>);

impl VisibleFlags {
    /// The flags that `audience` may see; `all` are the flags of the ruleset in any order.
    pub(super) fn to<'a>(&self, audience: Audience, all: impl Iterator<Item = &'a Arc<CompiledFlag>>) -> &FlagList {
        let list = match audience {
            Audience::Server => &self.server,
            Audience::Mobile => &self.mobile,
            Audience::Browser => &self.browser,
        };
        list.get_or_init(|| {
            let mut flags: Vec<_> = all.filter(|flag| flag.source().visible_to(audience)).cloned().collect();
            flags.sort_unstable_by(|left, right| left.source().key().cmp(right.source().key()));
            FlagList(flags.into_iter().collect())
        })
    }

    /// Replaces the flag `key`.
    pub(super) fn replace(&mut self, key: &str, old: Option<&CompiledFlag>, new: Option<&Arc<CompiledFlag>>) {
        let lists = [
            (&mut self.server, Audience::Server),
            (&mut self.mobile, Audience::Mobile),
            (&mut self.browser, Audience::Browser),
        ];
        for (list, audience) in lists {
            let Some(list) = list.get_mut() else { continue };
            let was_visible = old.is_some_and(|flag| flag.source().visible_to(audience));
            let new = new.filter(|flag| flag.source().visible_to(audience));
            if was_visible || new.is_some() {
                list.replace(key, new);
            }
        }
    }
}

impl FlagList {
    /// The place of the flag `key`, or the place where it would be.
    pub(super) fn position(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|flag| compare(flag, key))
    }

    /// How many flags there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All flags, sorted by key.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<CompiledFlag>> {
        self.0.leaves().flatten()
    }

    fn replace(&mut self, key: &str, new: Option<&Arc<CompiledFlag>>) {
        match (self.position(key), new) {
            (Ok(index), Some(flag)) => drop(self.0.set(index, Arc::clone(flag))),
            (Ok(index), None) => drop(self.0.remove(index)),
            (Err(index), Some(flag)) => self.0.insert(index, Arc::clone(flag)),
            (Err(_), None) => (),
        }
    }
}

fn compare(flag: &CompiledFlag, key: &str) -> Ordering {
    (**flag.source().key()).cmp(key)
}
