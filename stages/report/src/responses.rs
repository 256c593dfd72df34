//! Dose-response curves: the size of the predicted change at each dose.

use super::{
    DoseResponse,
    svg::{Axis, escape, horizontal_axis, label_at, picture, short, vertical_axis},
};

/// One chart per perturbation.
pub(super) fn dose_responses(responses: &[DoseResponse]) -> String {
    responses.iter().filter_map(panel).collect()
}

fn panel(response: &DoseResponse) -> Option<String> {
    let (left, right, top, bottom) = (46.0, 366.0, 8.0, 222.0);
    let points = || response.curves.iter().flat_map(|curve| &curve.points);
    let x = Axis::holding(points().map(|point| point.dose), (left, right))?;
    let y = Axis::holding(points().map(|point| point.effect_size).chain([0.0]), (bottom, top))?;
    let mut body = vertical_axis(&y, (left, right)) + &horizontal_axis(&x, (top, bottom), "dose");
    body += &label_at(left + 6.0, top + 12.0, "start", "size of the predicted change");
    for dose in &response.trained {
        body += &format!(r#"<path class="trained" d="M{:.1} {top}V{bottom}"/>"#, x.at(*dose));
    }
    let mut legend = String::new();
    for (hue, curve) in response.curves.iter().enumerate() {
        let at = curve.points.iter().filter(|point| point.effect_size.is_finite());
        let at: Vec<_> = at.map(|point| (x.at(point.dose), y.at(point.effect_size), point)).collect();
        let path: Vec<String> = at.iter().map(|(x, y, _)| format!("{x:.1} {y:.1}")).collect();
        body += &format!(r#"<path class="curve hue{hue}" d="M{}"/>"#, path.join("L"));
        for (x, y, point) in at {
            let distance = point.distance.map(|distance| format!(", distance {}", short(distance))).unwrap_or_default();
            let told = format!("dose {}: change {}{distance}", point.dose, short(point.effect_size));
            let class = if point.distance == Some(0.0) { "known" } else { "open" };
            body += &format!(
                r#"<circle class="{class} hue{hue}" cx="{x:.1}" cy="{y:.1}" r="3"><title>{}</title></circle>"#,
                escape(&told)
            );
        }
        legend += &format!(r#"<span class="swatch hue{hue}">{}</span>"#, escape(&curve.context));
    }
    let title = &response.perturbation;
    let svg = picture((380.0, 256.0), &format!("dose response of {title}"), &body);
    Some(format!(
        "<figure><figcaption><b>{}</b></figcaption>{svg}<p class=\"legend\">{legend}</p></figure>",
        escape(title)
    ))
}
