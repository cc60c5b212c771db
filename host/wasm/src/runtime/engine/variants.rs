//! The two configurations of Wasmtime: with the component model's concurrency, which costs time in each call, and without.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::{build, on_demand};

/// Which configuration a component needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EngineKind {
    /// Without concurrency; offers WASI 0.2.
    #[default]
    Plain,
    /// For components with streams, futures, `async` functions, or imports of WASI 0.3. Offers WASI 0.2 and 0.3.
    Concurrent,
}

/// The engines of both kinds. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Engines {
    plain: wasmtime::Engine,
    /// Created for the first component that needs it.
    concurrent: Arc<OnceLock<wasmtime::Engine>>,
    /// Number of instances in the pool of each engine; they have none if absent.
    pool: Option<u32>,
    is_metered: bool,
}

impl Engines {
    /// Takes the engine of [`EngineKind::Plain`], after which the other is modelled.
    pub(crate) fn new(plain: wasmtime::Engine, pool: Option<u32>, is_metered: bool) -> Self {
        Self { plain, concurrent: Arc::default(), pool, is_metered }
    }

    /// Returns the engine of [`EngineKind::Plain`].
    pub(crate) fn plain(&self) -> &wasmtime::Engine {
        &self.plain
    }

    /// Returns whether both engines count instructions.
    pub(crate) fn is_metered(&self) -> bool {
        self.is_metered
    }

    /// Returns the engine of a kind.
    ///
    /// # Errors
    /// If Wasmtime cannot create it.
    pub(crate) fn of(&self, kind: EngineKind) -> wasmtime::Result<&wasmtime::Engine> {
        if kind == EngineKind::Plain {
            return Ok(&self.plain);
        }
        if let Some(engine) = self.concurrent.get() {
            return Ok(engine);
        }
        let engine = match self.pool {
            Some(instances) => build(kind, instances)?.0,
            None => on_demand(kind, self.is_metered)?,
        };
        Ok(self.concurrent.get_or_init(|| engine))
    }

    /// Returns where the engine of [`EngineKind::Concurrent`] will be.
    pub(super) fn lazy(&self) -> Arc<OnceLock<wasmtime::Engine>> {
        Arc::clone(&self.concurrent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::engine::Engine;

    #[test]
    fn the_second_engine_is_created_once_and_its_code_is_not_for_the_first() {
        let engine = Engine::new(4).unwrap();
        assert!(engine.engines.lazy().get().is_none());
        let second = engine.engines.of(EngineKind::Concurrent).unwrap();
        assert!(wasmtime::Engine::same(second, engine.engines.of(EngineKind::Concurrent).unwrap()));
        let code = second.precompile_component(b"\0asm\x0d\0\x01\0").unwrap();
        assert!(crate::runtime::native_code::load(second, &code).is_ok());
        assert!(crate::runtime::native_code::load(engine.engines.plain(), &code).is_err());
    }
}
