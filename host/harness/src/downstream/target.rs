//! The target of an evaluation: where it comes from, what plugins add to it, and how they see it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use yardarm_core::hooks::{ContextAttribute, ContextView, EnrichmentFacts, HookFailure};
use yardarm_core::workers::SlowDrop;
use yardarm_harness_eval::lenient_json;
use yardarm_harness_eval::model::Target;

use super::auth::Caller;
use super::rejection::Rejection;
use super::state::{Downstream, is_large};

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Returns the target that the SDK sends in a header, or the known target of the identifier in the path, which another
/// gateway may have shared, or one with nothing but that identifier; with the attributes that plugins add.
pub(super) async fn target(
    downstream: &Downstream,
    caller: &Caller,
    path: &[(String, String)],
    headers: &HeaderMap,
) -> Result<Arc<SlowDrop<Target>>, Rejection> {
    let target = sent_target(downstream, caller, path, headers).await?;
    Ok(enriched(caller, target).await?)
}

async fn sent_target(
    downstream: &Downstream,
    caller: &Caller,
    path: &[(String, String)],
    headers: &HeaderMap,
) -> Result<Arc<SlowDrop<Target>>, Rejection> {
    if let Some(header) = headers.get("harness-target").cloned() {
        let is_large = is_large(header.len());
        let target = downstream.work(is_large, move || from_header(header.as_bytes())).await?;
        if let Some(target) = target {
            return Ok(Arc::new(SlowDrop::new(target, is_large.then(|| downstream.readers.clone()))));
        }
    }
    let identifier = path.iter().find(|(name, _)| name == "target").map_or("", |(_, target)| target);
    let known = match (caller.environment.targets.find(identifier), &downstream.shared) {
        // Another gateway may have been presented it.
        (None, Some(shared)) => shared.find_target(&caller.environment.identity.id, identifier).await,
        (known, _) => known,
    };
    let target = known.unwrap_or_else(|| Target::unknown(identifier));
    Ok(Arc::new(SlowDrop::new(target, None)))
}

/// Returns the target with the attributes that enrichment plugins set.
///
/// # Errors
/// When a required plugin fails, or sets a name that is no text.
async fn enriched(caller: &Caller, target: Arc<SlowDrop<Target>>) -> Result<Arc<SlowDrop<Target>>, HookFailure> {
    let hooks = caller.admitted.plan.environment(&caller.environment.label);
    let Some(chain) = &hooks.context_enrichment else { return Ok(target) };
    let facts = EnrichmentFacts { request: caller.admitted.request.clone() };
    let attributes = chain.enrich(&facts, Arc::new(TargetView(Arc::clone(&target)))).await?;
    if attributes.is_empty() {
        return Ok(target);
    }
    // Copied only if a plugin's call that was given up still reads it.
    let mut target = Arc::unwrap_or_clone(target);
    for ContextAttribute { name, value, .. } in attributes {
        match serde_json::from_slice(&value).map_err(|_| invalid_output("enrichment chain"))? {
            serde_json::Value::String(text) if name == NAME => target.name = text,
            _ if name == NAME => return Err(invalid_output("enrichment chain")),
            value => _ = target.attributes.insert(name, value),
        }
    }
    Ok(Arc::new(target))
}

/// Reads base64 of JSON; `None` if it cannot be read, which is the same as absent.
fn from_header(header: &[u8]) -> Option<Target> {
    lenient_json::from_slice(&LENIENT.decode(header).ok()?).ok()
}

/// Returns the failure of a chain whose reply cannot be served.
pub(super) fn invalid_output(chain: &str) -> HookFailure {
    HookFailure { plugin: chain.into(), class: "output-invalid" }
}

/// A target as plugins see it.
pub(super) struct TargetView(pub(super) Arc<SlowDrop<Target>>);

/// The kind of every target.
const TARGET: &str = "target";
/// The display name, beside the attributes.
const NAME: &str = "name";

impl ContextView for TargetView {
    fn kinds(&self) -> Vec<&str> {
        vec![TARGET]
    }

    fn key(&self, kind: &str) -> Option<&str> {
        (kind == TARGET).then_some(&*self.0.identifier)
    }

    fn canonical_key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0.identifier)
    }

    fn attributes(&self, kind: &str) -> Vec<String> {
        let own = self.0.attributes.keys().cloned();
        let names: BTreeSet<String> = own.chain((!self.0.name.is_empty()).then(|| NAME.to_owned())).collect();
        names.into_iter().filter(|_| kind == TARGET).collect()
    }

    fn attribute(&self, kind: &str, name: &str) -> Option<String> {
        let name_of_target = || Some(&self.0.name).filter(|it| name == NAME && !it.is_empty());
        let text = |name: &String| serde_json::to_string(name).ok();
        let own = self.0.attributes.get(name).map(ToString::to_string);
        own.or_else(|| name_of_target().and_then(text)).filter(|_| kind == TARGET)
    }
}

#[cfg(fuzzing)]
pub(super) fn fuzz(header: &[u8]) {
    let _ = from_header(header);
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_panic(header in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
            from_header(&header);
        }
    }
}
