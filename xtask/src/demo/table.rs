//! Tables for a terminal: a header, columns as wide as their widest cell, numbers aligned right.

use std::fmt::Write as _;

/// The alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Space between two columns.
const GAP: &str = "  ";

/// Renders rows under a header.
pub(super) fn render<const N: usize>(header: [(&str, Align); N], rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].0.len()]).max().unwrap_or(0)
    });
    let mut text = String::new();
    let mut line = |cells: [&str; N]| {
        let padded: [String; N] = std::array::from_fn(|column| {
            let (cell, width) = (cells[column], widths[column]);
            match header[column].1 {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            }
        });
        let _ = writeln!(text, "  {}", padded.join(GAP).trim_end());
    };
    line(header.map(|(name, _)| name));
    for row in rows {
        line(std::array::from_fn(|column| row[column].as_str()));
    }
    text
}

/// A number with its digits in groups of three.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let header = [("NAME", Align::Left), ("N", Align::Right), ("WHY", Align::Left)];
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        let text = render(header, &[row(["a", "10", "→"]), row(["longer", "9", ""])]);
        assert_eq!(text, "  NAME     N  WHY\n  a       10  →\n  longer   9\n");
    }

    #[test]
    fn digits_are_grouped_from_the_right() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), expected);
        }
    }
}
