//! Segments: named groups of contexts.

use std::sync::Arc;

use super::bucket::{Bucketing, fraction};
use super::clause::CompiledClause;
use super::symbols::Interner;
use crate::model::{self, KindKeys};

/// A segment, compiled.
#[derive(Debug)]
pub(super) struct CompiledSegment {
    source: Arc<model::Segment>,
    /// The kinds of the entries of `includedContexts` and `excludedContexts`.
    pub(super) included_kinds: Box<[u32]>,
    pub(super) excluded_kinds: Box<[u32]>,
    pub(super) rules: Box<[CompiledSegmentRule]>,
    pub(super) big: Option<Big>,
}

#[derive(Debug)]
pub(super) struct CompiledSegmentRule {
    pub(super) clauses: Box<[CompiledClause]>,
    pub(super) rollout: Option<RuleShare>,
}

#[derive(Debug)]
pub(super) enum RuleShare {
    Share { limit: f32, bucketing: Bucketing },
    Malformed,
}

/// The properties of a Big Segment in place of key lists.
#[derive(Debug)]
pub(super) struct Big {
    pub(super) kind: u32,
    /// The name of the segment in stores; `None` if it cannot be looked up.
    pub(super) reference: Option<Box<str>>,
}

impl CompiledSegment {
    /// Compiles `source`.
    pub(super) fn compile(source: &Arc<model::Segment>, interner: &mut Interner) -> Self {
        let body = source.body();
        let mut kinds = |entries: &[KindKeys]| entries.iter().map(|entry| interner.kind(&entry.context_kind)).collect();
        let (included_kinds, excluded_kinds) = (kinds(&body.included_contexts), kinds(&body.excluded_contexts));
        let prefix = format!("{}.{}.", source.name(), body.salt);
        let rules = body.rules.iter().map(|rule| CompiledSegmentRule {
            clauses: rule.clauses.iter().map(|clause| CompiledClause::compile(clause, interner)).collect(),
            rollout: rule.weight.map(|weight| {
                Bucketing::compile(&prefix, &rule.rollout_context_kind, &rule.bucket_by, true, interner)
                    .map_or(RuleShare::Malformed, |bucketing| RuleShare::Share { limit: fraction(weight), bucketing })
            }),
        });
        Self {
            included_kinds,
            excluded_kinds,
            rules: rules.collect(),
            big: body.unbounded.then(|| Big {
                kind: interner.kind(&body.unbounded_context_kind),
                reference: body.generation.map(|generation| format!("{}.g{generation}", source.name()).into()),
            }),
            source: Arc::clone(source),
        }
    }

    /// The segment that it was compiled from.
    pub(super) fn source(&self) -> &Arc<model::Segment> {
        &self.source
    }

    /// The number of the kind whose keys are looked up in the store, if this is a Big Segment that can be looked up.
    pub(super) fn looked_up_kind(&self) -> Option<u32> {
        self.big.as_ref().filter(|big| big.reference.is_some()).map(|big| big.kind)
    }

    /// The numbers of the segments that its rules refer to.
    pub(super) fn segments(&self) -> impl Iterator<Item = u32> {
        self.rules.iter().flat_map(|rule| &rule.clauses).flat_map(CompiledClause::segments).copied()
    }
}
