//! Columns that line up.

/// Rows of cells; colour codes do not count towards a cell's width.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a heading, in capitals as kubectl writes it.
    pub fn with_heading(heading: &[&str]) -> Self {
        Self {
            rows: vec![heading.iter().map(|cell| cell.to_uppercase()).collect()],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The rows, each padded so that the columns line up, without trailing blanks.
    pub fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| shown_width(cell))
                .max()
        };
        let widths: Vec<usize> = (0..columns)
            .map(|column| width(column).unwrap_or(0))
            .collect();
        self.rows.iter().map(|row| padded(row, &widths)).collect()
    }

    /// The lines as one text.
    pub fn text(&self) -> String {
        self.lines().into_iter().map(|line| line + "\n").collect()
    }
}

fn padded(row: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in row.iter().zip(widths) {
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', width - shown_width(cell) + 2));
    }
    line.truncate(line.trim_end().len());
    line
}

/// How many columns the text takes on a terminal: its characters without colour codes.
fn shown_width(text: &str) -> usize {
    let mut width = 0;
    let mut in_code = false;
    for character in text.chars() {
        match character {
            '\x1b' => in_code = true,
            'm' if in_code => in_code = false,
            _ if in_code => {}
            _ => width += 1,
        }
    }
    width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_colours() {
        let mut table = Table::with_heading(&["idc", "state"]);
        table.row([
            "sh".to_owned(),
            "\x1b[32mok\x1b[0m".to_owned(),
            "x".to_owned(),
        ]);
        table.row(["beijing".to_owned(), "silent".to_owned(), "y".to_owned()]);
        let text = table.text();
        assert_eq!(
            text,
            "IDC      STATE\nsh       \x1b[32mok\x1b[0m      x\nbeijing  silent  y\n"
        );
    }
}
