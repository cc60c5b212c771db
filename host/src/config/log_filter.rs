//! Parses `log.level`: a level, or levels by part. A misspelling in it must not silence the process.

/// Names of the levels.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
/// Names that other programs use, and the level each one stands for.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("err", "error"),
    ("fatal", "error"),
    ("critical", "error"),
    ("crit", "error"),
    ("panic", "error"),
    ("warning", "warn"),
    ("notice", "info"),
    ("information", "info"),
    ("informational", "info"),
    ("verbose", "debug"),
    ("fine", "debug"),
    ("all", "trace"),
    ("silly", "trace"),
];
/// Level of parts that a filter does not name.
const DEFAULT: &str = "info";

/// Returns the filter in the syntax of `tracing`, always with a level for parts that the text does not name.
///
/// # Errors
/// A message that describes the problem and the accepted values, without quoting the text.
pub(super) fn parse(text: &str) -> Result<String, String> {
    let allowed =
        "must be one of `error`, `warn`, `info`, `debug`, `trace`, or levels by part such as `info,yardarm_wasm=debug`";
    let mut filter = Vec::new();
    let mut default = None;
    for directive in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
        match directive.rsplit_once('=') {
            // A part, possibly with a span whose fields contain `=` too.
            Some((part, level)) if !level.contains(['}', ']']) => {
                let part = part.trim();
                let word = level.trim().to_ascii_lowercase();
                let level = if word == "off" { Some("off") } else { level_of(&word) };
                match level {
                    Some(level) if !part.is_empty() && is_part(part) => filter.push(format!("{part}={level}")),
                    _ => return Err(allowed.to_owned()),
                }
            }
            _ => match level_of(&directive.to_ascii_lowercase()) {
                Some(level) => default = Some(level),
                None if directive.eq_ignore_ascii_case("off") => {
                    return Err(format!(
                        "{allowed}; the log as a whole cannot be switched off, `error` is the quietest"
                    ));
                }
                None => return Err(allowed.to_owned()),
            },
        }
    }
    filter.insert(0, default.unwrap_or(DEFAULT).to_owned());
    let filter = filter.join(",");
    match tracing_subscriber::EnvFilter::builder().parse(&filter) {
        Ok(_) => Ok(filter),
        Err(_) => Err(allowed.to_owned()),
    }
}

fn level_of(word: &str) -> Option<&'static str> {
    let own = LEVELS.iter().find(|it| **it == word);
    own.or_else(|| OTHER_NAMES.iter().find(|it| it.0 == word).map(|it| &it.1)).copied()
}

/// Returns whether the text is `crate::module`, optionally followed by `[span]`.
fn is_part(text: &str) -> bool {
    let name = text.split('[').next().unwrap_or_default();
    name.chars().all(|it| it.is_ascii_alphanumeric() || "_:-.".contains(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_levels_are_mapped_or_rejected() {
        for (text, expected) in [
            ("info", Some("info")),
            (" INFO ", Some("info")),
            ("Warning", Some("warn")),
            ("verbose", Some("debug")),
            ("fatal", Some("error")),
            ("debug,hyper=warning", Some("debug,hyper=warn")),
            ("yardarm_wasm=debug", Some("info,yardarm_wasm=debug")),
            ("yardarm_wasm=DEBUG, warn", Some("warn,yardarm_wasm=debug")),
            ("info,yardarm_core::change_log=trace", Some("info,yardarm_core::change_log=trace")),
            ("info,hyper=off", Some("info,hyper=off")),
            ("info,[task{name=x}]=trace", Some("info,[task{name=x}]=trace")),
            ("info,", Some("info")),
            ("wanring", None),
            ("yardarm", None),
            ("off", None),
            ("none", None),
            ("3", None),
            ("0", None),
            ("info=", None),
            ("=info", None),
            ("yardarm=loud", None),
            ("info;debug", None),
            ("info debug", None),
            ("my part=debug", None),
            ("[task{name=x}", None),
        ] {
            assert_eq!(parse(text).ok().as_deref(), expected, "{text}");
        }
        assert!(parse("off").unwrap_err().contains("quietest"));
        assert!(parse("loud").unwrap_err().contains("`trace`"));
    }
}
