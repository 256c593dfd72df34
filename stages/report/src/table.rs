//! A table: part of a page, or a CSV file of its own.

use schemas::counting::grouped;

use super::svg::escape;

/// Rows under a header.
#[derive(Clone, Debug, Default)]
pub(super) struct PageTable {
    /// The name of its file, without an ending.
    pub(super) name: String,
    /// The header.
    pub(super) columns: Vec<TableColumn>,
    /// The rows, each as long as the header.
    pub(super) rows: Vec<Vec<TableCell>>,
}

/// A column.
#[derive(Clone, Debug, Default)]
pub(super) struct TableColumn {
    /// Its name in files.
    technical: String,
    /// Its name on the page.
    shown: String,
    /// The text that a pointer on it shows.
    tooltip: String,
    is_numeric: bool,
}

/// A cell.
#[derive(Clone, Debug, Default)]
pub(super) struct TableCell {
    /// Its text on the page.
    shown: String,
    /// Its text in files, by which the page sorts too; empty if it is undefined.
    exact: String,
    /// Its CSS class.
    class: &'static str,
    /// The text that a pointer on it shows.
    tooltip: String,
}

impl TableColumn {
    /// A column of text.
    pub(super) fn text(name: &str) -> Self {
        Self { technical: name.into(), shown: name.into(), ..Self::default() }
    }

    /// A column of numbers.
    pub(super) fn numbers(name: &str) -> Self {
        Self { is_numeric: true, ..Self::text(name) }
    }

    /// The same with another name on the page, and a tooltip.
    pub(super) fn shown_as(self, shown: &str, tooltip: &str) -> Self {
        Self { shown: shown.into(), tooltip: tooltip.into(), ..self }
    }
}

impl TableCell {
    /// Text.
    pub(super) fn text(text: &str) -> Self {
        Self { shown: text.into(), exact: text.into(), ..Self::default() }
    }

    /// Text with another name in files.
    pub(super) fn named(shown: &str, technical: &str) -> Self {
        Self { shown: shown.into(), exact: technical.into(), ..Self::default() }
    }

    /// A number with three decimals, or one that is undefined.
    pub(super) fn number(value: Option<f64>) -> Self {
        match value.filter(|value| value.is_finite()) {
            // A small negative number is shown as 0, not as -0.
            Some(value) if value.abs() < 0.5e-3 => {
                Self { shown: "0.000".into(), exact: value.to_string(), ..Self::default() }
            }
            Some(value) => Self { shown: format!("{value:.3}"), exact: value.to_string(), ..Self::default() },
            None => Self { shown: "–".into(), ..Self::default() },
        }
    }

    /// A number of things.
    pub(super) fn count(count: u64) -> Self {
        Self { shown: grouped(count), exact: count.to_string(), ..Self::default() }
    }

    /// The same cell with a CSS class.
    pub(super) fn of_class(self, class: &'static str) -> Self {
        Self { class, ..self }
    }

    /// The same cell with a tooltip.
    pub(super) fn tooltip(self, tooltip: String) -> Self {
        Self { tooltip, ..self }
    }
}

impl PageTable {
    /// The table as HTML, or nothing if it has no rows; a click on a header sorts by it.
    pub(super) fn html(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let header: String = self.columns.iter().map(TableColumn::html).collect();
        let row = |row: &Vec<TableCell>| {
            let cells = row.iter().zip(&self.columns).map(|(cell, column)| cell.html(column.is_numeric));
            format!("<tr>{}</tr>", cells.collect::<String>())
        };
        let rows: String = self.rows.iter().map(row).collect();
        format!(
            r#"<div class="scroll" tabindex="0"><table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table></div>"#
        )
    }

    /// The table as CSV, by technical names and with all digits.
    pub(super) fn csv(&self) -> String {
        let line = |cells: Vec<&str>| cells.into_iter().map(quoted).collect::<Vec<_>>().join(",") + "\n";
        let header = line(self.columns.iter().map(|column| column.technical.as_str()).collect());
        let rows = self.rows.iter().map(|row| line(row.iter().map(|cell| cell.exact.as_str()).collect()));
        header + &rows.collect::<String>()
    }
}

impl TableColumn {
    fn html(&self) -> String {
        let class = if self.is_numeric { "number" } else { "" };
        let [shown, tooltip] = [&self.shown, &self.tooltip].map(|text| escape(text));
        format!(r#"<th class="{class}" title="{tooltip}"><button type="button">{shown}</button></th>"#)
    }
}

impl TableCell {
    fn html(&self, is_numeric: bool) -> String {
        let class = format!("{} {}", if is_numeric { "number" } else { "" }, self.class);
        let title =
            if self.tooltip.is_empty() { String::new() } else { format!(r#" title="{}""#, escape(&self.tooltip)) };
        let key = if is_numeric { format!(r#" data-key="{}""#, escape(&self.exact)) } else { String::new() };
        format!(r#"<td class="{}"{title}{key}>{}</td>"#, class.trim(), escape(&self.shown))
    }
}

/// A CSV field, in quotes where it needs them.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> PageTable {
        PageTable {
            name: "t".into(),
            columns: vec![
                TableColumn::text("condition"),
                TableColumn::numbers("pearson_delta").shown_as("correlation", "of the change"),
            ],
            rows: vec![
                vec![TableCell::text("A, \"B\" <c>"), TableCell::number(Some(0.123_456))],
                vec![TableCell::text("D"), TableCell::number(None)],
            ],
        }
    }

    #[test]
    fn a_file_has_technical_names_and_all_digits() {
        assert_eq!(table().csv(), "condition,pearson_delta\n\"A, \"\"B\"\" <c>\",0.123456\nD,\n");
    }

    #[test]
    fn a_page_has_names_for_readers_and_three_decimals() {
        let html = table().html();
        assert!(html.contains(r#"title="of the change"><button type="button">correlation</button>"#), "{html}");
        assert!(html.contains(r#"data-key="0.123456">0.123</td>"#) && html.contains("A, &quot;B&quot; &lt;c&gt;"));
        assert!(PageTable::default().html().is_empty());
    }
}
