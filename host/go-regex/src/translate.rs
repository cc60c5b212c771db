//! Translates Go's dialect to that of the `regex` crate.

use std::collections::HashSet;

use crate::class;
use crate::literal::push_literal;

/// Largest count of a repetition, alone or multiplied with the counts around it.
const MAX_REPETITION: u32 = 1000;

/// Rewrites a pattern of Go's `regexp`; `None` if Go would reject it.
///
/// Errors that the `regex` crate reports as well are left to the crate. Groups lose names and numbers:
/// only whether there is a match matters.
pub(crate) fn translate(pattern: &str) -> Option<String> {
    let mut translator = Translator {
        rest: pattern,
        out: String::with_capacity(pattern.len() + 16),
        groups: Vec::new(),
        weight: 0,
        last: Last::Nothing,
        names: HashSet::new(),
    };
    while !translator.rest.is_empty() {
        translator.step()?;
    }
    Some(translator.out)
}

struct Translator<'a> {
    rest: &'a str,
    out: String,
    /// For each open group, the largest repetition before it on its level.
    groups: Vec<u32>,
    /// The largest repetition on this level so far.
    weight: u32,
    last: Last,
    names: HashSet<&'a str>,
}

/// The element that a repetition operator would apply to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    /// An element that can be repeated, with the product of the repetitions inside it.
    Atom(u32),
    /// An element that is repeated already, which Go does not allow twice.
    Repetition,
}

impl<'a> Translator<'a> {
    /// Translates one element of the pattern.
    fn step(&mut self) -> Option<()> {
        let mut chars = self.rest.chars();
        let first = chars.next()?;
        match first {
            '\\' => return self.escape(),
            '[' => {
                self.rest = class::translate(self.rest, &mut self.out)?;
                self.last = Last::Atom(1);
                return Some(());
            }
            '(' => return self.open_group(),
            '*' | '+' | '?' => {
                self.rest = chars.as_str();
                return self.repeat(&first.to_string(), 1);
            }
            '{' => {
                if let Some((operator, weight, rest)) = counted_repetition(self.rest)? {
                    self.rest = rest;
                    return self.repeat(operator, weight);
                }
                push_literal('{', &mut self.out);
                self.last = Last::Atom(1);
            }
            ')' => {
                let inside = self.weight.max(1);
                self.weight = self.groups.pop()?.max(inside);
                self.out.push(')');
                self.last = Last::Atom(inside);
            }
            '|' => {
                self.out.push('|');
                self.last = Last::Nothing;
            }
            '.' | '^' | '$' => {
                self.out.push(first);
                self.last = Last::Atom(1);
            }
            _ => {
                push_literal(first, &mut self.out);
                self.last = Last::Atom(1);
            }
        }
        self.rest = chars.as_str();
        Some(())
    }

    /// Translates `(`, with the flags or the name that may follow.
    fn open_group(&mut self) -> Option<()> {
        let Some(special) = self.rest.strip_prefix("(?") else {
            self.rest = &self.rest[1..];
            return self.push_group("(?:");
        };
        if let Some(named) = special.strip_prefix("P<").or_else(|| special.strip_prefix('<')) {
            let (name, rest) = named.split_once('>')?;
            let valid = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !valid || !self.names.insert(name) {
                return None;
            }
            self.rest = rest;
            return self.push_group("(?:");
        }
        let end = special.find([':', ')'])?;
        let flags = &special[..end];
        let (on, off) = match flags.split_once('-') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (flags, ""),
        };
        if !on.chars().chain(off.chars()).all(|flag| "imsU".contains(flag)) {
            return None;
        }
        self.rest = &special[end + 1..];
        let flags = unique_flags(on, off);
        if special.as_bytes()[end] == b':' {
            return self.push_group(&format!("(?{flags}:"));
        }
        if !flags.is_empty() {
            self.out.push_str(&format!("(?{flags})"));
        }
        Some(())
    }

    fn push_group(&mut self, opening: &str) -> Option<()> {
        self.out.push_str(opening);
        self.groups.push(self.weight);
        self.weight = 0;
        self.last = Last::Nothing;
        Some(())
    }

    fn repeat(&mut self, operator: &str, times: u32) -> Option<()> {
        let Last::Atom(inside) = self.last else {
            return None;
        };
        let weight = inside.saturating_mul(times.max(1));
        if times > 1 && weight > MAX_REPETITION {
            return None;
        }
        self.out.push_str(operator);
        if let Some(rest) = self.rest.strip_prefix('?') {
            self.out.push('?');
            self.rest = rest;
        }
        self.weight = self.weight.max(weight);
        self.last = Last::Repetition;
        Some(())
    }

    fn escape(&mut self) -> Option<()> {
        let escaped = &self.rest[1..];
        if let Some(quoted) = escaped.strip_prefix('Q') {
            let (literal, rest) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            for character in literal.chars() {
                push_literal(character, &mut self.out);
                self.last = Last::Atom(1);
            }
            self.rest = rest;
            return Some(());
        }
        self.last = Last::Atom(1);
        let assertion = match escaped.as_bytes().first()? {
            b'A' => Some("\\A"),
            b'z' => Some("\\z"),
            // ASCII word boundaries, which are not the default of the crate.
            b'b' => Some("(?-u:\\b)"),
            b'B' => Some("(?-u:\\B)"),
            _ => None,
        };
        if let Some(assertion) = assertion {
            self.out.push_str(assertion);
            self.rest = &escaped[1..];
            return Some(());
        }
        self.rest = match class::named(escaped, &mut self.out)? {
            Some(rest) => rest,
            None => {
                let (character, rest) = class::escaped_character(escaped)?;
                push_literal(character, &mut self.out);
                rest
            }
        };
        Some(())
    }
}

/// Reads `{n}`, `{n,}` or `{n,m}`. The inner `None` means that the brace is a literal, the outer that Go rejects the numbers.
#[expect(clippy::option_option, reason = "literal, repetition and rejection are three things")]
fn counted_repetition(text: &str) -> Option<Option<(&str, u32, &str)>> {
    let Some(end) = text.find('}') else {
        return Some(None);
    };
    let inside = &text[1..end];
    let (least, most) = match inside.split_once(',') {
        None => (inside, Some(inside)),
        Some((least, "")) => (least, None),
        Some((least, most)) => (least, Some(most)),
    };
    let is_number = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text.len() == 1 || !text.starts_with('0'))
    };
    if !is_number(least) || !most.is_none_or(is_number) {
        return Some(None);
    }
    // A number with too many digits to parse is too large in any case.
    let least: u32 = least.parse().ok()?;
    let most: Option<u32> = most.map(|most| most.parse().ok()).map_or(Some(None), |most| most.map(Some))?;
    let largest = most.unwrap_or(least);
    if largest > MAX_REPETITION || least > largest {
        return None;
    }
    Some(Some((&text[..=end], largest, &text[end + 1..])))
}

/// Returns the flags with each letter once, as the crate requires; of contradicting flags the later one counts.
fn unique_flags(on: &str, off: &str) -> String {
    let pick = |flags: &str, without: &str| -> String {
        "imsU".chars().filter(|flag| flags.contains(*flag) && !without.contains(*flag)).collect()
    };
    let (on, off) = (pick(on, off), pick(off, ""));
    if off.is_empty() { on } else { format!("{on}-{off}") }
}
