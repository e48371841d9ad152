//! Plain text tables.

use std::fmt::{self, Write as _};

/// Longest cell, in characters. The last column has no limit.
const WIDEST: usize = 100;

/// The text of a cell as one word, so that rows can be split at spaces. Only the last column may
/// hold several words.
fn cell(text: &str, is_last: bool) -> String {
    let breaks = |c: char| c.is_control() || c.is_whitespace() && (c != ' ' || !is_last);
    let mut cell = text.replace(breaks, "_");
    if let Some((end, _)) = cell.char_indices().nth(WIDEST).filter(|_| !is_last) {
        cell.truncate(end);
        cell.push('…');
    }
    cell
}

/// The text with control characters and line breaks replaced by spaces.
fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control() || c.is_whitespace() && c != ' ', " ")
}

/// Writes a table. Each column is as wide as its widest cell; the notes of a row follow it, one
/// line each.
pub(super) fn write_table(
    f: &mut fmt::Formatter<'_>,
    head: &[&str],
    rows: impl Iterator<Item = (Vec<String>, Vec<String>)>,
) -> fmt::Result {
    let last = head.len() - 1;
    let cells = |cells: Vec<String>| -> Vec<String> {
        cells.iter().enumerate().map(|(column, text)| cell(text, column == last)).collect()
    };
    let rows: Vec<_> = rows.map(|(row, notes)| (cells(row), notes)).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|(cells, _)| cells).chain([&head]);
        cells
            .map(|cells| cells.get(column).map_or(0, |cell| cell.chars().count()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            // `fmt` limits a width to `u16::MAX`, and the last cell has no limit.
            let width = if column == last { 0 } else { *width };
            let _ = write!(line, "{cell:<width$}  ");
        }
        line.trim_end().to_owned()
    };
    writeln!(f, "{}", line(&head))?;
    for (cells, notes) in &rows {
        writeln!(f, "{}", line(cells))?;
        for note in notes {
            writeln!(f, "    {}", one_line(note))?;
        }
    }
    Ok(())
}
