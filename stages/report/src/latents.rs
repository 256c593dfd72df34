//! Cells on the two directions in which their latents vary most, before and after adding perturbations and
//! covariates.

use super::{
    Latents,
    chart::{Chart, slug},
    svg::{Axis, horizontal_axis, label_at, vertical_axis},
};

/// Number of groups with their own colour; the others share one.
const HUES: usize = 8;

/// A chart of each map, coloured by condition and by covariates.
pub(super) fn latent_charts(latents: &Latents) -> Vec<Chart> {
    let ways = [
        ("condition", &latents.conditions, &latents.condition_of),
        ("context", &latents.contexts, &latents.context_of),
    ];
    let mut charts = Vec::new();
    for map in &latents.maps {
        let title = match map.name.as_str() {
            "basal" => "before the perturbation",
            "after" => "with perturbation and context",
            other => other,
        };
        for (by, names, groups) in ways {
            let title = format!("{title}, by {by}");
            let tooltip = format!("the latent `{}`", map.name);
            charts.extend(
                panel(&title, map.explained, &map.points, names, groups).map(|chart| Chart { tooltip, ..chart }),
            );
        }
    }
    charts
}

fn panel(title: &str, explained: [f64; 2], points: &[[f32; 2]], names: &[String], groups: &[u32]) -> Option<Chart> {
    let (left, right, top, bottom) = (40.0, 366.0, 8.0, 282.0);
    let along = |axis: usize| points.iter().map(move |point| f64::from(point[axis]));
    let (x, y) = (Axis::spanning(along(0), 0.0, (left, right))?, Axis::spanning(along(1), 0.0, (bottom, top))?);
    let share = |axis: usize| format!("component {} ({:.0}%)", axis + 1, 100.0 * explained[axis]);
    let mut body = vertical_axis(&y, (left, right)) + &horizontal_axis(&x, (top, bottom), &share(0));
    body += &label_at(left + 6.0, top + 12.0, "start", &share(1));
    let hues = hues(names.len(), groups);
    let mut dots = vec![String::new(); HUES + 1];
    for (point, group) in points.iter().zip(groups).filter(|(point, _)| point.iter().all(|at| at.is_finite())) {
        let hue = hues.get(*group as usize).copied().unwrap_or(HUES);
        dots[hue] += &format!("M{:.1} {:.1}h0", x.at(point[0].into()), y.at(point[1].into()));
    }
    // Points without their own colour are drawn below the rest.
    for hue in (0..=HUES).rev().filter(|hue| !dots[*hue].is_empty()) {
        body += &format!(r#"<path class="points hue{hue}" d="{}"/>"#, dots[hue]);
    }
    let mut legend = Vec::new();
    for hue in 0..HUES {
        if let Some(name) = hues.iter().position(|own| *own == hue).and_then(|group| names.get(group)) {
            legend.push((format!("hue{hue}"), name.clone()));
        }
    }
    if !dots[HUES].is_empty() {
        legend.push((format!("hue{HUES}"), "others".to_owned()));
    }
    Some(Chart {
        name: format!("latent-{}", slug(title)),
        title: title.to_owned(),
        size: (380.0, 316.0),
        body,
        legend,
        ..Chart::default()
    })
}

/// The hue of each group: the largest groups have their own, in the groups' order.
fn hues(groups: usize, of_cells: &[u32]) -> Vec<usize> {
    let mut sizes = vec![0_usize; groups];
    for group in of_cells {
        if let Some(size) = sizes.get_mut(*group as usize) {
            *size += 1;
        }
    }
    let mut largest: Vec<usize> = (0..groups).collect();
    largest.sort_by_key(|group| (std::cmp::Reverse(sizes[*group]), *group));
    largest.truncate(HUES);
    largest.sort_unstable();
    (0..groups).map(|group| largest.iter().position(|own| *own == group).unwrap_or(HUES)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_groups_have_hues_of_their_own() {
        let of_cells: Vec<u32> = (0..10).flat_map(|group| std::iter::repeat_n(group, 10 + group as usize)).collect();
        assert_eq!(hues(10, &of_cells), [8, 8, 0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(hues(2, &[0, 1, 1]), [0, 1]);
    }
}
