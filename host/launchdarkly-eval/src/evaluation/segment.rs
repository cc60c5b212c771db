//! Segments: named groups of contexts.

use std::sync::Arc;

use super::bucket::fraction;
use super::clause::{ClauseCompiler, Clauses};
use super::symbols::Symbols;
use crate::model::{self, KeySet, KindKeys};

/// A segment, compiled.
#[derive(Debug)]
pub(super) struct CompiledSegment {
    source: Arc<model::Segment>,
    /// The number of its key.
    pub(super) number: u32,
    /// Keys of users.
    pub(super) included: KeySet,
    pub(super) excluded: KeySet,
    pub(super) included_contexts: Box<[CompiledKeys]>,
    pub(super) excluded_contexts: Box<[CompiledKeys]>,
    pub(super) rules: Box<[CompiledSegmentRule]>,
    /// `key.salt.`, the start of the hash input of rules.
    pub(super) prefix: Box<str>,
    pub(super) clauses: Clauses,
    pub(super) big: Option<Big>,
}

/// Keys of contexts of one kind.
#[derive(Debug)]
pub(super) struct CompiledKeys {
    pub(super) kind: u32,
    pub(super) keys: KeySet,
}

#[derive(Debug)]
pub(super) struct CompiledSegmentRule {
    /// The end of its clauses, which begin where those of the previous rule end.
    pub(super) clauses_end: u32,
    pub(super) rollout: Option<RuleShare>,
}

#[derive(Debug)]
pub(super) enum RuleShare {
    /// The contexts whose bucket, by the attribute with this number, is below the limit.
    Share {
        limit: f32,
        attribute: u32,
    },
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
    pub(super) fn compile(source: &Arc<model::Segment>, symbols: &Symbols) -> Self {
        let body = source.body();
        let keys = |entries: Vec<KindKeys>| {
            let compile = |entry: KindKeys| CompiledKeys { kind: symbols.kind(&entry.context_kind), keys: entry.keys };
            entries.into_iter().map(compile).collect()
        };
        let mut clauses = ClauseCompiler::default();
        let rules = body.rules.iter().map(|rule| CompiledSegmentRule {
            clauses_end: clauses.add(&rule.clauses, symbols),
            rollout: rule.weight.map(|weight| {
                let attribute = if rule.bucket_by.is_empty() { "key" } else { &*rule.bucket_by };
                symbols
                    .attribute(&rule.rollout_context_kind, attribute)
                    .map_or(RuleShare::Malformed, |attribute| RuleShare::Share { limit: fraction(weight), attribute })
            }),
        });
        Self {
            source: Arc::clone(source),
            number: symbols.segment(source.key()),
            rules: rules.collect(),
            prefix: format!("{}.{}.", source.name(), body.salt).into(),
            clauses: clauses.finish(),
            included: body.included,
            excluded: body.excluded,
            included_contexts: keys(body.included_contexts),
            excluded_contexts: keys(body.excluded_contexts),
            big: body.unbounded.then(|| Big {
                kind: symbols.kind(&body.unbounded_context_kind),
                reference: body.generation.map(|generation| format!("{}.g{generation}", source.name()).into()),
            }),
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
        self.clauses.segments()
    }
}
