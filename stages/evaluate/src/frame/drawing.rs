//! Tables as aligned text, whole or no wider than a screen.

use std::borrow::Cow;

use polars::prelude::{AnyValue, Column, DataFrame};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Number of decimals in a table.
const DECIMALS: usize = 3;
/// The text for an undefined number.
const UNDEFINED: &str = "–";
/// The text for what is left out.
const LEFT_OUT: &str = "…";
/// The space between columns.
const GAP: usize = 2;
/// The width to which texts are cut before columns are hidden.
const SHORTEST: usize = 20;

/// A table as text, and what was left out of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrawnTable {
    /// One line for the names, and one for each row.
    pub text: String,
    /// Names of hidden columns.
    pub hidden: Vec<String>,
    /// Whether a text of a shown column was cut.
    pub is_cut: bool,
}

/// Formats all rows and columns of a table as aligned text, with numbers to the right.
///
/// polars' own formatting leaves out the middle of tables with more than eight rows or columns, where a
/// reader may look for a name.
#[must_use]
pub fn draw(frame: &DataFrame) -> String {
    draw_within(frame, usize::MAX, &[]).text
}

/// Formats all rows of a table as [`draw`] does, in lines of at most `width` characters: first long texts are cut, then columns
/// in the middle are hidden, those in `keep` last. The first column is always shown.
#[must_use]
pub fn draw_within(frame: &DataFrame, width: usize, keep: &[&str]) -> DrawnTable {
    let columns: Vec<TextColumn> = frame.columns().iter().map(TextColumn::of).collect();
    let everything = vec![true; columns.len()];
    if columns.is_empty() || total_width(&columns, &everything) <= width {
        return DrawnTable { text: lines(&columns, &everything), ..DrawnTable::default() };
    }
    // One column and the ellipsis for all others fit.
    let shortest = SHORTEST.min(width.saturating_sub(GAP + LEFT_OUT.width()).max(1));
    let widest = columns.iter().map(|column| column.width).max().unwrap_or(0);
    let fits = |limit: &usize| {
        let widths =
            columns.iter().map(|column| if column.is_numeric { column.width } else { column.width.min(*limit) });
        widths.map(|column| column + GAP).sum::<usize>() <= width + GAP
    };
    if let Some(limit) = (shortest..widest).rev().find(fits) {
        let cut: Vec<TextColumn> = columns.iter().map(|column| column.cut(limit)).collect();
        return DrawnTable { text: lines(&cut, &everything), hidden: Vec::new(), is_cut: true };
    }
    let cut: Vec<TextColumn> = columns.iter().map(|column| column.cut(shortest)).collect();
    let shown = shown_columns(&cut, width, keep);
    let hidden = columns.iter().zip(&shown).filter(|(_, shown)| !**shown).map(|(column, _)| column.name().to_owned());
    let is_shorter = |((whole, cut), shown): ((&TextColumn, &TextColumn), &bool)| *shown && whole.cells != cut.cells;
    let is_cut = columns.iter().zip(&cut).zip(&shown).any(is_shorter);
    DrawnTable { text: lines(&cut, &shown), hidden: hidden.collect(), is_cut }
}

/// A column as text: its name, then its values.
struct TextColumn {
    is_numeric: bool,
    cells: Vec<String>,
    width: usize,
}

impl TextColumn {
    fn of(column: &Column) -> Self {
        let mut cells = vec![column.name().to_string()];
        for row in 0..column.len() {
            cells.push(match column.get(row) {
                // A small negative number is shown as 0, not as -0.
                Ok(AnyValue::Float64(value)) if value.abs() < 0.5e-3 => format!("{:.DECIMALS$}", 0.0),
                Ok(AnyValue::Float64(value)) => format!("{value:.DECIMALS$}"),
                Ok(AnyValue::Null) | Err(_) => UNDEFINED.into(),
                Ok(value) => value.str_value().into_owned(),
            });
        }
        Self::new(column.dtype().is_primitive_numeric(), cells)
    }

    fn new(is_numeric: bool, cells: Vec<String>) -> Self {
        Self { is_numeric, width: cells.iter().map(|cell| cell.width()).max().unwrap_or(0), cells }
    }

    fn name(&self) -> &str {
        self.cells.first().map_or("", String::as_str)
    }

    /// The column with its texts cut to a width; numbers and their names stay whole.
    fn cut(&self, limit: usize) -> Self {
        let cut = |cell: &String| if self.is_numeric { cell.clone() } else { cut_text(cell, limit).into_owned() };
        Self::new(self.is_numeric, self.cells.iter().map(cut).collect())
    }
}

/// The beginning of a text, with an ellipsis if it is wider than the limit.
fn cut_text(text: &str, limit: usize) -> Cow<'_, str> {
    if text.width() <= limit {
        return Cow::Borrowed(text);
    }
    let mut kept = String::new();
    let mut width = LEFT_OUT.width();
    for letter in text.chars() {
        width += letter.width().unwrap_or(0);
        if width > limit {
            break;
        }
        kept.push(letter);
    }
    Cow::Owned(kept + LEFT_OUT)
}

/// The width of the lines, with an ellipsis for each run of hidden columns.
fn total_width(columns: &[TextColumn], shown: &[bool]) -> usize {
    let ellipsis = LEFT_OUT.width() + GAP;
    let mut width = 0;
    let mut after_shown = true;
    for (column, shown) in columns.iter().zip(shown) {
        width += match (shown, after_shown) {
            (true, _) => column.width + GAP,
            (false, true) => ellipsis,
            (false, false) => 0,
        };
        after_shown = *shown;
    }
    width.saturating_sub(GAP)
}

/// Which columns are shown in lines of this width.
fn shown_columns(columns: &[TextColumn], width: usize, keep: &[&str]) -> Vec<bool> {
    let mut shown = vec![true; columns.len()];
    let is_kept = |at: usize| keep.contains(&columns[at].name());
    while total_width(columns, &shown) > width {
        // Of two columns as near to the middle, the right one is hidden.
        let from_middle = |at: &usize| (is_kept(*at), (2 * at + 1).abs_diff(columns.len()), columns.len() - at);
        let Some(next) = (1..columns.len()).filter(|at| shown[*at]).min_by_key(from_middle) else { break };
        shown[next] = false;
    }
    shown
}

fn lines(columns: &[TextColumn], shown: &[bool]) -> String {
    let height = columns.first().map_or(0, |column| column.cells.len());
    let gap = " ".repeat(GAP);
    let mut text = String::new();
    for row in 0..height {
        let mut line = String::new();
        let mut after_shown = true;
        for (column, shown) in columns.iter().zip(shown) {
            let cell = &column.cells[row];
            let space = " ".repeat(column.width - cell.width());
            match (shown, after_shown) {
                (true, _) if column.is_numeric => line += &format!("{space}{cell}{gap}"),
                (true, _) => line += &format!("{cell}{space}{gap}"),
                (false, true) => line += &format!("{LEFT_OUT}{gap}"),
                (false, false) => {}
            }
            after_shown = *shown;
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use polars::prelude::{IntoColumn, NamedFrom, Series};

    use super::*;

    /// A table of a text column and some columns of numbers.
    fn table(text: &str, numbers: &[&str]) -> DataFrame {
        let mut columns = vec![Series::new("condition".into(), vec![text, "ctrl"]).into_column()];
        columns.extend(numbers.iter().map(|name| Series::new((*name).into(), vec![0.5, 10.25]).into_column()));
        DataFrame::new_infer_height(columns).expect("the columns fit")
    }

    fn widths(text: &str) -> Vec<usize> {
        text.lines().map(UnicodeWidthStr::width).collect()
    }

    #[test]
    fn a_table_that_fits_is_drawn_whole() {
        let table = table("stim", &["cells", "score"]);
        let drawn = draw_within(&table, 80, &[]);
        assert_eq!(drawn, DrawnTable { text: draw(&table), ..DrawnTable::default() });
        assert_eq!(drawn.text, "condition   cells   score\nstim        0.500   0.500\nctrl       10.250  10.250\n");
    }

    #[test]
    fn columns_in_the_middle_are_hidden_and_named() {
        let table = table("stim", &["first", "second", "third", "fourth", "last"]);
        let drawn = draw_within(&table, 36, &[]);
        assert_eq!(drawn.text.lines().next(), Some("condition   first  …  fourth    last"));
        assert_eq!(drawn.hidden, ["second", "third"]);
        assert!(!drawn.is_cut);
        let kept = draw_within(&table, 36, &["third"]);
        assert_eq!(kept.text.lines().next(), Some("condition  …   third  …    last"));
        assert_eq!(kept.hidden, ["first", "second", "fourth"]);
    }

    #[test]
    fn long_texts_are_cut_before_columns_are_hidden() {
        let long = "a".repeat(60);
        let drawn = draw_within(&table(&long, &["first", "last"]), 60, &[]);
        assert!(drawn.is_cut && drawn.hidden.is_empty(), "{drawn:?}");
        assert_eq!(widths(&drawn.text)[1], 60, "as much is shown as fits:\n{}", drawn.text);
    }

    #[test]
    fn no_line_is_wider_than_asked_for() {
        let names: Vec<String> = (0..20).map(|at| format!("pearson_delta:{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for text in ["stim", &"非常に長い条件の名前".repeat(9)] {
            for width in [20, 40, 80, 120, 200] {
                let drawn = draw_within(&table(text, &names), width, &["pearson_delta:9"]);
                assert!(widths(&drawn.text).iter().all(|line| *line <= width), "{width}:\n{}", drawn.text);
                assert!(!drawn.hidden.is_empty(), "{width}");
            }
        }
    }
}
