//! What the route tables of both vendors consist of: path templates, and the lines of their documentation.

use std::fmt::Write;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use tower::Service;

/// A path with variables, such as `/eval/{envId}/{context}`. A segment may have text behind its variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathTemplate(&'static str);

/// A line of the documentation of a route table.
#[derive(Debug, Clone)]
pub struct RouteLine {
    /// Template of the path.
    pub path: PathTemplate,
    /// Methods, separated by commas.
    pub methods: &'static str,
    /// Identifier for plugins and metrics, if the route has one.
    pub id: Option<&'static str>,
    /// The SDKs that use the route.
    pub sdks: String,
    /// The credential that callers present.
    pub credential: &'static str,
}

/// Answers a request by its route in `table`.
pub async fn answer(table: &Router, request: Request) -> Response {
    table.clone().call(request).await.unwrap_or_else(|never| match never {})
}

impl PathTemplate {
    /// Creates a template from its text.
    #[must_use]
    pub const fn new(text: &'static str) -> Self {
        Self(text)
    }

    /// Returns the text of the template.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// Returns the pattern for the router, which cannot match text behind a variable: `/a/{envId}.gif` becomes
    /// `/a/{envId}`.
    #[must_use]
    pub fn pattern(self) -> String {
        let segment = |part: &str| match variable(part) {
            Some((name, _)) => format!("{{{name}}}"),
            None => part.to_owned(),
        };
        self.0.split('/').map(segment).collect::<Vec<_>>().join("/")
    }

    /// Returns the value of the variable `name` in `path`, not decoded; `None` if `path` differs from the template before
    /// the variable or in the text behind it.
    #[must_use]
    pub fn value<'p>(self, name: &str, path: &'p str) -> Option<&'p str> {
        let mut segments = path.split('/');
        for part in self.0.split('/') {
            let segment = segments.next()?;
            match variable(part) {
                Some((it, suffix)) if it == name => return segment.strip_suffix(suffix),
                None if part != segment => return None,
                _ => (),
            }
        }
        None
    }
}

/// Returns the name of the variable in a segment, and the text behind it.
fn variable(segment: &str) -> Option<(&str, &str)> {
    segment.strip_prefix('{')?.split_once('}')
}

/// Returns the first segment of a path or template.
#[must_use]
pub fn first_segment(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.split('/').next()
}

/// Returns lines as a table in Markdown.
#[must_use]
pub fn table(lines: impl IntoIterator<Item = RouteLine>) -> String {
    let mut text = String::from("| Path | Methods | Route ID | SDKs | Credential |\n|---|---|---|---|---|\n");
    for RouteLine { path, methods, id, sdks, credential } in lines {
        let id = id.map_or_else(|| "none".to_owned(), |it| format!("`{it}`"));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{}` | {methods} | {id} | {sdks} | {credential} |", path.as_str());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_by_the_template() {
        for (template, path, value) in [
            ("/eval/{envId}/{context}", "/eval/x/y", Some("x")),
            ("/eval/{envId}", "/eval/", Some("")),
            ("/eval/{envId}", "/eval", None),
            ("/eval/{envId}", "/ping/x", None),
            ("/a/{envId}.gif", "/a/x.gif", Some("x")),
            ("/a/{envId}.gif", "/a/x.png", None),
            ("/{project}/{envId}", "/p/x%20y/z", Some("x%20y")),
            ("/all", "/all", None),
        ] {
            assert_eq!(PathTemplate::new(template).value("envId", path), value, "{template} {path}");
        }
    }

    #[test]
    fn patterns_have_no_text_behind_variables() {
        assert_eq!(PathTemplate::new("/a/{envId}.gif").pattern(), "/a/{envId}");
        assert_eq!(PathTemplate::new("/eval/{envId}/{context}/x").pattern(), "/eval/{envId}/{context}/x");
    }

    #[test]
    fn first_segments_end_at_a_slash() {
        for (path, segment) in [
            ("/client/auth", Some("client")),
            ("/client", Some("client")),
            ("/", Some("")),
            ("", None),
            ("*", None),
            ("client/auth", None),
        ] {
            assert_eq!(first_segment(path), segment, "{path}");
        }
    }
}
