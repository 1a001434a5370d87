//! Tables as text.

use std::fmt::Write;

/// Lines of cells, the head first, with the columns of numbers to the right and words to the left.
pub fn table(lines: &[Vec<String>], numbers: &[usize]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| lines.iter().filter_map(|l| l.get(column)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = if numbers.contains(&column) {
                write!(text, "{cell:>width$}  ")
            } else {
                write!(text, "{cell:<width$}  ")
            };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let lines = [["a", "count", "c"], ["long", "7", ""]].map(|l| l.map(String::from).to_vec());
        assert_eq!(super::table(&lines, &[1]), "a     count  c\nlong      7\n");
    }
}
