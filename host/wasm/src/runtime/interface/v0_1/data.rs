//! Flag data and results as resources: guests read what they need, and the rest is not copied.

use std::sync::Arc;

use wasmtime::component::Resource;
use yardarm_core::EnvironmentLabel;
use yardarm_core::hooks::{ItemHead, PayloadView, ResultView};

use super::host;
use crate::runtime::guest::GuestState;

/// Maximum amount of host data in bytes that one call may read.
const MOST_LENT: usize = 32 << 20;

/// Flag data that is available during one call.
#[expect(unreachable_pub, reason = "generated code exports it again")]
pub struct ItemSet {
    pub(super) environment: EnvironmentLabel,
    pub(super) view: Arc<dyn PayloadView>,
}

/// Results that are available during one call.
#[expect(unreachable_pub, reason = "generated code exports it again")]
pub struct ResultSet(pub(super) Arc<dyn ResultView>);

/// The guest read more host data than one call may.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("read more than {MOST_LENT} bytes of host data in one call")]
pub(crate) struct ReadTooMuch;

impl GuestState {
    /// Returns a text to the guest, within the limit of one call. Text that is not UTF-8 is not returned.
    pub(super) fn lend(&mut self, text: &[u8]) -> wasmtime::Result<Option<String>> {
        self.count_lent(text.len())?;
        Ok(std::str::from_utf8(text).ok().map(str::to_owned))
    }

    /// Counts bytes that the guest reads.
    ///
    /// # Errors
    /// If one call may not read as many.
    pub(crate) fn count_lent(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.lent += bytes;
        if self.lent > MOST_LENT { Err(ReadTooMuch.into()) } else { Ok(()) }
    }

    /// Returns whether flag data is granted; records that it is missing if not.
    fn has_flag_data(&self) -> bool {
        if !self.plugin.grants.flag_data {
            self.record_missing_grant("flag-data", "nothing");
        }
        self.plugin.grants.flag_data
    }

    fn payload(&self, set: &Resource<ItemSet>) -> wasmtime::Result<Arc<dyn PayloadView>> {
        Ok(Arc::clone(&self.table.get(set)?.view))
    }

    fn results(&self, set: &Resource<ResultSet>) -> wasmtime::Result<Arc<dyn ResultView>> {
        Ok(Arc::clone(&self.table.get(set)?.0))
    }
}

impl host::items::Host for GuestState {}

impl host::items::HostItemSet for GuestState {
    fn vendor(&mut self, set: Resource<ItemSet>) -> wasmtime::Result<String> {
        Ok(self.table.get(&set)?.environment.vendor().to_owned())
    }

    fn environment(&mut self, set: Resource<ItemSet>) -> wasmtime::Result<String> {
        Ok(self.table.get(&set)?.environment.name().to_string())
    }

    fn changed(&mut self, set: Resource<ItemSet>) -> wasmtime::Result<Vec<host::items::Head>> {
        let view = self.payload(&set)?;
        let head = |head: &ItemHead| host::items::Head {
            kind: head.kind.to_owned(),
            key: head.key.to_string(),
            version: head.version,
            deleted: head.is_deleted,
        };
        Ok(view.heads().iter().map(head).collect())
    }

    fn get(&mut self, set: Resource<ItemSet>, index: u32) -> wasmtime::Result<Option<String>> {
        if !self.has_flag_data() {
            return Ok(None);
        }
        let json = self.payload(&set)?.json(index as usize);
        json.map_or(Ok(None), |json| self.lend(&json))
    }

    fn find(&mut self, set: Resource<ItemSet>, kind: String, key: String) -> wasmtime::Result<Option<u32>> {
        let view = self.payload(&set)?;
        let found = view.heads().iter().position(|head| head.kind == kind && *head.key == *key);
        Ok(found.and_then(|index| u32::try_from(index).ok()))
    }

    fn other(&mut self, set: Resource<ItemSet>, kind: String, key: String) -> wasmtime::Result<Option<String>> {
        if !self.has_flag_data() {
            return Ok(None);
        }
        let json = self.payload(&set)?.other(&kind, &key);
        json.map_or(Ok(None), |json| self.lend(&json))
    }

    fn list(&mut self, set: Resource<ItemSet>, kind: String) -> wasmtime::Result<Vec<String>> {
        let keys = self.payload(&set)?.list(&kind);
        self.count_lent(keys.iter().map(|key| key.len()).sum())?;
        Ok(keys.iter().map(|key| key.to_string()).collect())
    }

    fn drop(&mut self, _: Resource<ItemSet>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl host::results::Host for GuestState {}

impl host::results::HostResultSet for GuestState {
    fn flags(&mut self, set: Resource<ResultSet>) -> wasmtime::Result<Vec<String>> {
        let view = self.results(&set)?;
        Ok((0..view.len()).map(|index| view.flag(index).unwrap_or_default().to_owned()).collect())
    }

    fn get(&mut self, set: Resource<ResultSet>, index: u32) -> wasmtime::Result<Option<host::results::Evaluation>> {
        if !self.has_flag_data() {
            return Ok(None);
        }
        let Some(result) = self.results(&set)?.get(index as usize) else { return Ok(None) };
        let Some(value) = self.lend(&result.value)? else { return Ok(None) };
        let reason = result.reason.map_or(Ok(None), |reason| self.lend(&reason))?;
        let (flag, variation) = (result.flag.to_string(), result.variation);
        Ok(Some(host::results::Evaluation { flag, value, variation, reason }))
    }

    fn find(&mut self, set: Resource<ResultSet>, flag: String) -> wasmtime::Result<Option<u32>> {
        Ok(self.results(&set)?.find(&flag).and_then(|index| u32::try_from(index).ok()))
    }

    fn drop(&mut self, _: Resource<ResultSet>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl host::types::Host for GuestState {}
