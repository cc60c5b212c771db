//! An event filter in Rust: drops events of configured kinds and blanks one attribute of contexts.

use yardarm_plugin::json::Object;
use yardarm_plugin::{Event, EventEdit, EventFilter, Events, Plugin, Request, Result, Verdict, log, metrics};

const REDACTED: &str = r#""[redacted]""#;

/// The configuration, as under `plugin.config` in the binding file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Kinds of events to drop.
    #[serde(default)]
    drop_kinds: Vec<String>,
    /// The attribute to blank; needs the grant `event-bodies`.
    #[serde(default, deserialize_with = "text")]
    attribute: Option<String>,
}

struct Filter(Config);

impl Plugin for Filter {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Self(config))
    }
}

impl EventFilter for Filter {
    fn filter(&self, _: &dyn Request, event: &Event) -> Result<Verdict> {
        if event.kind.as_ref().is_some_and(|kind| self.0.drop_kinds.contains(kind)) {
            return Ok(Verdict::Drop);
        }
        let Some(attribute) = &self.0.attribute else { return Ok(Verdict::Keep) };
        // An error without the grant: a filter that cannot read an event must not let it pass.
        let mut body = Object::parse(event.body()?)?;
        Ok(if redact_event(&mut body, attribute)? { Verdict::replace(body) } else { Verdict::Keep })
    }

    fn filter_batch(&self, request: &dyn Request, events: &dyn Events) -> Result<Vec<EventEdit>> {
        let mut edits = Vec::new();
        for (event, index) in events.all().iter().zip(0..) {
            match self.filter(request, event)? {
                Verdict::Keep => (),
                Verdict::Drop => edits.push(EventEdit::Drop(index)),
                Verdict::Replace(bodies) => edits.push(EventEdit::Replace { index, bodies }),
            }
        }
        let dropped = edits.iter().filter(|edit| matches!(edit, EventEdit::Drop(_))).count();
        if dropped > 0 {
            metrics::count("dropped_total", dropped as u64, &[]);
            log::debug!("{dropped} events dropped in {}", request.environment());
        }
        Ok(edits)
    }
}

/// Blanks the attribute in all contexts of an event; returns whether there was one.
fn redact_event(body: &mut Object<'_>, attribute: &str) -> Result<bool> {
    let in_context = edit_member(body, "context", |context| redact_contexts(context, attribute))?;
    let in_user = edit_member(body, "user", |user| redact_context(user, attribute))?;
    Ok(in_context || in_user)
}

/// Redacts a context, or those inside a context of kind `multi`.
fn redact_contexts(context: &mut Object<'_>, attribute: &str) -> Result<bool> {
    if context.text("kind").as_deref() != Some("multi") {
        return redact_context(context, attribute);
    }
    let kinds: Vec<String> = context.iter().map(|member| member.name().to_owned()).collect();
    let mut is_changed = false;
    for kind in kinds {
        is_changed |= edit_member(context, &kind, |context| redact_context(context, attribute))?;
    }
    Ok(is_changed)
}

/// Redacts one context; users of older SDKs have attributes in `custom` as well.
fn redact_context(context: &mut Object<'_>, attribute: &str) -> Result<bool> {
    let in_custom = edit_member(context, "custom", |custom| Ok(redact_attribute(custom, attribute)))?;
    Ok(redact_attribute(context, attribute) || in_custom)
}

fn redact_attribute(attributes: &mut Object<'_>, attribute: &str) -> bool {
    let is_there = attributes.get(attribute).is_some();
    if is_there {
        attributes.set(attribute, REDACTED);
    }
    is_there
}

/// Edits a member that is an object; returns whether it was changed.
fn edit_member(
    parent: &mut Object<'_>,
    name: &str,
    edit: impl FnOnce(&mut Object<'_>) -> Result<bool>,
) -> Result<bool> {
    let Some(value) = parent.get(name).filter(|value| value.starts_with('{')) else { return Ok(false) };
    let mut child = Object::parse(value)?;
    let is_changed = edit(&mut child)?;
    if is_changed {
        let text = child.to_string();
        parent.set(name, text);
    }
    Ok(is_changed)
}

/// Reads a text that may be absent, but not `null`.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<String>, D::Error> {
    serde::Deserialize::deserialize(deserializer).map(Some)
}

yardarm_plugin::export!(Filter: event_filter);
