//! Aligned lines for people.

use std::fmt::Write;

/// Rows of a title and a text, aligned.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<(String, String)>);

impl Table {
    /// Adds a row. A row without a title continues the one before.
    pub(super) fn row(&mut self, title: &str, text: impl Into<String>) -> &mut Self {
        self.0.push((title.to_owned(), text.into()));
        self
    }

    /// Adds a row per text, with a title on the first of them.
    pub(super) fn rows(&mut self, title: &str, texts: impl IntoIterator<Item = String>) -> &mut Self {
        for (index, text) in texts.into_iter().enumerate() {
            self.row(if index == 0 { title } else { "" }, text);
        }
        self
    }

    /// Returns the lines.
    pub(super) fn text(&self) -> String {
        let width = self.0.iter().map(|(title, _)| title.chars().count()).max().unwrap_or(0);
        let mut lines = String::new();
        for (title, text) in &self.0 {
            // Writing to a `String` cannot fail.
            let _ = writeln!(lines, "{}", format!("{title:width$}  {text}").trim_end());
        }
        lines
    }
}

/// Returns rows of texts in aligned columns, each with the lines below it.
pub(super) fn columns<const N: usize>(rows: &[([String; N], Vec<String>)]) -> String {
    let width = |column: usize| rows.iter().map(|(cells, _)| cells[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut lines = String::new();
    for (cells, below) in rows {
        let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        // Writing to a `String` cannot fail.
        let _ = writeln!(lines, "{}", padded.join("  ").trim_end());
        below.iter().for_each(|line| lines.push_str(&format!("    {line}\n")));
    }
    lines
}

/// Returns a text of other origin without control characters, which a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect()
}

/// Formats a number of bytes with three digits at least.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{} KB", count / 1_000),
        _ => format!("{} MB", count / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_begin_in_one_column() {
        let mut table = Table::default();
        table.row("a", "1").rows("long", ["2".to_owned(), "3".to_owned()]).row("", "");
        assert_eq!(table.text(), "a     1\nlong  2\n      3\n\n");
        assert_eq!([999, 12_345, 18_000_000].map(bytes), ["999 B", "12 KB", "18 MB"]);
    }
}
