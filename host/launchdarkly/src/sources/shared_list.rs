//! The list of environments as the content that the gateways of a fleet share. It is sealed, like the one on disk.

use std::sync::Arc;

use yardarm_fleet::{Content, Entry};
use yardarm_vendor::persisted::seal::{Seal, SealError, Sealed};

use super::persisted_list::PersistedList;

/// The key of the only entry.
const KEY: &str = "list";

/// The list, and the seal for it.
#[derive(Clone)]
pub(super) struct SharedList {
    pub(super) list: PersistedList,
    pub(super) seal: Seal,
}

impl Content for SharedList {
    fn changes(before: Option<&Self>, after: &Self) -> Vec<Entry> {
        if before.is_some_and(|it| it.list == after.list) {
            return Vec::new();
        }
        // Text and numbers can always be encoded.
        let sealed = after.seal.seal(&after.list).ok().and_then(|it| serde_json::to_string(&it).ok());
        sealed.into_iter().map(|it| (Arc::from(KEY), Some(Arc::from(it)))).collect()
    }
}

/// Opens the list in entries; `None` if it is not among them.
pub(super) fn open(entries: &[Entry], seal: &Seal) -> Option<Result<PersistedList, SealError>> {
    let text = entries.iter().find(|it| *it.0 == *KEY)?.1.as_ref()?;
    let sealed = serde_json::from_str::<Sealed>(text).map_err(|_| SealError::Content);
    Some(sealed.and_then(|it| seal.open(it)))
}

#[cfg(test)]
mod tests {
    use yardarm_core::Secret;

    use super::*;
    use crate::sources::persisted_list;

    fn seal(key: &str) -> Seal {
        persisted_list::seal(&Secret::new(key.to_owned())).expect("a seal")
    }

    #[test]
    fn the_list_is_shared_sealed_and_only_when_it_changes() {
        let list = PersistedList { environments: Vec::new(), filters: Vec::new() };
        let shared = SharedList { list: list.clone(), seal: seal("rel-1") };
        let entries = SharedList::changes(None, &shared);
        assert_eq!(SharedList::changes(Some(&shared), &shared), []);
        assert!(open(&entries, &seal("rel-1")).is_some_and(|it| it.is_ok_and(|it| it == list)));
        assert!(open(&entries, &seal("rel-2")).is_some_and(|it| it.is_err()));
        assert!(open(&[], &seal("rel-1")).is_none());
        let nonsense = [(Arc::from(KEY), Some(Arc::from("{}")))];
        assert!(open(&nonsense, &seal("rel-1")).is_some_and(|it| it.is_err()));
    }
}
