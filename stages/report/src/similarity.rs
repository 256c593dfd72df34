//! A map of how alike the predicted changes of perturbations are.

use super::{
    PerturbationSimilarity,
    chart::Chart,
    svg::{CHARACTER, escape, fitted, label_at},
    table::{PageTable, TableCell, TableColumn},
};

/// Maximum number of perturbations whose cosines are written into the tiles.
const WITH_NUMBERS: usize = 9;
/// From this cosine on, a tile is so dark that its number is light.
const DARK: f64 = 0.6;

/// The chart: a tile each pair, similar perturbations next to each other; nothing for fewer than three.
pub(super) fn similarity_chart(similarity: &PerturbationSimilarity) -> Option<Chart> {
    let names = &similarity.names;
    if names.len() < 3 || similarity.cosines.len() != names.len() * names.len() {
        return None;
    }
    let cosine = |a: usize, b: usize| f64::from(similarity.cosines[a * names.len() + b]);
    let order = order(names.len(), &cosine);
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let (left, top) = ((CHARACTER * (longest as f64 + 3.0)).clamp(60.0, 216.0), 4.0);
    let tile = (272.0 / names.len() as f64).max(14.0);
    let mut body = String::new();
    for (row, a) in order.iter().enumerate() {
        let y = top + tile * row as f64;
        body += &label_at(left - 8.0, y + tile / 2.0 + 3.5, "end", &fitted(&names[*a], left - 10.0));
        for (column, b) in order.iter().enumerate() {
            let (x, value) = (left + tile * column as f64, cosine(*a, *b));
            let class = if value < 0.0 { "other" } else { "model" };
            let tooltip = escape(&format!("{} and {}: cosine {value:.2}", names[*a], names[*b]));
            body += &format!(
                r#"<rect class="tile {class}" x="{x:.1}" y="{y:.1}" width="{0:.1}" height="{0:.1}" fill-opacity="{1:.2}"><title>{tooltip}</title></rect>"#,
                tile - 1.0,
                value.abs().min(1.0)
            );
            if names.len() <= WITH_NUMBERS {
                let number = label_at(x + tile / 2.0, y + tile / 2.0 + 3.5, "middle", &format!("{value:.2}"));
                let class = if value.abs() > DARK { "inverse" } else { "named" };
                body += &format!(r#"<g class="{class}">{number}</g>"#);
            }
        }
    }
    let side = tile * names.len() as f64;
    let from = |what: &str, class: &str| (class.to_owned(), what.to_owned());
    Some(Chart {
        name: "similarity".into(),
        title: format!("predicted changes in {}", similarity.context),
        aside: match similarity.left_out {
            0 => String::new(),
            more => format!("{} with the most training cells; {more} more", names.len()),
        },
        tooltip: "cosine of the predicted changes of each pair of perturbations".into(),
        size: (left + side + 4.0, top + side + 6.0),
        body,
        legend: vec![from("alike: cosine 1", "model"), from("opposite: cosine −1", "other")],
    })
}

/// The cosines, a row each pair.
pub(super) fn similarity_table(similarity: &PerturbationSimilarity) -> PageTable {
    let names = &similarity.names;
    let pairs = (0..names.len()).flat_map(|a| (a + 1..names.len()).map(move |b| (a, b)));
    let row = |(a, b): (usize, usize)| {
        let cosine = similarity.cosines.get(a * names.len() + b).map(|cosine| f64::from(*cosine));
        vec![TableCell::text(&names[a]), TableCell::text(&names[b]), TableCell::number(cosine)]
    };
    PageTable {
        name: "similarity".into(),
        columns: vec![TableColumn::text("perturbation"), TableColumn::text("other"), TableColumn::numbers("cosine")],
        rows: pairs.map(row).collect(),
    }
}

/// An order in which similar things are next to each other: groups are joined, the most similar on average first.
fn order(count: usize, similarity: &dyn Fn(usize, usize) -> f64) -> Vec<usize> {
    let mut groups: Vec<Vec<usize>> = (0..count).map(|one| vec![one]).collect();
    let between = |a: &[usize], b: &[usize]| {
        let all = a.iter().flat_map(|a| b.iter().map(move |b| similarity(*a, *b)));
        all.sum::<f64>() / (a.len() * b.len()) as f64
    };
    while groups.len() > 1 {
        let pairs = (0..groups.len()).flat_map(|a| (a + 1..groups.len()).map(move |b| (a, b)));
        let closest =
            pairs.max_by(|x, y| between(&groups[x.0], &groups[x.1]).total_cmp(&between(&groups[y.0], &groups[y.1])));
        let Some((a, b)) = closest else { break };
        let other = groups.swap_remove(b);
        groups[a].extend(other);
    }
    groups.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_perturbations_are_neighbours() {
        let group = |one: usize| one % 2;
        let order = order(6, &|a, b| if group(a) == group(b) { 0.9 } else { -0.2 });
        let changes = order.windows(2).filter(|pair| group(pair[0]) != group(pair[1])).count();
        assert_eq!((order.len(), changes), (6, 1), "{order:?}");
    }

    #[test]
    fn two_perturbations_make_no_map() {
        let two = PerturbationSimilarity {
            names: vec!["A".into(), "B".into()],
            cosines: vec![1.0; 4],
            ..PerturbationSimilarity::default()
        };
        assert!(similarity_chart(&two).is_none());
        assert_eq!(similarity_table(&two).rows.len(), 1);
    }
}
