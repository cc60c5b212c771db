//! What can be learned of a component without compiling it: its exports, imports and sizes.
//!
//! The component is validated except for the bodies of its functions, which the compiler validates. Time and memory are
//! linear in the size of the file, and absurd figures are rejected as soon as they are met.

use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType};
use wasmparser::types::TypesRef;
use wasmparser::{
    BinaryReaderError, CanonicalFunction, CanonicalOption, Encoding, FunctionBody, Parser, Payload, ValidPayload,
    Validator, WasmFeatures,
};

use crate::runtime::capability::wasi::v0_3;
use crate::runtime::engine::EngineKind;
use crate::vocabulary::{LoadError, clean};

/// Name of the custom section in which a plugin describes itself.
pub(crate) const MANIFEST_SECTION: &str = "yardarm:manifest";

/// Largest counts of a component, over all its nested components. Interpreters that were compiled to WebAssembly have
/// some 40 core modules and instances, and some ten thousand functions.
const MOST_MODULES: u64 = 200;
const MOST_INSTANCES: u64 = 200;
const MOST_COMPONENTS: u64 = 200;
const MOST_FUNCTIONS: u64 = 250_000;
const MOST_NAMES: u64 = 1_000;
const MOST_MANIFESTS: u64 = 16;
/// Maximum size of the body of a function in bytes. The memory and the time that the compiler takes for a function grow
/// faster than its size; the main loops of interpreters have up to 200 KB.
const LARGEST_FUNCTION: u64 = 1 << 20;

/// The facts about a component.
#[derive(Debug, Default)]
pub(crate) struct Inspection {
    /// Names of the exports.
    pub(crate) exports: Vec<String>,
    /// The imports, in the order of their declaration.
    pub(crate) imports: Vec<Import>,
    /// The largest product of the size of a function in bytes and the number of its local variables: an estimate of what
    /// the compiler needs for one function.
    pub(crate) complexity: u64,
    /// Content of the custom sections [`MANIFEST_SECTION`], of the component first, then of what is nested in it.
    pub(crate) manifests: Vec<Box<[u8]>>,
    /// Exported functions of the type `async func`, each with its interface.
    pub(crate) async_exports: Vec<String>,
    /// Whether it, or a component in it, has streams, futures, or calls that do not wait.
    has_concurrency: bool,
}

/// An import of a component.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) name: String,
    /// Whether it is an interface that contains only types, so that it needs no implementation.
    pub(crate) has_only_types: bool,
}

/// Counts that are limited.
#[derive(Default)]
struct Counts {
    modules: u64,
    instances: u64,
    components: u64,
    functions: u64,
    names: u64,
    manifests: u64,
}

impl Inspection {
    /// Inspects the bytes of a component. Blocks; takes less than a tenth of a second per megabyte.
    ///
    /// # Errors
    /// [`LoadError::CompileFailed`] if the component is invalid, [`LoadError::NotAComponent`] if it is cut off, and
    /// [`LoadError::TooComplex`] beyond the limits.
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, LoadError> {
        let mut validator = Validator::new_with_features(WasmFeatures::default().union(WasmFeatures::WASM3));
        let (mut inspection, mut counts, mut depth) = (Self::default(), Counts::default(), 0_usize);
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|error| of_parser(&error))?;
            inspection.add(&payload, &mut counts, depth)?;
            match validator.payload(&payload).map_err(|error| of_parser(&error))? {
                ValidPayload::Parser(_) => depth += 1,
                ValidPayload::End(types) if depth == 0 => inspection.resolve(types.as_ref()),
                ValidPayload::End(_) => depth -= 1,
                ValidPayload::Ok | ValidPayload::Func(..) => (),
            }
        }
        Ok(inspection)
    }

    /// Returns which engine the component needs.
    pub(crate) fn engine_kind(&self) -> EngineKind {
        let is_newer = |import: &Import| v0_3::is_version_of(&import.name);
        if self.has_concurrency || self.imports.iter().any(is_newer) {
            EngineKind::Concurrent
        } else {
            EngineKind::Plain
        }
    }

    /// Adds what a section says of itself, before it is validated.
    fn add(&mut self, payload: &Payload<'_>, counts: &mut Counts, depth: usize) -> Result<(), LoadError> {
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } => {
                count(&mut counts.modules, 1, MOST_MODULES, "core modules")?;
            }
            Payload::Version { encoding: Encoding::Component, .. } => {
                count(&mut counts.components, 1, MOST_COMPONENTS, "nested components")?;
            }
            Payload::InstanceSection(section) => {
                count(&mut counts.instances, section.count().into(), MOST_INSTANCES, "core instances")?;
            }
            Payload::FunctionSection(section) => {
                count(&mut counts.functions, section.count().into(), MOST_FUNCTIONS, "functions")?;
            }
            Payload::CodeSectionEntry(body) => {
                let size = body.range().len() as u64;
                limit(size, LARGEST_FUNCTION, "bytes in one function")?;
                self.complexity = self.complexity.max(size.saturating_mul(locals(body)?));
            }
            Payload::CustomSection(section) if section.name() == MANIFEST_SECTION => {
                count(&mut counts.manifests, 1, MOST_MANIFESTS, "sections `yardarm:manifest`")?;
                // The component's own comes before those of modules inside.
                let index = if depth == 0 { 0 } else { self.manifests.len() };
                self.manifests.insert(index, section.data().into());
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section.clone() {
                    self.has_concurrency |= needs_concurrency(&function.map_err(|error| of_parser(&error))?);
                }
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                count(&mut counts.names, section.count().into(), MOST_NAMES, "imports and exports")?;
                for import in section.clone() {
                    let name = import.map_err(|error| of_parser(&error))?.name.name.to_owned();
                    self.imports.push(Import { name, has_only_types: false });
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                count(&mut counts.names, section.count().into(), MOST_NAMES, "imports and exports")?;
                for export in section.clone() {
                    self.exports.push(export.map_err(|error| of_parser(&error))?.name.name.to_owned());
                }
            }
            _ => (),
        }
        Ok(())
    }

    /// Adds what follows from the types of the whole component.
    fn resolve(&mut self, types: TypesRef<'_>) {
        for import in &mut self.imports {
            if let Some(item) = types.component_item_for_import(&import.name)
                && let ComponentEntityType::Instance(instance) = item.ty
            {
                let is_type = |ty: &ComponentEntityType| {
                    // A resource needs a destructor, which is an implementation.
                    matches!(ty, ComponentEntityType::Type { created, .. } if !matches!(created, ComponentAnyTypeId::Resource(_)))
                };
                import.has_only_types = types[instance].exports.values().all(|item| is_type(&item.ty));
            }
        }
        for export in &self.exports {
            if let Some(item) = types.component_item_for_export(export)
                && let ComponentEntityType::Instance(instance) = item.ty
            {
                let functions = types[instance].exports.iter().filter(
                    |(_, item)| matches!(item.ty, ComponentEntityType::Func(function) if types[function].async_),
                );
                self.async_exports.extend(functions.map(|(name, _)| format!("`{name}` of `{export}`")));
            }
        }
    }
}

/// Returns whether a function of the canonical ABI is available only with the component model's concurrency.
fn needs_concurrency(function: &CanonicalFunction) -> bool {
    match function {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => {
            options.iter().any(|option| matches!(option, CanonicalOption::Async | CanonicalOption::Callback(_)))
        }
        CanonicalFunction::ResourceNew { .. }
        | CanonicalFunction::ResourceDrop { .. }
        | CanonicalFunction::ResourceRep { .. } => false,
        _ => true,
    }
}

/// Returns the number of local variables of a function, at least one.
fn locals(body: &FunctionBody<'_>) -> Result<u64, LoadError> {
    let mut locals = 1_u64;
    for group in body.get_locals_reader().map_err(|error| of_parser(&error))? {
        locals = locals.saturating_add(group.map_err(|error| of_parser(&error))?.0.into());
    }
    Ok(locals)
}

fn count(counter: &mut u64, more: u64, most: u64, what: &'static str) -> Result<(), LoadError> {
    *counter += more;
    limit(*counter, most, what)
}

fn limit(count: u64, limit: u64, what: &'static str) -> Result<(), LoadError> {
    if count > limit { Err(LoadError::TooComplex { what, count, limit }) } else { Ok(()) }
}

fn of_parser(error: &BinaryReaderError) -> LoadError {
    LoadError::of_compiler(&clean(&error.to_string()))
}

#[cfg(test)]
mod tests;
