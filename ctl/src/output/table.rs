//! Tables in the manner of kubectl: upper-case headers, no lines, columns as wide as their contents.

use comfy_table::{CellAlignment, ContentArrangement, presets};

use crate::output::escape;

/// A table under construction.
#[derive(Debug)]
pub struct Table {
    inner: comfy_table::Table,
}

impl Table {
    /// A table with these headers. One that starts with `>` is of a column of numbers, aligned to the right.
    pub fn new(headers: &[&str]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(presets::NOTHING);
        inner.set_content_arrangement(ContentArrangement::Disabled);
        inner.set_header(headers.iter().map(|header| header.trim_start_matches('>')));
        for (column, header) in inner.column_iter_mut().zip(headers) {
            column.set_padding((0, 3));
            if header.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { inner }
    }

    /// Appends a row. Cells are escaped; an empty one shows as `-`.
    pub fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.inner.add_row(cells.into_iter().map(|cell| match cell.as_ref() {
            "" => "-".to_owned(),
            text => escape::line(text).into_owned(),
        }));
    }

    /// The lines, without blanks at their ends.
    pub fn text(&self) -> String {
        self.inner.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_frames() {
        let mut table = Table::new(&["NAME", ">PACKETS", "STATE"]);
        table.row(["node-a", "12", "ready"]);
        table.row(["b", "1,234", "\u{1b}[2J"]);
        table.row(["c", "", "ready"]);
        let expected = "NAME     PACKETS   STATE\n\
                        node-a        12   ready\n\
                        b          1,234   \\u{1b}[2J\n\
                        c              -   ready\n";
        assert_eq!(table.text(), expected);
    }
}
