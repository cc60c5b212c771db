//! Query parameters and path segments, decoded as in Go.

use yardarm_vendor::url;

/// The first value of a query parameter, decoded. Pairs that cannot be decoded do not count, as in Go.
pub(super) fn first_query_value(query: Option<&str>, name: &str) -> Option<String> {
    query?.split('&').filter(|pair| !pair.contains(';')).find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded_strictly(key)? == name).then(|| decoded_strictly(value)).flatten()
    })
}

/// All values of a query parameter, decoded, but only if the query as a whole can be decoded.
pub(super) fn query_values(query: Option<&str>, name: &str) -> Result<Vec<String>, ()> {
    let mut values = Vec::new();
    for pair in query.unwrap_or_default().split('&').filter(|it| !it.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decoded_strictly(key).ok_or(())? == name {
            values.push(decoded_strictly(value).ok_or(())?);
        }
    }
    Ok(values)
}

/// Decodes one part of a query. Invalid UTF-8 does not count as absent: a filter of that name is unknown.
fn decoded_strictly(text: &str) -> Option<String> {
    let decoded = url::decoded_strictly(&text.replace('+', " "))?;
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

/// A path segment, decoded; a plus is a plus there.
pub(super) fn percent_decoded(segment: &str) -> String {
    decoded_strictly(&segment.replace('+', "%2B")).unwrap_or_else(|| segment.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_decodable_value_counts() {
        for (query, value) in [
            (None, None),
            (Some("filter=a&filter=b"), Some("a")),
            (Some("x=1&filter=a%20b"), Some("a b")),
            (Some("filter=a+b"), Some("a b")),
            (Some("filter=%zz"), None),
            (Some("filter=%+f"), None),
            (Some("filter=%ff"), Some("\u{fffd}")),
            (Some("%66ilter=a&filter=b"), Some("a")),
            (Some("&&filter=&filter=b"), Some("")),
            (Some("filter=a=b"), Some("a=b")),
            (Some("filter=%zz&filter=c"), Some("c")),
            (Some("filter=a;b"), None),
            (Some("filter"), Some("")),
            (Some("filters=a"), None),
        ] {
            assert_eq!(first_query_value(query, "filter").as_deref(), value, "{query:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            first_query_value(Some(&text), "filter");
            percent_decoded(&text);
        }
    }
}
