//! Character classes and escapes.

use crate::literal::push_literal;

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

const CATEGORIES: [&str; 37] = [
    "C", "Cc", "Cf", "Co", "Cs", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No", "P",
    "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs", "Any",
];

/// Rewrites the class at the start of `text`, which begins with `[`; returns the rest of the text.
///
/// In Go a class is a flat list: `&&`, `--`, `~~` and an inner `[` are plain characters.
pub(crate) fn translate<'a>(text: &'a str, out: &mut String) -> Option<&'a str> {
    let mut rest = &text[1..];
    out.push('[');
    if let Some(negated) = rest.strip_prefix('^') {
        out.push('^');
        rest = negated;
    }
    let mut first = true;
    loop {
        if !first && let Some(after) = rest.strip_prefix(']') {
            out.push(']');
            return Some(after);
        }
        first = false;
        if let Some(after) = posix(rest, out)? {
            rest = after;
            continue;
        }
        if let Some(escaped) = rest.strip_prefix('\\')
            && let Some(after) = named(escaped, out)?
        {
            rest = after;
            continue;
        }
        rest = range(rest, out)?;
    }
}

/// Rewrites a character or a range of characters.
fn range<'a>(text: &'a str, out: &mut String) -> Option<&'a str> {
    let (low, rest) = character(text)?;
    push_literal(low, out);
    let Some(after) = rest.strip_prefix('-').filter(|after| !after.starts_with(']')) else {
        return Some(rest);
    };
    let (high, rest) = character(after)?;
    if high < low {
        return None;
    }
    out.push('-');
    push_literal(high, out);
    Some(rest)
}

fn character(text: &str) -> Option<(char, &str)> {
    if let Some(escaped) = text.strip_prefix('\\') {
        return escaped_character(escaped);
    }
    let mut chars = text.chars();
    let character = chars.next()?;
    Some((character, chars.as_str()))
}

/// Rewrites a POSIX class such as `[:alpha:]`. The inner `None` means that the text begins with something else, the outer
/// that Go rejects the name.
#[expect(clippy::option_option, reason = "absence and rejection are two things")]
fn posix<'a>(text: &'a str, out: &mut String) -> Option<Option<&'a str>> {
    let Some((name, rest)) = text.strip_prefix("[:").and_then(|inside| inside.split_once(":]")) else {
        return Some(None);
    };
    if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
        return None;
    }
    out.push_str("[:");
    out.push_str(name);
    out.push_str(":]");
    Some(Some(rest))
}

/// Rewrites a named class, behind its backslash: `d`, `W`, `p{Greek}`, … The inner `None` means that it is no such class, the
/// outer that Go rejects it. The result is valid inside and outside of brackets.
#[expect(clippy::option_option, reason = "absence and rejection are two things")]
pub(crate) fn named<'a>(escaped: &'a str, out: &mut String) -> Option<Option<&'a str>> {
    let perl = match escaped.as_bytes().first()? {
        b'd' => "[0-9]",
        b'D' => "[^0-9]",
        b's' => r"[\t\n\x0C\r ]",
        b'S' => r"[^\t\n\x0C\r ]",
        b'w' => "[0-9A-Za-z_]",
        b'W' => "[^0-9A-Za-z_]",
        b'p' | b'P' => return unicode(escaped, out).map(Some),
        _ => return Some(None),
    };
    out.push_str(perl);
    Some(Some(&escaped[1..]))
}

/// Rewrites `pL`, `p{Lu}`, `P{Greek}` or `p{^Greek}`.
fn unicode<'a>(escaped: &'a str, out: &mut String) -> Option<&'a str> {
    let mut negated = escaped.starts_with('P');
    let (name, rest) = match escaped[1..].strip_prefix('{') {
        Some(inside) => inside.split_once('}')?,
        None => {
            let length = escaped[1..].chars().next()?.len_utf8();
            escaped[1..].split_at(length)
        }
    };
    let name = name.strip_prefix('^').inspect(|_| negated = !negated).unwrap_or(name);
    let letter = if negated { 'P' } else { 'p' };
    if CATEGORIES.contains(&name) {
        out.push_str(&format!("\\{letter}{{{name}}}"));
    } else if is_script_name(name) {
        out.push_str(&format!("\\{letter}{{Script={name}}}"));
    } else {
        return None;
    }
    Some(rest)
}

/// Go accepts scripts under their full names only, the crate under several.
fn is_script_name(name: &str) -> bool {
    name.split('_').all(|word| {
        word.starts_with(|first: char| first.is_ascii_uppercase())
            && word.bytes().all(|byte| byte.is_ascii_alphabetic())
    }) && name.len() > 2
}

/// Reads a single character behind its backslash.
pub(crate) fn escaped_character(escaped: &str) -> Option<(char, &str)> {
    let mut chars = escaped.chars();
    let first = chars.next()?;
    let rest = chars.as_str();
    let character = match first {
        'a' => '\u{7}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        'x' => return hexadecimal(rest),
        // A single digit would be a back reference.
        '1'..='7' if !rest.starts_with(|next: char| next.is_digit(8)) => return None,
        '0'..='7' => {
            let length = escaped.bytes().take(3).take_while(|byte| (b'0'..b'8').contains(byte)).count();
            let code = u32::from_str_radix(&escaped[..length], 8).ok()?;
            return Some((char::from_u32(code)?, &escaped[length..]));
        }
        punctuation if punctuation.is_ascii() && !punctuation.is_ascii_alphanumeric() => punctuation,
        _ => return None,
    };
    Some((character, rest))
}

/// Reads `x7F` or `x{10FFFF}`, behind the `x`.
fn hexadecimal(text: &str) -> Option<(char, &str)> {
    let (digits, rest) = match text.strip_prefix('{') {
        Some(inside) => inside.split_once('}')?,
        None => text.split_at_checked(2)?,
    };
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let code = all_digits.then(|| u32::from_str_radix(digits, 16).ok())??;
    Some((char::from_u32(code)?, rest))
}
