//! Grants that a component needs for its imports or wants in its manifest, and the refusal without them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{GRANTS, Grants, LoadError, Pattern, clean};

/// Kinds of grants whose value the operator chooses, so that a manifest may want them by a pattern.
const CHOSEN_KINDS: [&str; 3] = ["header", "http-out", "secret"];

/// A grant that a plugin wants.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct WantedGrant {
    /// The grant, as in a binding file, or a pattern over the grants of one kind, such as `http-out:*`.
    pub(crate) grant: String,
    /// What it is for.
    #[serde(default)]
    pub(crate) why: String,
    /// Whether the plugin works without it.
    #[serde(default)]
    pub(crate) optional: bool,
}

/// A grant that an import needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NeededGrant {
    /// Name of the import.
    pub(crate) import: String,
    /// As in [`GRANTS`].
    pub(crate) grant: &'static str,
}

/// A pattern over the grants of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GrantPattern {
    kind: &'static str,
    value: Pattern,
}

/// Where grants are written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum GrantPlace<'a> {
    /// A binding file.
    Binding(&'a str),
    /// A case that has its own grants.
    Case,
}

impl GrantPattern {
    /// Parses a pattern of a manifest; `None` if it is none, or over grants without a chosen value.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (kind, value) = text.split_once(':')?;
        let kind = CHOSEN_KINDS.into_iter().find(|it| *it == kind)?;
        let value = if kind == "header" { value.to_ascii_lowercase() } else { value.to_owned() };
        value.contains(['*', '?']).then(|| Self { kind, value: Pattern::from(&*value) })
    }

    /// Returns whether it is a pattern over grants of this kind.
    pub(crate) fn is_of(&self, kind: &str) -> bool {
        self.kind == kind
    }

    /// Returns whether a grant of a kind has a value that matches.
    pub(crate) fn matches(&self, kind: &str, value: &str) -> bool {
        self.is_of(kind) && self.value.matches(value)
    }

    /// Returns what an operator writes in place of the pattern, with the value left open.
    fn form(&self) -> String {
        let prefix = format!("{}:", self.kind);
        match &*self.value.to_string() {
            "*" => {
                let form = GRANTS.iter().find(|(grant, _)| grant.starts_with(&prefix));
                form.map_or(prefix, |(grant, _)| (*grant).to_owned())
            }
            value => format!("{prefix}<{value}>"),
        }
    }
}

impl std::fmt::Display for GrantPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

impl WantedGrant {
    /// Returns whether the text is a grant, or a pattern over grants.
    pub(crate) fn is_known(&self) -> bool {
        Grants::default().add_wanted(&self.grant)
    }

    /// Returns whether a grant, as [`Grants::names`] writes it, is wanted by the plugin.
    pub(crate) fn covers(&self, given: &str) -> bool {
        if let Some(pattern) = GrantPattern::parse(&self.grant) {
            return given.split_once(':').is_some_and(|(kind, value)| pattern.matches(kind, value));
        }
        let mut wanted = Grants::default();
        wanted.add(&self.grant);
        wanted.names().iter().any(|name| name == given)
    }

    /// Returns whether the grants have what the plugin wants.
    fn is_given_by(&self, names: &[String]) -> bool {
        // `log` and `metrics` have no name, because each plugin has them.
        matches!(&*self.grant, "log" | "metrics") || names.iter().any(|name| self.covers(name))
    }

    fn form(&self) -> String {
        GrantPattern::parse(&self.grant).map_or_else(|| self.grant.clone(), |pattern| pattern.form())
    }
}

/// Requires all grants that imports need, and those that a manifest wants unless they are optional; returns them, sorted.
///
/// # Errors
/// Everything that is missing, with the line that gives it.
pub(crate) fn require(
    needed: &[NeededGrant],
    wanted: &[WantedGrant],
    given: &Grants,
    place: GrantPlace<'_>,
) -> Result<Vec<String>, LoadError> {
    let mut names = given.names();
    let denied: Vec<_> = needed.iter().filter(|it| !given.gives(it.grant)).collect();
    let wanted: Vec<_> = wanted.iter().filter(|it| !it.optional).collect();
    let missing: Vec<_> = wanted.iter().filter(|it| !it.is_given_by(&names)).collect();
    if denied.is_empty() && missing.is_empty() {
        let needed = needed.iter().map(|it| it.grant.to_owned()).filter(|grant| !grant.contains('<'));
        let requested: BTreeSet<_> = needed.chain(wanted.iter().map(|it| it.grant.clone())).collect();
        return Ok(requested.into_iter().collect());
    }
    let mut needs = Vec::new();
    if !denied.is_empty() {
        let imports: Vec<_> = denied.iter().map(|it| format!("`{}`", it.import)).collect();
        needs.push(format!("imports {}", imports.join(", ")));
    }
    needs.extend(missing.iter().map(|it| match &*it.why {
        "" => format!("wants `{}`", it.grant),
        why => format!("wants `{}` ({})", it.grant, clean(why)),
    }));
    // A want of the same kind says more about what to write than an import does.
    let is_wanted = |grant: &str| {
        let kind = |text: &str| text.split_once(':').map(|(kind, _)| kind.to_owned());
        missing.iter().any(|it| kind(grant).is_some() && kind(&it.grant) == kind(grant))
    };
    let imported = denied.iter().map(|it| it.grant.to_owned()).filter(|grant| !is_wanted(grant));
    for grant in imported.chain(missing.iter().map(|it| it.form())) {
        if !names.contains(&grant) {
            names.push(grant);
        }
    }
    let list = names.iter().map(|grant| format!("\"{grant}\"")).collect::<Vec<_>>().join(", ");
    let (line, place) = match place {
        GrantPlace::Binding(file) => (format!("grants = [{list}]"), format!("under [plugin] in `{file}`")),
        GrantPlace::Case => (format!("\"grants\": [{list}]"), "in the case".to_owned()),
    };
    Err(LoadError::CapabilityDenied { needs: needs.join(", "), line, place })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(grant: &str) -> WantedGrant {
        WantedGrant { grant: grant.to_owned(), why: String::new(), optional: false }
    }

    fn given(texts: &[&str]) -> Grants {
        let mut grants = Grants::default();
        assert!(texts.iter().all(|text| grants.add(text)));
        grants
    }

    #[test]
    fn a_pattern_is_satisfied_by_grants_of_its_kind_that_match() {
        for (want, grant, expected) in [
            ("http-out:*", "http-out:https://a.example/x", true),
            ("http-out:https://*.example/*", "http-out:https://a.example/x", true),
            ("http-out:https://*.example/*", "http-out:http://a.example/x", false),
            ("http-out:https://a.example", "http-out:https://a.example", true),
            ("http-out:*", "secret:a", false),
            ("secret:*", "secret:a", true),
            ("secret:app-*", "secret:app-key", true),
            ("secret:app-?", "secret:app-key", false),
            ("header:X-*", "header:x-tenant", true),
            ("header:X-Tenant", "header:x-tenant", true),
            ("header:*", "clock", false),
            ("clock", "clock", true),
            ("log", "clock", true),
        ] {
            assert!(wanted(want).is_known(), "{want}");
            let result = require(&[], &[wanted(want)], &given(&[grant]), GrantPlace::Case);
            assert_eq!(result.is_ok(), expected, "{want} {grant}");
        }
        for text in ["cl*", "*", "context-attributes:", "identity:*", "http-out:", "secret:"] {
            assert!(!wanted(text).is_known(), "{text}");
        }
    }

    #[test]
    fn the_refusal_has_the_line_that_gives_all() {
        let needed = [
            NeededGrant { import: "yardarm:plugin/http@0.1.0".to_owned(), grant: "http-out:<origin and path prefix>" },
            NeededGrant { import: "yardarm:plugin/kv@0.1.0".to_owned(), grant: "kv" },
        ];
        let why = WantedGrant { why: "to sign".to_owned(), ..wanted("secret:app-*") };
        let wants = [wanted("http-out:https://*/keys"), why, wanted("header:*")];
        let error = require(&needed, &wants, &given(&["clock"]), GrantPlace::Binding("a.toml")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "imports `yardarm:plugin/http@0.1.0`, `yardarm:plugin/kv@0.1.0`, wants `http-out:https://*/keys`, wants \
             `secret:app-*` (to sign), wants `header:*` without the grant; write `grants = [\"clock\", \"kv\", \
             \"http-out:<https://*/keys>\", \"secret:<app-*>\", \"header:<name>\"]` under [plugin] in `a.toml`"
        );
        let all = given(&["kv", "http-out:https://a.example/keys", "secret:app-key", "header:x"]);
        let requested = require(&needed, &wants, &all, GrantPlace::Binding("a.toml")).unwrap();
        assert_eq!(requested, ["header:*", "http-out:https://*/keys", "kv", "secret:app-*"]);
    }
}
