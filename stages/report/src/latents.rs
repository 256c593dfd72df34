//! Cells on the two directions in which their latents vary most, before and after adding perturbations and
//! covariates.

use super::{
    Latents,
    svg::{Axis, escape, horizontal_axis, label_at, picture, vertical_axis},
};

/// Number of groups with their own colour; the others share one.
const HUES: usize = 8;

/// A chart of each map, coloured by condition and by covariates.
pub(super) fn latent_maps(latents: &Latents) -> String {
    let ways = [
        ("condition", &latents.conditions, &latents.condition_of),
        ("covariates", &latents.contexts, &latents.context_of),
    ];
    let mut figures = String::new();
    for map in &latents.maps {
        for (by, names, groups) in ways {
            figures +=
                &panel(&format!("{} by {by}", map.name), map.explained, &map.points, names, groups).unwrap_or_default();
        }
    }
    figures
}

fn panel(title: &str, explained: [f64; 2], points: &[[f32; 2]], names: &[String], groups: &[u32]) -> Option<String> {
    let (left, right, top, bottom) = (40.0, 366.0, 8.0, 282.0);
    let along = |axis: usize| points.iter().map(move |point| f64::from(point[axis]));
    let (x, y) = (Axis::holding(along(0), (left, right))?, Axis::holding(along(1), (bottom, top))?);
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
        body += &format!(r#"<path class="cells hue{hue}" d="{}"/>"#, dots[hue]);
    }
    let mut legend = String::new();
    for hue in 0..HUES {
        if let Some(name) = hues.iter().position(|own| *own == hue).and_then(|group| names.get(group)) {
            legend += &format!(r#"<span class="swatch hue{hue}">{}</span>"#, escape(name));
        }
    }
    if !dots[HUES].is_empty() {
        legend += &format!(r#"<span class="swatch hue{HUES}">others</span>"#);
    }
    let svg = picture((380.0, 316.0), title, &body);
    Some(format!(
        "<figure><figcaption><b>{}</b></figcaption>{svg}<p class=\"legend\">{legend}</p></figure>",
        escape(title)
    ))
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
