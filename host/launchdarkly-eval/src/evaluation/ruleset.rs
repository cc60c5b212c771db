//! All flags and segments of an environment at one moment, compiled.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use imbl::Vector;

use super::Audience;
use super::dependants::Dependants;
use super::flag::CompiledFlag;
use super::segment::CompiledSegment;
use super::symbols::Symbols;
use super::visible::{FlagList, VisibleFlags};
use crate::model::{self, Context, Part};

/// Names of removed items are dropped when there are this many more names than twice the number at the last rebuild.
const SPARE_NAMES: usize = 4096;

/// Everything compiled for one environment at one moment; immutable and shared between threads.
///
/// A ruleset that follows from another one shares all unchanged items with it: a change of one flag takes the compilation
/// of that flag and copies of a few tree nodes, whatever the number of flags.
pub struct Ruleset {
    symbols: Arc<Symbols>,
    /// The number of names when numbering last restarted.
    names_at_start: usize,
    /// By number; nothing at the numbers of flags that do not exist.
    flags: Vector<Option<Arc<CompiledFlag>>>,
    segments: Vector<Option<Arc<CompiledSegment>>>,
    visible: VisibleFlags,
    big_segments: BigSegmentCount,
    /// Computed on first use, because most rulesets never need it.
    dependants: OnceLock<Dependants>,
}

/// The Big Segments of a ruleset.
#[derive(Debug, Clone, Default)]
struct BigSegmentCount {
    all: usize,
    /// By the number of the kind whose keys they hold. Kinds are few.
    by_kind: BTreeMap<u32, usize>,
}

impl Ruleset {
    /// Compiles `flags` and `segments`, which must be sorted by key; tombstones among them do not count.
    ///
    /// Items that `previous` was built from (the same allocation, not only the same content) are taken over as they are.
    #[must_use]
    pub fn build(previous: Option<&Self>, flags: &[Arc<model::Flag>], segments: &[Arc<model::Segment>]) -> Self {
        let previous = previous.filter(|it| !it.has_too_many_names());
        let is_known = |previous: &&Self| {
            flags.iter().any(|it| previous.has_flag(it)) || segments.iter().any(|it| previous.has_segment(it))
        };
        // When no item remains, old names have no use.
        match previous.filter(is_known) {
            Some(previous) => previous.changed_to(flags, segments),
            None => Self::compile(flags, segments),
        }
    }

    /// The ruleset in which `flag` replaces the flag with its key; a tombstone removes it.
    ///
    /// `None` if so many names of removed items have gathered that everything has to be compiled again.
    #[must_use]
    pub fn with_flag(&self, flag: &Arc<model::Flag>) -> Option<Self> {
        (!self.has_too_many_names()).then(|| {
            let mut next = self.clone();
            next.set_flag(flag.key(), Some(flag).filter(|it| !it.is_deleted()));
            next
        })
    }

    /// The ruleset in which `segment` replaces the segment with its key; a tombstone removes it.
    ///
    /// `None` if so many names of removed items have gathered that everything has to be compiled again.
    #[must_use]
    pub fn with_segment(&self, segment: &Arc<model::Segment>) -> Option<Self> {
        (!self.has_too_many_names()).then(|| {
            let mut next = self.clone();
            next.set_segment(segment.key(), Some(segment).filter(|it| !it.is_deleted()));
            next
        })
    }

    fn compile(flags: &[Arc<model::Flag>], segments: &[Arc<model::Segment>]) -> Self {
        let symbols = Symbols::new();
        let flags = flags.iter().filter(|flag| !flag.is_deleted());
        let flags: Vec<_> = flags.map(|flag| Arc::new(CompiledFlag::compile(flag, &symbols))).collect();
        let segments = segments.iter().filter(|segment| !segment.is_deleted());
        let segments: Vec<_> = segments.map(|it| Arc::new(CompiledSegment::compile(it, &symbols))).collect();
        let mut big_segments = BigSegmentCount::default();
        segments.iter().for_each(|it| big_segments.add(it));
        Self {
            names_at_start: symbols.len(),
            visible: VisibleFlags::default(),
            flags: by_number(flags, symbols.flags.len(), |it| it.number),
            segments: by_number(segments, symbols.segments.len(), |it| it.number),
            big_segments,
            dependants: OnceLock::new(),
            symbols: Arc::new(symbols),
        }
    }

    fn changed_to(&self, flags: &[Arc<model::Flag>], segments: &[Arc<model::Segment>]) -> Self {
        let mut next = self.clone();
        for key in self.flags.iter().flatten().map(|it| it.source().key()) {
            if flags.binary_search_by(|it| it.key().cmp(key)).is_err() {
                next.set_flag(key, None);
            }
        }
        for key in self.segments.iter().flatten().map(|it| it.source().key()) {
            if segments.binary_search_by(|it| it.key().cmp(key)).is_err() {
                next.set_segment(key, None);
            }
        }
        for flag in flags.iter().filter(|it| !self.has_flag(it)) {
            next.set_flag(flag.key(), Some(flag).filter(|it| !it.is_deleted()));
        }
        for segment in segments.iter().filter(|it| !self.has_segment(it)) {
            next.set_segment(segment.key(), Some(segment).filter(|it| !it.is_deleted()));
        }
        next
    }

    fn set_flag(&mut self, key: &str, source: Option<&Arc<model::Flag>>) {
        let new = source.map(|it| Arc::new(CompiledFlag::compile(it, &self.symbols)));
        let Some(number) = self.symbols.flags.get(key) else { return };
        // Compilation may have numbered flags and segments that do not exist.
        extend(&mut self.flags, self.symbols.flags.len());
        extend(&mut self.segments, self.symbols.segments.len());
        let old = self.flags.get_mut(number as usize).and_then(|it| std::mem::replace(it, new.clone()));
        self.visible.replace(key, old.as_deref(), new.as_ref());
        if let Some(dependants) = self.dependants.get_mut() {
            dependants.replace_flag(number, old.as_deref(), new.as_deref());
        }
    }

    fn set_segment(&mut self, key: &str, source: Option<&Arc<model::Segment>>) {
        let new = source.map(|it| Arc::new(CompiledSegment::compile(it, &self.symbols)));
        let Some(number) = self.symbols.segments.get(key) else { return };
        extend(&mut self.segments, self.symbols.segments.len());
        let old = self.segments.get_mut(number as usize).and_then(|it| std::mem::replace(it, new.clone()));
        old.iter().for_each(|it| self.big_segments.remove(it));
        new.iter().for_each(|it| self.big_segments.add(it));
        if let Some(dependants) = self.dependants.get_mut() {
            dependants.replace_segment(number, old.as_deref(), new.as_deref());
        }
    }

    /// Whether any segment is a Big Segment.
    #[must_use]
    pub fn has_big_segments(&self) -> bool {
        self.big_segments.all > 0
    }

    /// The keys of `context` that may have to be looked up in a Big Segment store, each once.
    #[must_use]
    pub fn big_segment_keys<'a>(&self, context: &'a Context) -> Vec<&'a str> {
        let kinds = self.big_segments.by_kind.keys().filter_map(|kind| self.symbols.kinds.value(*kind));
        let mut keys: Vec<_> = kinds.filter_map(|kind| context.part(kind)).map(Part::key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The keys of the flags whose results a change of this flag can affect, itself included, sorted.
    #[must_use]
    pub fn affected_by_flag(&self, key: &str) -> Vec<Arc<str>> {
        let number = self.symbols.flags.get(key);
        self.keys(number.into_iter().flat_map(|number| self.dependants().of_flag(number)))
    }

    /// The keys of the flags whose results a change of this segment can affect, sorted.
    #[must_use]
    pub fn affected_by_segment(&self, key: &str) -> Vec<Arc<str>> {
        let number = self.symbols.segments.get(key);
        self.keys(number.into_iter().flat_map(|number| self.dependants().of_segment(number)))
    }

    /// The flags that `audience` may see, sorted by key.
    pub(super) fn visible_to(&self, audience: Audience) -> &FlagList {
        self.visible.to(audience, self.flags.iter().flatten())
    }

    /// The place of the flag `key` among those that `audience` may see, or the place where it would be.
    pub fn visible_position(&self, key: &str, audience: Audience) -> Result<usize, usize> {
        self.visible_to(audience).position(key)
    }

    /// The keys of the flags that `audience` may see, sorted.
    pub fn visible_keys(&self, audience: Audience) -> impl Iterator<Item = &Arc<str>> {
        self.visible_to(audience).iter().map(|flag| flag.source().key())
    }

    /// How many flags `audience` may see.
    #[must_use]
    pub fn visible_count(&self, audience: Audience) -> usize {
        self.visible_to(audience).len()
    }

    /// The flag `key`, if it exists and `audience` may see it.
    pub(super) fn visible_flag(&self, key: &str, audience: Audience) -> Option<&CompiledFlag> {
        self.flag(self.symbols.flags.get(key)?).filter(|flag| flag.source().visible_to(audience))
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

    fn has_too_many_names(&self) -> bool {
        self.symbols.len() > 2 * self.names_at_start + SPARE_NAMES
    }

    /// Whether this was built from `source`; a tombstone stands for no flag.
    fn has_flag(&self, source: &Arc<model::Flag>) -> bool {
        let compiled = self.symbols.flags.get(&**source.key()).and_then(|number| self.flag(number));
        compiled.is_some_and(|it| Arc::ptr_eq(it.source(), source))
    }

    fn has_segment(&self, source: &Arc<model::Segment>) -> bool {
        let compiled = self.symbols.segments.get(&**source.key()).and_then(|number| self.segment(number));
        compiled.is_some_and(|it| Arc::ptr_eq(it.source(), source))
    }

    fn dependants(&self) -> &Dependants {
        self.dependants.get_or_init(|| {
            let mut dependants = Dependants::default();
            self.flags.iter().flatten().for_each(|it| dependants.replace_flag(it.number, None, Some(it)));
            self.segments.iter().flatten().for_each(|it| dependants.replace_segment(it.number, None, Some(it)));
            dependants
        })
    }

    fn keys(&self, flags: impl Iterator<Item = u32>) -> Vec<Arc<str>> {
        // Flags that do not exist have numbers too.
        let mut keys: Vec<_> = flags.filter_map(|number| Some(Arc::clone(self.flag(number)?.source().key()))).collect();
        keys.sort_unstable();
        keys
    }
}

impl Clone for Ruleset {
    /// Shares everything with the original.
    fn clone(&self) -> Self {
        Self {
            symbols: Arc::clone(&self.symbols),
            names_at_start: self.names_at_start,
            flags: self.flags.clone(),
            segments: self.segments.clone(),
            visible: self.visible.clone(),
            big_segments: self.big_segments.clone(),
            dependants: self.dependants.clone(),
        }
    }
}

impl BigSegmentCount {
    fn add(&mut self, segment: &CompiledSegment) {
        self.all += usize::from(segment.source().is_unbounded());
        if let Some(kind) = segment.looked_up_kind() {
            *self.by_kind.entry(kind).or_default() += 1;
        }
    }

    fn remove(&mut self, segment: &CompiledSegment) {
        self.all -= usize::from(segment.source().is_unbounded());
        if let Some(kind) = segment.looked_up_kind()
            && let Some(count) = self.by_kind.get_mut(&kind)
        {
            *count -= 1;
            if *count == 0 {
                self.by_kind.remove(&kind);
            }
        }
    }
}

impl fmt::Debug for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ruleset")
            .field("flags", &self.flags.iter().flatten().count())
            .field("segments", &self.segments.iter().flatten().count())
            .finish_non_exhaustive()
    }
}

/// Puts each item at its number.
fn by_number<T>(items: Vec<Arc<T>>, count: usize, number: impl Fn(&T) -> u32) -> Vector<Option<Arc<T>>> {
    let mut table: Vec<_> = std::iter::repeat_with(|| None).take(count).collect();
    for item in items {
        if let Some(place) = table.get_mut(number(&item) as usize) {
            *place = Some(item);
        }
    }
    table.into_iter().collect()
}

fn extend<T>(table: &mut Vector<Option<Arc<T>>>, count: usize) {
    while table.len() < count {
        table.push_back(None);
    }
}

#[cfg(test)]
mod tests;
