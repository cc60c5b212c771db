//! The interface of plugins, as parsed from its files and written as Markdown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use wit_parser::{
    Docs, Function, FunctionKind, Handle, Interface, InterfaceId, PackageId, Resolve, Type, TypeDef, TypeDefKind,
    TypeId, WorldItem,
};

/// Which interfaces are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Those that plugins export.
    Hook,
    /// Those that plugins import by themselves.
    Import,
    /// Those that come with a hook.
    Types,
}

/// The parsed package.
pub(super) struct Package {
    resolve: Resolve,
    id: PackageId,
}

impl Package {
    pub(super) fn read(folder: &Path) -> Self {
        let mut resolve = Resolve::default();
        let (id, _) = resolve.push_dir(folder).expect("valid files");
        Self { resolve, id }
    }

    /// Returns links to interfaces.
    pub(super) fn links(&self, part: Part) -> Vec<String> {
        self.of(part).map(|(name, _)| format!("[`{name}`](#{name})")).collect()
    }

    /// Returns the text about interfaces.
    pub(super) fn interfaces(&self, part: Part) -> String {
        self.of(part).map(|(name, interface)| self.interface(name, interface)).collect()
    }

    /// Returns a table of worlds.
    pub(super) fn worlds(&self) -> String {
        let mut text = "| World | For |\n|---|---|\n".to_owned();
        for (name, id) in &self.resolve.packages[self.id].worlds {
            text += &format!("| `{name}` | {} |\n", cell(&self.resolve.worlds[*id].docs));
        }
        text
    }

    /// Returns the comments of everything that a plugin calls or reads, by its name.
    pub(super) fn documented(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for (name, interface) in self.all() {
            let link = format!("[`{name}`](#{name})");
            all.push((link, docs(&interface.docs)));
            for function in interface.functions.values() {
                let of = match function.kind {
                    FunctionKind::Method(resource) => self.name(&Type::Id(resource)),
                    _ => name.to_owned(),
                };
                all.push((format!("`{of}.{}`", short_name(function)), docs(&function.docs)));
            }
            for (of, definition) in &interface.types {
                for (member, _, comment) in self.members(*definition) {
                    all.push((format!("`{name}.{of}.{member}`"), docs(comment)));
                }
            }
        }
        all
    }

    /// Returns what has no comment.
    pub(super) fn undocumented(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let mut check = |name: String, docs: &Docs| {
            if docs.contents.as_deref().is_none_or(|text| text.trim().is_empty()) {
                missing.push(name);
            }
        };
        for (name, interface) in self.all() {
            check(format!("interface {name}"), &interface.docs);
            for function in interface.functions.values() {
                check(format!("{name}.{}", function.name), &function.docs);
            }
            for (of, id) in &interface.types {
                let definition = &self.resolve.types[*id];
                if !is_alias(definition) {
                    check(format!("{name}.{of}"), &definition.docs);
                }
                self.members(*id)
                    .into_iter()
                    .for_each(|(member, _, docs)| check(format!("{name}.{of}.{member}"), docs));
            }
        }
        for (name, id) in &self.resolve.packages[self.id].worlds {
            check(format!("world {name}"), &self.resolve.worlds[*id].docs);
        }
        missing
    }

    fn all(&self) -> impl Iterator<Item = (&str, &Interface)> {
        let interfaces = self.resolve.packages[self.id].interfaces.iter();
        interfaces.map(|(name, id)| (name.as_str(), &self.resolve.interfaces[*id]))
    }

    /// Returns interfaces in the order of the world that has all of them.
    fn of(&self, part: Part) -> impl Iterator<Item = (&str, &Interface)> {
        let world = &self.resolve.worlds[self.resolve.packages[self.id].worlds["everything"]];
        let items = if part == Part::Hook { &world.exports } else { &world.imports };
        let exported: BTreeSet<InterfaceId> = world.exports.values().filter_map(interface_of).collect();
        items.values().filter_map(interface_of).filter_map(move |id| {
            let interface = &self.resolve.interfaces[id];
            // What only has types and resources is imported together with the hook that uses it.
            let has_functions = interface.functions.values().any(|it| matches!(it.kind, FunctionKind::Freestanding));
            let of = match (exported.contains(&id), has_functions) {
                (true, _) => Part::Hook,
                (_, true) => Part::Import,
                _ => Part::Types,
            };
            (of == part).then_some((interface.name.as_deref()?, interface))
        })
    }

    fn interface(&self, name: &str, interface: &Interface) -> String {
        let mut text = format!("\n### {name}\n\n{}\n", docs(&interface.docs));
        let used = self.used(interface);
        if !used.is_empty() {
            text += &format!("\nUses {}.\n", used.join(", "));
        }
        for function in interface.functions.values().filter(|it| matches!(it.kind, FunctionKind::Freestanding)) {
            text += &self.function(function, None);
        }
        for (of, id) in &interface.types {
            let definition = &self.resolve.types[*id];
            if is_alias(definition) {
                continue;
            }
            text += &format!("\n#### {} `{of}`\n\n{}\n", definition.kind.as_str(), docs(&definition.docs));
            let members = self.members(*id);
            if !members.is_empty() {
                let title = if matches!(definition.kind, TypeDefKind::Record(_)) { "Field" } else { "Case" };
                text += &format!("\n| {title} | Type | Meaning |\n|---|---|---|\n");
            }
            for (member, of, docs) in members {
                let of = of.map(|of| format!("`{}`", self.name(&of))).unwrap_or_default();
                text += &format!("| `{member}` | {of} | {} |\n", cell(docs));
            }
            for function in interface.functions.values() {
                if let FunctionKind::Method(resource) | FunctionKind::Static(resource) = function.kind
                    && resource == *id
                {
                    text += &self.function(function, Some(of));
                }
            }
        }
        text
    }

    /// Returns the interfaces of used types, each with these types.
    fn used(&self, interface: &Interface) -> Vec<String> {
        let mut used: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, id) in &interface.types {
            if let TypeDefKind::Type(Type::Id(original)) = self.resolve.types[*id].kind
                && let wit_parser::TypeOwner::Interface(owner) = self.resolve.types[original].owner
            {
                let owner = self.resolve.interfaces[owner].name.as_deref().unwrap_or_default();
                used.entry(owner).or_default().push(format!("`{name}`"));
            }
        }
        used.into_iter().map(|(owner, names)| format!("{} of [`{owner}`](#{owner})", names.join(", "))).collect()
    }

    fn function(&self, function: &Function, of: Option<&str>) -> String {
        let parameters = function.params.iter().filter(|param| of.is_none() || param.name != "self");
        let parameters: Vec<_> = parameters.map(|param| format!("{}: {}", param.name, self.name(&param.ty))).collect();
        let result = function.result.map(|result| format!(" -> {}", self.name(&result))).unwrap_or_default();
        let name = short_name(function);
        let title = of.map_or(name.to_owned(), |of| format!("{of}.{name}"));
        let signature = format!("{name}: func({}){result};", parameters.join(", "));
        format!("\n#### `{title}`\n\n```wit\n{signature}\n```\n\n{}\n", docs(&function.docs))
    }

    /// Returns fields or cases with their types and comments.
    fn members(&self, id: TypeId) -> Vec<(&str, Option<Type>, &Docs)> {
        match &self.resolve.types[id].kind {
            TypeDefKind::Record(record) => {
                record.fields.iter().map(|it| (it.name.as_str(), Some(it.ty), &it.docs)).collect()
            }
            TypeDefKind::Variant(variant) => {
                variant.cases.iter().map(|it| (it.name.as_str(), it.ty, &it.docs)).collect()
            }
            TypeDefKind::Enum(cases) => cases.cases.iter().map(|it| (it.name.as_str(), None, &it.docs)).collect(),
            TypeDefKind::Flags(flags) => flags.flags.iter().map(|it| (it.name.as_str(), None, &it.docs)).collect(),
            _ => Vec::new(),
        }
    }

    /// Returns a type as in WIT.
    fn name(&self, of: &Type) -> String {
        let Type::Id(id) = of else { return format!("{of:?}").to_lowercase() };
        let definition = &self.resolve.types[*id];
        if let Some(name) = &definition.name {
            return name.clone();
        }
        let optional = |of: &Option<Type>| of.as_ref().map_or("_".to_owned(), |of| self.name(of));
        match &definition.kind {
            TypeDefKind::List(of) => format!("list<{}>", self.name(of)),
            TypeDefKind::Option(of) => format!("option<{}>", self.name(of)),
            TypeDefKind::Result(result) => match (&result.ok, &result.err) {
                (ok, Some(error)) => format!("result<{}, {}>", optional(ok), self.name(error)),
                (ok, None) => format!("result<{}>", optional(ok)),
            },
            TypeDefKind::Tuple(tuple) => {
                format!("tuple<{}>", tuple.types.iter().map(|of| self.name(of)).collect::<Vec<_>>().join(", "))
            }
            TypeDefKind::Handle(Handle::Own(id) | Handle::Borrow(id)) => self.name(&Type::Id(*id)),
            other => panic!("the reference cannot name a {}", other.as_str()),
        }
    }
}

fn interface_of(item: &WorldItem) -> Option<InterfaceId> {
    match item {
        WorldItem::Interface { id, .. } => Some(*id),
        WorldItem::Function(_) | WorldItem::Type { .. } => None,
    }
}

/// Returns whether a type is that of another interface, under a name of this one.
fn is_alias(definition: &TypeDef) -> bool {
    matches!(definition.kind, TypeDefKind::Type(_))
}

/// Returns the name of a function without that of its resource.
fn short_name(function: &Function) -> &str {
    function.name.rsplit('.').next().unwrap_or_default()
}

fn docs(docs: &Docs) -> String {
    docs.contents.as_deref().unwrap_or_default().trim().to_owned()
}

/// Returns a comment as one line of a table.
fn cell(docs: &Docs) -> String {
    self::docs(docs).split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
