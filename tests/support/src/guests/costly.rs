//! Functions that are small, valid, and out of proportion costly to compile.

use std::fmt::Write;

/// Adds a function to a fragment for which a compiler needs some gigabytes of memory: many local variables, which each of
/// many branches may have changed.
#[must_use]
pub fn in_memory(fragment: &str) -> String {
    function(fragment, 4_000, 10_000, "(if (local.get 0) (then {change}))")
}

/// Adds a function to a fragment for which a compiler needs minutes, and little memory: the same with loops.
#[must_use]
pub fn in_time(fragment: &str) -> String {
    function(fragment, 2_000, 10_000, "(loop {change} (br_if 0 (local.get 0)))")
}

fn function(fragment: &str, locals: usize, blocks: usize, block: &str) -> String {
    let mut text = format!("(func (param i32) (local {})\n", "i32 ".repeat(locals));
    for index in 0..blocks {
        let (to, from) = (1 + (index * 13 + 5) % locals, 1 + index * 7 % locals);
        let change = format!("(local.set {to} (local.get {from}))");
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{}", block.replace("{change}", &change));
    }
    let (items, body) = fragment.split_once(";; body").unwrap_or(("", fragment));
    format!("{text})\n{items};; body{body}")
}
