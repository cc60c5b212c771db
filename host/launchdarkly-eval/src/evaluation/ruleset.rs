//! All flags and segments of an environment at one moment, compiled.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::Audience;
use super::dependants::Dependants;
use super::flag::CompiledFlag;
use super::segment::CompiledSegment;
use super::symbols::{Interner, Symbols};
use crate::model::{self, Context, Part};

/// Names of removed items are dropped when there are this many more names than twice the number at the last rebuild.
const SPARE_NAMES: usize = 4096;

/// Everything compiled for one environment at one moment; immutable and shared between threads.
///
/// A ruleset built from a previous one shares all unchanged items with it: a change of one flag takes the
/// compilation of that flag and a list of pointers.
pub struct Ruleset {
    symbols: Arc<Symbols>,
    /// The number of names when numbering last restarted.
    names_at_start: usize,
    /// By number; nothing at the numbers of flags that do not exist.
    flags: Box<[Option<Arc<CompiledFlag>>]>,
    segments: Box<[Option<Arc<CompiledSegment>>]>,
    /// The numbers of the flags that each audience may see, sorted by key.
    server: Box<[u32]>,
    mobile: Box<[u32]>,
    browser: Box<[u32]>,
    has_big_segments: bool,
    /// Numbers of the kinds whose keys Big Segments hold.
    big_kinds: Box<[u32]>,
    /// Computed on first use, because most rulesets never need it.
    dependants: OnceLock<Dependants>,
}

impl Ruleset {
    /// Compiles `flags` and `segments`, which must be sorted by key; tombstones among them do not count.
    ///
    /// Items that `previous` was built from (the same allocation, not only the same content) are taken over as they are.
    #[must_use]
    pub fn build(previous: Option<&Self>, flags: &[Arc<model::Flag>], segments: &[Arc<model::Segment>]) -> Self {
        let flags: Vec<_> = flags.iter().filter(|flag| !flag.is_deleted()).collect();
        let segments: Vec<_> = segments.iter().filter(|segment| !segment.is_deleted()).collect();
        let previous = previous.filter(|it| it.symbols.len() <= 2 * it.names_at_start + SPARE_NAMES);

        let known_flags: Vec<_> = flags.iter().map(|flag| previous?.compiled_flag(flag)).collect();
        let known_segments: Vec<_> = segments.iter().map(|segment| previous?.compiled_segment(segment)).collect();
        let known = known_flags.iter().flatten().count() + known_segments.iter().flatten().count();
        // When no item remains, old names have no use.
        let previous = previous.filter(|_| known > 0);

        let mut interner = Interner::new(previous.map(|it| Arc::clone(&it.symbols)));
        let compiled_flags: Vec<_> = flags
            .iter()
            .zip(known_flags)
            .map(|(flag, known)| {
                let compiled = known.map_or_else(|| Arc::new(CompiledFlag::compile(flag, &mut interner)), Arc::clone);
                (interner.flag(flag.key()), compiled)
            })
            .collect();
        let compiled_segments: Vec<_> = segments
            .iter()
            .zip(known_segments)
            .map(|(segment, known)| {
                let compiled =
                    known.map_or_else(|| Arc::new(CompiledSegment::compile(segment, &mut interner)), Arc::clone);
                (interner.segment(segment.key()), compiled)
            })
            .collect();
        let symbols = interner.finish();

        let visible_to = |audience: Audience| -> Box<[u32]> {
            let visible = compiled_flags.iter().filter(|(_, flag)| flag.source().visible_to(audience));
            visible.map(|(number, _)| *number).collect()
        };
        let mut big_kinds: Vec<_> = compiled_segments.iter().filter_map(|(_, it)| it.looked_up_kind()).collect();
        big_kinds.sort_unstable();
        big_kinds.dedup();
        Self {
            names_at_start: previous.map_or(symbols.len(), |it| it.names_at_start),
            server: visible_to(Audience::Server),
            mobile: visible_to(Audience::Mobile),
            browser: visible_to(Audience::Browser),
            has_big_segments: segments.iter().any(|segment| segment.is_unbounded()),
            big_kinds: big_kinds.into(),
            flags: by_number(compiled_flags, symbols.flags.values().len()),
            segments: by_number(compiled_segments, symbols.segments.values().len()),
            dependants: OnceLock::new(),
            symbols,
        }
    }

    /// Whether any segment is a Big Segment.
    #[must_use]
    pub fn has_big_segments(&self) -> bool {
        self.has_big_segments
    }

    /// The keys of `context` that may have to be looked up in a Big Segment store, each once.
    #[must_use]
    pub fn big_segment_keys<'a>(&self, context: &'a Context) -> Vec<&'a str> {
        let kinds = self.big_kinds.iter().filter_map(|kind| self.symbols.kinds.values().get(*kind as usize));
        let mut keys: Vec<_> = kinds.filter_map(|kind| context.part(kind)).map(Part::key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The keys of the flags whose results a change of this flag can affect, itself included, sorted.
    #[must_use]
    pub fn affected_by_flag(&self, key: &str) -> Vec<Arc<str>> {
        let number = self.symbols.flags.get(key);
        self.keys(number.map(|number| self.dependants().of_flag(number)).unwrap_or_default())
    }

    /// The keys of the flags whose results a change of this segment can affect, sorted.
    #[must_use]
    pub fn affected_by_segment(&self, key: &str) -> Vec<Arc<str>> {
        let number = self.symbols.segments.get(key);
        self.keys(number.map(|number| self.dependants().of_segment(number)).unwrap_or_default())
    }

    /// The numbers of the flags that `audience` may see, sorted by key.
    pub(super) fn visible_to(&self, audience: Audience) -> &[u32] {
        match audience {
            Audience::Server => &self.server,
            Audience::Mobile => &self.mobile,
            Audience::Browser => &self.browser,
        }
    }

    /// The place of the flag `key` among those that `audience` may see, or the place where it would be.
    pub fn visible_position(&self, key: &str, audience: Audience) -> Result<usize, usize> {
        let key_of = |number: &u32| self.flag(*number).map_or("", |flag| flag.source().key());
        self.visible_to(audience).binary_search_by(|number| key_of(number).cmp(key))
    }

    /// The keys of the flags that `audience` may see, sorted.
    pub fn visible_keys(&self, audience: Audience) -> impl Iterator<Item = &Arc<str>> {
        self.visible_to(audience).iter().filter_map(|number| Some(self.flag(*number)?.source().key()))
    }

    /// How many flags `audience` may see.
    #[must_use]
    pub fn visible_count(&self, audience: Audience) -> usize {
        self.visible_to(audience).len()
    }

    /// The number of the flag `key`, if it exists and `audience` may see it.
    pub(super) fn visible_flag(&self, key: &str, audience: Audience) -> Option<u32> {
        let number = self.symbols.flags.get(key)?;
        self.flag(number)?.source().visible_to(audience).then_some(number)
    }

    pub(super) fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    pub(super) fn flag(&self, number: u32) -> Option<&CompiledFlag> {
        self.flags.get(number as usize)?.as_deref()
    }

    pub(super) fn segment(&self, number: u32) -> Option<&CompiledSegment> {
        self.segments.get(number as usize)?.as_deref()
    }

    pub(super) fn flag_count(&self) -> usize {
        self.flags.len()
    }

    pub(super) fn segment_count(&self) -> usize {
        self.segments.len()
    }

    fn compiled_flag(&self, source: &Arc<model::Flag>) -> Option<&Arc<CompiledFlag>> {
        let compiled = self.flags.get(self.symbols.flags.get(&**source.key())? as usize)?.as_ref()?;
        Arc::ptr_eq(compiled.source(), source).then_some(compiled)
    }

    fn compiled_segment(&self, source: &Arc<model::Segment>) -> Option<&Arc<CompiledSegment>> {
        let compiled = self.segments.get(self.symbols.segments.get(&**source.key())? as usize)?.as_ref()?;
        Arc::ptr_eq(compiled.source(), source).then_some(compiled)
    }

    fn dependants(&self) -> &Dependants {
        self.dependants.get_or_init(|| Dependants::of(&self.flags, &self.segments))
    }

    fn keys(&self, numbers: Vec<u32>) -> Vec<Arc<str>> {
        let flags = numbers.into_iter().filter(|number| self.flag(*number).is_some());
        let mut keys: Vec<_> =
            flags.filter_map(|number| self.symbols.flags.values().get(number as usize)).cloned().collect();
        keys.sort_unstable();
        keys
    }
}

impl fmt::Debug for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ruleset")
            .field("flags", &self.server.len())
            .field("segments", &self.segments.iter().flatten().count())
            .finish_non_exhaustive()
    }
}

/// Puts each item at its number.
fn by_number<T>(items: Vec<(u32, Arc<T>)>, count: usize) -> Box<[Option<Arc<T>>]> {
    let mut table: Vec<_> = std::iter::repeat_with(|| None).take(count).collect();
    for (number, item) in items {
        if let Some(place) = table.get_mut(number as usize) {
            *place = Some(item);
        }
    }
    table.into()
}

#[cfg(test)]
mod tests;
