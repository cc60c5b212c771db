//! What a component file consists of: sizes of its sections and core modules, and what produced it.

use std::collections::BTreeMap;

use serde::Serialize;
use wasmparser::{BinaryReaderError, Encoding, KnownCustom, Parser, Payload, ProducersSectionReader};

use crate::vocabulary::{LoadError, clean};

/// Maximum number of entries in the section of producers that are shown.
const MOST_PRODUCERS: usize = 64;

/// The sizes of the parts of a component, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// Total size of each kind of section, over all modules; `custom:NAME` for custom sections.
    pub sections: BTreeMap<String, u64>,
    /// The core modules, in order.
    pub core_modules: Vec<ModuleSize>,
    /// What produced the component and its modules, without repetitions.
    pub producers: Vec<ProducedBy>,
}

/// The size of a core module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ModuleSize {
    /// Size in bytes.
    pub bytes: u64,
    /// Number of functions with a body.
    pub functions: u32,
    /// Size of all bodies in bytes.
    pub code_bytes: u64,
    /// Size of the initial content of memories in bytes.
    pub data_bytes: u64,
}

/// An entry of a section of producers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProducedBy {
    /// `language`, `processed-by` or `sdk`.
    pub field: String,
    /// Name of the tool.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Sizes {
    /// Measures a valid component.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, LoadError> {
        let mut sizes = Self::default();
        // Whether each component or module around the current payload is a module; the current one is last.
        let mut nesting = Vec::new();
        let mut module_bytes = 0;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(|error| of_parser(&error))? {
                Payload::ModuleSection { unchecked_range, .. } => module_bytes = unchecked_range.len() as u64,
                Payload::Version { encoding, .. } => {
                    nesting.push(encoding == Encoding::Module);
                    if encoding == Encoding::Module {
                        sizes.core_modules.push(ModuleSize { bytes: module_bytes, ..ModuleSize::default() });
                    }
                }
                Payload::End(_) => drop(nesting.pop()),
                Payload::CodeSectionStart { count, range, .. } => {
                    sizes.add("code", range.len());
                    sizes.module(|module| (module.functions, module.code_bytes) = (count, range.len() as u64));
                }
                Payload::DataSection(section) => {
                    sizes.add("data", section.range().len());
                    sizes.module(|module| module.data_bytes = section.range().len() as u64);
                }
                Payload::CustomSection(section) => {
                    sizes.add(&format!("custom:{}", clean(section.name())), section.data().len());
                    if let KnownCustom::Producers(producers) = section.as_known() {
                        sizes.add_producers(producers).map_err(|error| of_parser(&error))?;
                    }
                }
                Payload::CodeSectionEntry(_) | Payload::ComponentSection { .. } => (),
                other => {
                    let range = other.as_section().map(|(_, range)| range).unwrap_or_default();
                    let is_module = nesting.last() == Some(&true);
                    sizes.add(if is_module { "declarations of modules" } else { "interfaces and links" }, range.len());
                }
            }
        }
        Ok(sizes)
    }

    fn add(&mut self, section: &str, bytes: usize) {
        *self.sections.entry(section.to_owned()).or_default() += bytes as u64;
    }

    /// Changes the module that is being read: modules contain no others.
    fn module(&mut self, change: impl FnOnce(&mut ModuleSize)) {
        if let Some(module) = self.core_modules.last_mut() {
            change(module);
        }
    }

    fn add_producers(&mut self, producers: ProducersSectionReader<'_>) -> wasmparser::Result<()> {
        for field in producers {
            let field = field?;
            for value in field.values {
                let value = value?;
                let [field, name, version] = [field.name, value.name, value.version].map(clean);
                let produced = ProducedBy { field, name, version };
                if self.producers.len() < MOST_PRODUCERS && !self.producers.contains(&produced) {
                    self.producers.push(produced);
                }
            }
        }
        Ok(())
    }
}

fn of_parser(error: &BinaryReaderError) -> LoadError {
    LoadError::of_compiler(&error.to_string())
}
