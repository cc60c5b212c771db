//! Redaction of attributes inside a context or a user of older SDKs.

use yardarm_plugin::Result;
use yardarm_plugin::json::{self, Object};

use crate::config::{Action, Rules, is_essential};

/// Paths of attributes that a context itself declares private.
type Private = Vec<Vec<String>>;

/// The state of applying the rules to one context.
struct Work<'a> {
    rules: &'a Rules,
    kind: &'a str,
    private: Private,
    /// Paths of the removed attributes.
    dropped: Vec<Vec<String>>,
}

/// Applies the rules to the value of `context`: one context, several, or a user that a relay has renamed. Returns
/// `None` if nothing changes.
pub(crate) fn redact(rules: &Rules, value: &str) -> Result<Option<String>> {
    if !value.starts_with('{') {
        return Ok(None);
    }
    let mut object = Object::parse(value)?;
    let Some(kind) = object.text("kind").map(String::from) else { return redact_user(rules, value) };
    if kind != "multi" {
        return one(rules, &kind, object);
    }
    let mut changed = false;
    for member in object.iter_mut() {
        if !member.value().starts_with('{') {
            continue;
        }
        if let Some(new) = one(rules, member.name(), Object::parse(member.value())?)? {
            member.set_value(new);
            changed = true;
        }
    }
    Ok(changed.then(|| object.to_json()))
}

/// Applies the rules to a user: its own attributes, and those under `custom`, count as attributes of a context of kind
/// `user`.
pub(crate) fn redact_user(rules: &Rules, value: &str) -> Result<Option<String>> {
    if !value.starts_with('{') {
        return Ok(None);
    }
    let mut user = Object::parse(value)?;
    let names = user.get("privateAttributeNames").filter(|_| rules.declared_private).map(texts).unwrap_or_default();
    let private = names.into_iter().map(|name| vec![name]).collect();
    let mut work = Work { rules, kind: "user", private, dropped: Vec::new() };
    let mut changed = false;
    for member in user.iter_mut().filter(|member| member.name() == "custom" && member.value().starts_with('{')) {
        let (custom, touched) = work.edit(Object::parse(member.value())?, &[], |_| false)?;
        if touched {
            let custom = custom.to_json();
            member.set_value(custom);
            changed = true;
        }
    }
    let own = |name: &str| matches!(name, "custom" | "privateAttrs" | "privateAttributeNames");
    let (mut user, touched) = work.edit(user, &[], own)?;
    if !changed && !touched {
        return Ok(None);
    }
    // These lists contain plain names; only attributes inside another attribute need a reference.
    let names = work.dropped.into_iter().map(|path| if path.len() == 1 { path.concat() } else { reference(&path) });
    list(&mut user, "privateAttrs", names);
    Ok(Some(user.to_json()))
}

/// Applies the rules to a single context of a kind.
fn one(rules: &Rules, kind: &str, context: Object<'_>) -> Result<Option<String>> {
    let meta = context.get("_meta").filter(|meta| meta.starts_with('{')).map(str::to_owned);
    let mut meta = meta.as_deref().map(Object::parse).transpose()?.unwrap_or_default();
    let private = meta.get("privateAttributes").filter(|_| rules.declared_private).map(texts).unwrap_or_default();
    let private = private.iter().map(|reference| steps(reference)).collect();
    let mut work = Work { rules, kind, private, dropped: Vec::new() };
    let (mut context, changed) = work.edit(context, &[], |_| false)?;
    if !changed {
        return Ok(None);
    }
    if !work.dropped.is_empty() {
        list(&mut meta, "redactedAttributes", work.dropped.iter().map(|path| reference(path)));
        context.set("_meta", meta.to_json());
    }
    Ok(Some(context.to_json()))
}

impl Work<'_> {
    /// Applies the rules to the members of the object at `path`, except those in `skip`; returns whether anything
    /// changed.
    fn edit<'a>(
        &mut self,
        mut object: Object<'a>,
        path: &[&str],
        skip: fn(&str) -> bool,
    ) -> Result<(Object<'a>, bool)> {
        let (mut changed, mut fault) = (false, None);
        object.retain(|member| {
            if fault.is_some() || skip(member.name()) {
                return true;
            }
            let new = match self.action(path, member.name()) {
                Action::Keep => None,
                Action::Drop => {
                    let dropped = path.iter().copied().chain([member.name()]).map(str::to_owned).collect();
                    if !self.dropped.contains(&dropped) {
                        self.dropped.push(dropped);
                    }
                    changed = true;
                    return false;
                }
                Action::Hash => Some(self.rules.hash(member.value())),
                Action::LookInside => {
                    let inside = self.inside(member.value(), &[path, &[member.name()]].concat());
                    inside.unwrap_or_else(|error| {
                        fault = Some(error);
                        None
                    })
                }
            };
            if let Some(new) = new {
                member.set_value(new);
                changed = true;
            }
            true
        });
        fault.map_or(Ok((object, changed)), Err)
    }

    /// Applies the rules inside an attribute.
    fn inside(&mut self, value: &str, path: &[&str]) -> Result<Option<String>> {
        if !value.starts_with('{') {
            return Ok(None);
        }
        let (object, changed) = self.edit(Object::parse(value)?, path, |_| false)?;
        Ok(changed.then(|| object.to_json()))
    }

    fn action(&self, path: &[&str], name: &str) -> Action {
        let action = self.rules.action(self.kind, path, name);
        if self.private.is_empty() || is_essential(path, name) {
            return action;
        }
        let steps = path.len() + 1;
        let leads_here = |private: &&Vec<String>| {
            private.len() >= steps && private[path.len()] == name && private.iter().zip(path).all(|(a, b)| a == b)
        };
        match self.private.iter().filter(leads_here).map(Vec::len).min() {
            Some(length) if length == steps => Action::Drop,
            Some(_) if action == Action::Keep => Action::LookInside,
            _ => action,
        }
    }
}

/// Appends texts to the array of this name.
fn list(object: &mut Object<'_>, name: &str, texts: impl Iterator<Item = String>) {
    let before = object.get(name).and_then(|text| json::elements(text).ok()).unwrap_or_default();
    let mut all: Vec<String> = before.into_iter().map(str::to_owned).collect();
    for text in texts.map(|text| json::quoted(&text)) {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    if !all.is_empty() {
        object.set(name, json::array(all.iter().map(String::as_str)));
    }
}

/// Returns the texts of an array; other elements are ignored, and a value that is not an array is empty.
fn texts(value: &str) -> Vec<String> {
    let elements = json::elements(value).unwrap_or_default();
    elements.into_iter().filter_map(|element| json::text(element).map(String::from)).collect()
}

/// Splits a reference such as `name` or `/address/street`, in which `~1` is a slash and `~0` a tilde.
fn steps(reference: &str) -> Vec<String> {
    match reference.strip_prefix('/') {
        None => vec![reference.to_owned()],
        Some(rest) => rest.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect(),
    }
}

/// Returns the reference of a path.
fn reference(path: &[String]) -> String {
    match path {
        [name] if !name.starts_with('/') => name.clone(),
        _ => path.iter().map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1"))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_and_written() {
        for (text, path) in
            [("name", &["name"][..]), ("/address/street", &["address", "street"]), ("/a~1b/c~0d", &["a/b", "c~d"])]
        {
            assert_eq!(steps(text), path, "{text}");
            assert_eq!(reference(&steps(text)), text);
        }
        assert_eq!(reference(&["/a".to_owned()]), "/~1a");
        assert_eq!(steps("/~1a"), ["/a"]);
        assert_eq!(reference(&["a~b".to_owned()]), "a~b");
    }
}
