//! The tables of the store, all declared here.
//!
//! A key begins with the environment, or whatever else owns the record, so that everything of one owner can be read or
//! removed together. A name ends in the version of the layout of its keys and values: a new layout gets a new name, and
//! what is stored under the old one is not read.

use std::marker::PhantomData;

/// A table, whose keys are sequences of parts and whose values have one type.
pub struct Table<V> {
    name: &'static str,
    value: PhantomData<fn() -> V>,
}

/// The name of a table, to which its user adds the type of the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableName(&'static str);

/// What is known of an environment besides its data. Key: environment, kind of record.
pub const ENVIRONMENTS: TableName = TableName("environments.1");
/// Last good data: flags, segments and the like. Key: environment, kind of item, key of the item.
pub const ITEMS: TableName = TableName("items.1");
/// Targets that upstream listed. Key: environment, identifier of the target.
pub const TARGETS: TableName = TableName("targets.1");
/// Sealed lists of environments. Key: the source of the list.
pub const LISTS: TableName = TableName("lists.1");
/// What is known of compiled plugins, whose code is in files. Key: engine, digest of the component.
pub const COMPILED_PLUGINS: TableName = TableName("compiled-plugins.1");
/// Components that are not compiled, and why. Key: engine, digest of the component.
pub const PLUGIN_QUARANTINE: TableName = TableName("plugin-quarantine.1");
/// Events that wait to be sent. Key: environment, lane, number.
pub const EVENTS: TableName = TableName("events.1");
/// Values that plugins store. Key: plugin, key of the plugin.
pub const PLUGIN_VALUES: TableName = TableName("plugin-values.1");
/// What the host knows of plugins, such as which version was active. Key: plugin.
pub const PLUGIN_STATES: TableName = TableName("plugin-states.1");

impl TableName {
    /// Returns the table with values of the type `V`. A table has values of one type only.
    #[must_use]
    pub const fn of<V>(self) -> Table<V> {
        Table { name: self.0, value: PhantomData }
    }
}

impl<V> Table<V> {
    pub(super) const fn name(self) -> &'static str {
        self.name
    }
}

impl<V> Clone for Table<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Table<V> {}
