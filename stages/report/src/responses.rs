//! Dose-response curves: the size of the predicted change at each dose, and which doses were trained.

use super::{
    DosePoint, DoseResponse,
    chart::{Chart, slug},
    svg::{Axis, escape, horizontal_ticks, label_at, short, vertical_axis},
    table::{PageTable, TableCell, TableColumn},
};

/// The axis of doses is logarithmic if the largest trained one is at least this many times the smallest.
const LOGARITHMIC: f64 = 20.0;
/// Least span of the axis of changes.
const LEAST_SPAN: f64 = 0.5;

/// The kind of a curve's point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DoseKind {
    /// The dose was trained in this context.
    Trained,
    /// It was trained in other contexts alone.
    TrainedElsewhere,
    /// It lies between trained doses.
    Interpolated,
    /// It lies between no dose and the smallest trained one.
    BelowTrained,
    /// It is larger than every trained one.
    Extrapolated,
}

impl DoseKind {
    fn of(point: &DosePoint, trained: &[f64]) -> Self {
        let within = |dose: &f64| point.dose <= *dose;
        match trained {
            _ if point.trained => Self::Trained,
            _ if trained.contains(&point.dose) => Self::TrainedElsewhere,
            [first, ..] if point.dose < *first => Self::BelowTrained,
            _ if trained.iter().any(within) => Self::Interpolated,
            _ => Self::Extrapolated,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Trained => "trained",
            Self::TrainedElsewhere => "trained in other contexts only",
            Self::Interpolated => "interpolated between trained doses",
            Self::BelowTrained => "interpolated between no dose and the smallest trained dose",
            Self::Extrapolated => "extrapolated beyond the largest trained dose",
        }
    }
}

/// One chart per perturbation.
pub(super) fn dose_charts(responses: &[DoseResponse]) -> Vec<Chart> {
    responses.iter().filter_map(chart).collect()
}

/// Places of doses on an axis.
#[derive(Clone, Copy)]
struct DoseAxis {
    is_logarithmic: bool,
}

impl DoseAxis {
    fn new(trained: &[f64]) -> Self {
        let positive = || trained.iter().copied().filter(|dose| *dose > 0.0);
        let (least, most) = (positive().fold(f64::INFINITY, f64::min), positive().fold(0.0, f64::max));
        Self { is_logarithmic: most >= LOGARITHMIC * least }
    }

    /// Where a dose is; no dose has no place on a logarithmic axis.
    fn place(self, dose: f64) -> Option<f64> {
        if !self.is_logarithmic {
            return Some(dose);
        }
        (dose > 0.0).then(|| dose.log10())
    }

    fn ticks(self, axis: &Axis) -> Vec<(f64, String)> {
        let ticks = axis.ticks();
        if !self.is_logarithmic {
            return ticks;
        }
        let powers = ticks.into_iter().filter(|(power, _)| power.fract().abs() < 1e-9);
        powers.map(|(power, _)| (power, plain(10_f64.powf(power)))).collect()
    }
}

/// A power of ten without unneeded zeros.
fn plain(dose: f64) -> String {
    if (1e-3..1e5).contains(&dose) { format!("{}", (dose * 1e6).round() / 1e6) } else { format!("{dose:.0e}") }
}

fn chart(response: &DoseResponse) -> Option<Chart> {
    let (left, right, top, bottom) = (46.0, 356.0, 8.0, 222.0);
    let points = || response.curves.iter().flat_map(|curve| &curve.points);
    let doses = DoseAxis::new(&response.trained);
    let x = Axis::spanning(points().filter_map(|point| doses.place(point.dose)), 0.0, (left, right))?;
    let sizes = points().map(|point| point.effect_size).chain([0.0]);
    let y = Axis::spanning(sizes, LEAST_SPAN, (bottom, top))?;
    let mut body = vertical_axis(&y, (left, right)) + &horizontal_ticks(&x, doses.ticks(&x), (top, bottom), "dose");
    for place in response.trained.iter().filter_map(|dose| doses.place(*dose)) {
        body += &format!(r#"<path class="trained" d="M{:.1} {top}V{bottom}"/>"#, x.at(place));
    }
    let name = label_at(left + 6.0, top + 12.0, "start", "size of the predicted change");
    body += &format!(r#"<g class="named">{name}</g>"#);
    let mut legend = Vec::new();
    for (hue, curve) in response.curves.iter().enumerate() {
        let at = curve.points.iter().filter(|point| point.effect_size.is_finite()).filter_map(|point| {
            Some((
                x.at(doses.place(point.dose)?),
                y.at(point.effect_size),
                point,
                DoseKind::of(point, &response.trained),
            ))
        });
        let at: Vec<_> = at.collect();
        for pair in at.windows(2) {
            let [(from_x, from_y, ..), (to_x, to_y, _, kind)] = pair else { continue };
            let beyond = if *kind == DoseKind::Extrapolated { " beyond" } else { "" };
            body +=
                &format!(r#"<path class="line{beyond} hue{hue}" d="M{from_x:.1} {from_y:.1}L{to_x:.1} {to_y:.1}"/>"#);
        }
        for (x, y, point, kind) in at {
            let error = point.distance.map(|error| format!(", expected error {}", short(error))).unwrap_or_default();
            let size = short(point.effect_size);
            let tooltip = format!("{}, dose {}: change {size}, {}{error}", curve.context, point.dose, kind.name());
            let (class, radius) = if kind == DoseKind::Trained { ("dot", 4.0) } else { ("ring", 2.5) };
            body += &format!(
                r#"<circle class="{class} hue{hue}" cx="{x:.1}" cy="{y:.1}" r="{radius}"><title>{}</title></circle>"#,
                escape(&tooltip)
            );
        }
        legend.push((format!("hue{hue}"), curve.context.clone()));
    }
    Some(Chart {
        name: format!("dose-{}", slug(&response.perturbation)),
        title: response.perturbation.clone(),
        aside: format!("trained at {}", response.trained.iter().map(f64::to_string).collect::<Vec<_>>().join(", ")),
        size: (380.0, 256.0),
        body,
        legend,
        ..Chart::default()
    })
}

/// The curves, a row each point.
pub(super) fn dose_table(responses: &[DoseResponse]) -> PageTable {
    let mut rows = Vec::new();
    for response in responses {
        for (curve, point) in response.curves.iter().flat_map(|curve| curve.points.iter().map(move |one| (curve, one)))
        {
            rows.push(vec![
                TableCell::text(&response.perturbation),
                TableCell::text(&curve.context),
                TableCell::number(Some(point.dose)),
                TableCell::number(Some(point.effect_size)),
                TableCell::number(point.distance),
                TableCell::text(DoseKind::of(point, &response.trained).name()),
            ]);
        }
    }
    let columns = ["perturbation", "context"].map(TableColumn::text).into_iter();
    let numbers = ["dose", "change", "expected_error"].map(TableColumn::numbers);
    PageTable {
        name: "dose-responses".into(),
        columns: columns.chain(numbers).chain([TableColumn::text("dose_was")]).collect(),
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doses_are_trained_between_trained_ones_or_beyond_them() {
        let kind =
            |dose: f64, trained: bool| DoseKind::of(&DosePoint { dose, trained, ..DosePoint::default() }, &[0.5, 1.0]);
        assert_eq!(kind(1.0, true), DoseKind::Trained);
        assert_eq!(kind(1.0, false), DoseKind::TrainedElsewhere);
        assert_eq!(kind(0.75, false), DoseKind::Interpolated);
        assert_eq!(kind(0.1, false), DoseKind::BelowTrained);
        assert_eq!(kind(1.5, false), DoseKind::Extrapolated);
    }

    #[test]
    fn doses_of_several_decades_are_on_a_logarithmic_axis() {
        let doses = DoseAxis::new(&[10.0, 100.0, 10_000.0]);
        assert_eq!((doses.place(100.0), doses.place(0.0)), (Some(2.0), None));
        let axis = Axis::spanning([1.0, 4.0].into_iter(), 0.0, (0.0, 90.0)).expect("values");
        let labels: Vec<String> = doses.ticks(&axis).into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["10", "100", "1000", "10000"]);
        assert_eq!(DoseAxis::new(&[0.5, 1.0]).place(0.0), Some(0.0));
    }
}
