//! The import `shared`: what the background task of the plugin published.

use crate::runtime::guest::GuestState;
use crate::runtime::interface::v0_1;

impl v0_1::host::shared::Host for GuestState {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        let published = self.plugin.services.snapshot.get();
        let Some(value) = published.values.get(&key) else { return Ok(None) };
        self.count_lent(value.len())?;
        Ok(Some(value.to_vec()))
    }

    fn keys(&mut self) -> wasmtime::Result<Vec<String>> {
        let published = self.plugin.services.snapshot.get();
        self.count_lent(published.values.keys().map(String::len).sum())?;
        Ok(published.values.keys().cloned().collect())
    }

    fn version(&mut self) -> wasmtime::Result<u64> {
        Ok(self.plugin.services.snapshot.get().version)
    }
}
