//! Names next to points, where there is room.

use super::svg::{CHARACTER, label_at};

/// Left end, right end, and vertical centre.
type LabelSpan = (f64, f64, f64);

/// Places names next to their points, to the right or else to the left, if there is space between points and
/// earlier names.
pub(super) fn names(named: &[(&str, (f64, f64))], (left, right): (f64, f64)) -> String {
    let mut taken: Vec<LabelSpan> = named.iter().map(|(_, (x, y))| (x - 4.0, x + 4.0, *y)).collect();
    let mut labels = String::new();
    for (name, (x, y)) in named {
        let width = CHARACTER * name.chars().count() as f64;
        let fits = |start: f64| {
            let covers =
                |(from, to, middle): &LabelSpan| (middle - y).abs() < 13.0 && *from < start + width && start < *to;
            start >= left && start + width <= right && !taken.iter().any(covers)
        };
        let sides = [(x + 6.0, x + 6.0, "start"), (x - 6.0 - width, x - 6.0, "end")];
        if let Some((start, at, anchor)) = sides.into_iter().find(|(start, ..)| fits(*start)) {
            taken.push((start, start + width, *y));
            labels += &label_at(at, y + 3.5, anchor, name);
        }
    }
    format!(r#"<g class="named">{labels}</g>"#)
}
