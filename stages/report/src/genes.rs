//! Genes that change: real and predicted changes side by side, and one against the other.

use evaluate::GeneChanges;

use super::{
    chart::{Chart, slug},
    labels::names,
    svg::{Axis, escape, fitted, horizontal_axis, label_at, short, vertical_axis},
    table::{PageTable, TableCell, TableColumn},
};

/// Genes of a chart with a row each.
const ROWS: usize = 14;
/// Genes named among the dots of all genes.
const NAMED: usize = 12;
/// Genes of a condition in the table.
const LISTED: usize = 50;
/// Standard errors on either side of a change that hold it in 95 of 100 experiments.
const STANDARD_ERRORS: f64 = 1.96;
/// A predicted change below this share of the real one is close to none, whatever its sign.
const CLOSE_TO_NONE: f64 = 0.05;
/// Least span of an axis of changes, so that noise does not fill it.
const LEAST_SPAN: f64 = 0.5;

/// A gene that changed.
struct ChangedGene<'a> {
    name: &'a str,
    control: f64,
    real: f64,
    /// Half the width of the 95% interval of the real change.
    reach: Option<f64>,
    predicted: f64,
}

impl ChangedGene<'_> {
    fn is_right(&self) -> bool {
        (self.real > 0.0) == (self.predicted > 0.0) && self.predicted != 0.0
    }

    fn is_close_to_none(&self) -> bool {
        self.predicted.abs() < CLOSE_TO_NONE * self.real.abs()
    }

    /// Whether a change is predicted, and in another direction than the real one.
    fn is_opposite(&self) -> bool {
        !self.is_right() && !self.is_close_to_none()
    }

    fn tooltip(&self) -> String {
        let reach = self.reach.map(|reach| format!(" ± {}", short(reach))).unwrap_or_default();
        let direction = match (self.is_close_to_none(), self.is_right()) {
            (true, _) => "close to no change",
            (false, true) => "same direction",
            (false, false) => "another direction",
        };
        let (real, predicted) = (short(self.real), short(self.predicted));
        format!("{}: real change {real}{reach}, predicted {predicted}, {direction}", self.name)
    }
}

/// The most changed genes with finite numbers, the most significant first.
fn changed(changes: &GeneChanges, count: usize) -> Vec<ChangedGene<'_>> {
    let number = |values: &[f32], gene: usize| values.get(gene).copied().map(f64::from).filter(|one| one.is_finite());
    let gene = |gene: &usize| {
        Some(ChangedGene {
            name: changes.genes.get(*gene)?,
            control: number(&changes.control, *gene)?,
            real: number(&changes.real, *gene)?,
            reach: number(&changes.standard_error, *gene).map(|error| STANDARD_ERRORS * error),
            predicted: number(&changes.predicted, *gene)?,
        })
    };
    changes.top.iter().filter_map(gene).take(count).collect()
}

/// A row for each of the genes that changed most: the real change with its interval, and the predicted one.
fn gene_chart(changes: &GeneChanges) -> Option<Chart> {
    let mut genes = changed(changes, ROWS);
    genes.sort_by(|a, b| b.real.total_cmp(&a.real));
    let (left, right, top, row_height) = (116.0, 366.0, 6.0, 18.0);
    let bottom = top + row_height * genes.len() as f64;
    let ends = genes.iter().flat_map(|one| {
        let reach = one.reach.unwrap_or(0.0);
        [one.real - reach, one.real + reach, one.predicted]
    });
    let x = Axis::spanning(ends.chain([0.0]), LEAST_SPAN, (left, right)).filter(|_| !genes.is_empty())?;
    let mut body = horizontal_axis(&x, (top, bottom), "change");
    body += &format!(r#"<path class="zero" d="M{0:.1} {top}V{bottom}"/>"#, x.at(0.0));
    for (row, gene) in genes.iter().enumerate() {
        let y = top + row_height * (row as f64 + 0.5);
        body += &format!("<g><title>{}</title>", escape(&gene.tooltip()));
        body += &label_at(left - 8.0, y + 3.5, "end", &fitted(gene.name, left - 10.0));
        if let Some(reach) = gene.reach {
            let (from, to) = (x.at(gene.real - reach), x.at(gene.real + reach));
            body += &format!(r#"<path class="interval other" d="M{from:.1} {y:.1}H{to:.1}"/>"#);
        }
        body += &format!(r#"<circle class="dot other" cx="{:.1}" cy="{y:.1}" r="4"/>"#, x.at(gene.real));
        let (class, at) = (if gene.is_opposite() { "ring bad" } else { "dot model" }, x.at(gene.predicted));
        body += &format!(r#"<path class="{class}" d="M{at:.1} {:.1}l4.5 4.5l-4.5 4.5l-4.5 -4.5z"/></g>"#, y - 4.5);
    }
    let right_ones = genes.iter().filter(|one| one.is_right()).count();
    let entry = |class: &str, text: &str| (class.to_owned(), text.to_owned());
    let mut legend = vec![entry("other", "real change, 95% interval"), entry("model diamond", "predicted")];
    if genes.iter().any(ChangedGene::is_opposite) {
        legend.push(entry("bad diamond open", "predicted in another direction"));
    }
    Some(Chart {
        name: format!("genes-{}", slug(&changes.title)),
        title: changes.title.clone(),
        aside: format!("direction right for {right_ones} of {}", genes.len()),
        tooltip: format!("{} cells against {} controls", changes.cells, changes.reference_cells),
        size: (380.0, bottom + 34.0),
        body,
        legend,
    })
}

/// Predicted against real changes, a dot each gene; those that changed most are named.
fn change_chart(changes: &GeneChanges) -> Option<Chart> {
    let (left, right, top, bottom) = (42.0, 366.0, 8.0, 332.0);
    let pairs: Vec<(f64, f64)> =
        changes.real.iter().zip(&changes.predicted).map(|(a, b)| (f64::from(*a), f64::from(*b))).collect();
    let pairs: Vec<(f64, f64)> = pairs.into_iter().filter(|(a, b)| a.is_finite() && b.is_finite()).collect();
    let x = Axis::spanning(pairs.iter().flat_map(|(a, b)| [*a, *b]), LEAST_SPAN, (left, right))?;
    let y = x.on((bottom, top));
    let mut body = vertical_axis(&y, (left, right)) + &horizontal_axis(&x, (top, bottom), "real change");
    body += &format!(r#"<path class="zero" d="M{0:.1} {top}V{bottom}M{left} {1:.1}H{right}"/>"#, x.at(0.0), y.at(0.0));
    body += &format!(r#"<path class="diagonal" d="M{left} {bottom}L{right} {top}"/>"#);
    // All genes are one path: a circle for each would make a page of tens of megabytes.
    let dots: String =
        pairs.iter().map(|(real, predicted)| format!("M{:.1} {:.1}h0", x.at(*real), y.at(*predicted))).collect();
    body += &format!(r#"<path class="points cloud" d="{dots}"/>"#);
    body += &format!(r#"<g class="named">{}</g>"#, label_at(left + 6.0, top + 12.0, "start", "predicted change"));
    let (mut named, mut marks) = (Vec::new(), String::new());
    let genes = changed(changes, NAMED);
    for gene in &genes {
        let (at_x, at_y) = (x.at(gene.real), y.at(gene.predicted));
        if let Some(reach) = gene.reach {
            let (from, to) = (x.at(gene.real - reach), x.at(gene.real + reach));
            marks += &format!(r#"<path class="interval model faint" d="M{from:.1} {at_y:.1}H{to:.1}"/>"#);
        }
        let tooltip = escape(&gene.tooltip());
        marks += &format!(
            r#"<circle class="dot model" cx="{at_x:.1}" cy="{at_y:.1}" r="3"><title>{tooltip}</title></circle>"#
        );
        named.push((gene.name, (at_x, at_y)));
    }
    body += &(names(&named, (left + 2.0, right + 4.0)) + &marks);
    let correlation = changes.correlation().map_or("undefined".into(), |found| format!("{found:.3}"));
    Some(Chart {
        name: format!("changes-{}", slug(&changes.title)),
        title: changes.title.clone(),
        aside: format!("correlation {correlation}, {} cells", changes.cells),
        tooltip: "pearson_delta: Pearson's correlation of the predicted with the real change".into(),
        size: (380.0, 366.0),
        body,
        legend: Vec::new(),
    })
}

/// Both charts of each condition, one after the other.
pub(super) fn change_charts(changes: &[GeneChanges]) -> Vec<Chart> {
    changes.iter().flat_map(|one| [gene_chart(one), change_chart(one)]).flatten().collect()
}

/// The genes that changed most, a row each; with `all`, every gene.
pub(super) fn gene_table(changes: &[GeneChanges], all: bool) -> PageTable {
    let row = |condition: &str, gene: &ChangedGene<'_>| {
        let low = gene.reach.map(|reach| gene.real - reach);
        let high = gene.reach.map(|reach| gene.real + reach);
        let (word, class) = if gene.is_right() { ("same", "") } else { ("other", "wrong") };
        let number = |value: f64| TableCell::number(Some(value));
        vec![
            TableCell::text(condition),
            TableCell::text(gene.name),
            number(gene.control),
            number(gene.real),
            TableCell::number(low),
            TableCell::number(high),
            number(gene.predicted),
            TableCell::text(word).of_class(class),
        ]
    };
    let mut rows = Vec::new();
    for one in changes {
        let every: Vec<usize> = (0..one.genes.len()).collect();
        let chosen = if all { GeneChanges { top: every, ..one.clone() } } else { one.clone() };
        let count = if all { chosen.genes.len() } else { LISTED };
        rows.extend(changed(&chosen, count).iter().map(|gene| row(&one.title, gene)));
    }
    PageTable {
        name: "gene-changes".into(),
        columns: vec![
            TableColumn::text("condition"),
            TableColumn::text("gene"),
            TableColumn::numbers("control")
                .shown_as("controls", "the mean of the controls from which the prediction started"),
            TableColumn::numbers("real_change")
                .shown_as("real change", "the mean of the real cells less that of the reference controls"),
            TableColumn::numbers("real_change_low")
                .shown_as("from", "lower end of the 95% interval of the real change"),
            TableColumn::numbers("real_change_high").shown_as("to", "upper end of the 95% interval of the real change"),
            TableColumn::numbers("predicted_change").shown_as("predicted", "the predicted change"),
            TableColumn::text("direction")
                .shown_as("direction", "whether real and predicted change have the same sign"),
        ],
        rows,
    }
}
