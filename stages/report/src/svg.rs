//! The few SVG elements that charts need: axes with round ticks, and marks placed by their values.

use schemas::numbers::bounded;

/// Maximum number of steps of an axis, before its ends are rounded outwards.
const STEPS: f64 = 5.0;

/// Escapes all characters that HTML reads as markup.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A number with about three significant digits, short enough for a chart.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e6).contains(&size) {
        return format!("{value:.1e}");
    }
    let decimals = [(100.0, 0), (10.0, 1), (1.0, 2)].iter().find(|(from, _)| *from <= size).map_or(3, |(_, n)| *n);
    format!("{value:.decimals$}")
}

/// Maps a range of values to a range of pixels; both ends are ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    step: f64,
    pixels: (f64, f64),
}

impl Axis {
    /// An axis that contains all finite values and spans this much at least, so that small differences look small; `None`
    /// without values. It does not begin below 0 for the sake of its span, if no value is.
    pub(super) fn spanning(values: impl Iterator<Item = f64>, least: f64, pixels: (f64, f64)) -> Option<Self> {
        let range = values.filter(|value| value.is_finite()).fold(None, |range: Option<(f64, f64)>, value| {
            Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
        });
        let (mut low, mut high) = range?;
        let least = if low == high && least <= 0.0 { if low == 0.0 { 2.0 } else { low.abs() * 0.2 } } else { least };
        if high - low < least {
            let middle = f64::midpoint(low, high);
            let start = if low >= 0.0 { (middle - least / 2.0).max(0.0) } else { middle - least / 2.0 };
            (low, high) = (start.min(low), (start + least).max(high));
        }
        let rough = (high - low) / STEPS;
        let magnitude = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0].map(|n| n * magnitude).into_iter().find(|step| rough <= *step);
        let step = step.unwrap_or(10.0 * magnitude);
        Some(Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, step, pixels })
    }

    /// The pixel of a value; values beyond an end are placed at that end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    /// Whether the axis contains a value.
    pub(super) fn has(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// The same axis on other pixels.
    pub(super) fn on(self, pixels: (f64, f64)) -> Self {
        Self { pixels, ..self }
    }

    /// The axis's range of pixels.
    pub(super) fn pixels(&self) -> (f64, f64) {
        self.pixels
    }

    /// Round values from one end to the other, with their labels.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let decimals = (0..9).find(|places| is_whole(self.step * 10_f64.powi(*places))).unwrap_or(9);
        let decimals: usize = bounded(decimals);
        let mut ticks = Vec::new();
        let mut index = 0.0;
        while self.low + index * self.step <= self.high + self.step / 2.0 {
            // Adding zero keeps a tick at 0 from being written as -0.
            let value = (self.low / self.step + index).round() * self.step + 0.0;
            ticks.push((value, format!("{value:.decimals$}")));
            index += 1.0;
        }
        ticks
    }
}

fn is_whole(value: f64) -> bool {
    (value - value.round()).abs() < 1e-6 && value > 0.5
}

/// An axis along the bottom, with a grid line and a number for each tick, and a name below.
pub(super) fn horizontal_axis(axis: &Axis, ends: (f64, f64), name: &str) -> String {
    horizontal_ticks(axis, axis.ticks(), ends, name)
}

/// The same with these ticks.
pub(super) fn horizontal_ticks(
    axis: &Axis,
    ticks: impl IntoIterator<Item = (f64, String)>,
    (top, bottom): (f64, f64),
    name: &str,
) -> String {
    let mut svg = String::new();
    for (value, label) in ticks {
        let x = axis.at(value);
        svg += &format!(r#"<path class="grid" d="M{x:.1} {top:.1}V{bottom:.1}"/>"#);
        svg += &label_at(x, bottom + 14.0, "middle", &label);
    }
    let (left, right) = axis.pixels();
    svg + &label_at(f64::midpoint(left, right), bottom + 29.0, "middle", name)
}

/// An axis along the left side, with a grid line and a number for each tick.
pub(super) fn vertical_axis(axis: &Axis, (left, right): (f64, f64)) -> String {
    let mut svg = String::new();
    for (value, label) in axis.ticks() {
        let y = axis.at(value);
        svg += &format!(r#"<path class="grid" d="M{left:.1} {y:.1}H{right:.1}"/>"#);
        svg += &label_at(left - 6.0, y + 3.5, "end", &label);
    }
    svg
}

/// Small text; `anchor` is `start`, `middle` or `end`.
pub(super) fn label_at(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!(r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#, escape(text))
}

/// Width of a character of a label, at most on average: names of genes are capitals.
pub(super) const CHARACTER: f64 = 8.0;

/// A name cut to a number of pixels.
pub(super) fn fitted(name: &str, pixels: f64) -> String {
    let room: usize = (2_u16..).find(|count| CHARACTER * (f64::from(*count) + 1.0) > pixels).unwrap_or(2).into();
    if name.chars().count() <= room {
        return name.to_owned();
    }
    name.chars().take(room - 1).chain(['…']).collect()
}

/// A complete picture, with a description for screen readers.
pub(super) fn picture((width, height): (f64, f64), description: &str, body: &str) -> String {
    let description = escape(description);
    format!(r#"<svg viewBox="0 0 {width} {height}" role="img" aria-label="{description}">{body}</svg>"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64]) -> Vec<String> {
        let axis = Axis::spanning(values.iter().copied(), 0.0, (0.0, 100.0)).expect("there are values");
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_hold_every_value() {
        assert_eq!(labels(&[0.03, 0.97]), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&[-1.0, 1.0]), ["-1.0", "-0.5", "0.0", "0.5", "1.0"]);
        assert_eq!(labels(&[1234.0, 5678.0]), ["1000", "2000", "3000", "4000", "5000", "6000"]);
        assert_eq!(labels(&[0.0, 24.0]), ["0", "5", "10", "15", "20", "25"]);
    }

    #[test]
    fn small_differences_look_small() {
        let ends = |values: [f64; 2], least| {
            let axis = Axis::spanning(values.into_iter(), least, (0.0, 1.0)).expect("there are values");
            (axis.low, axis.high)
        };
        let (low, high) = ends([0.9131, 0.9134], 0.1);
        assert!(high - low >= 0.1 && low < 0.9 && high > 0.95, "{low} {high}");
        assert_eq!(ends([0.0, 0.01], 1.0).0, 0.0, "no axis begins below 0 for no reason");
    }

    #[test]
    fn long_names_are_cut_to_the_space() {
        assert_eq!((fitted("ISG15", 70.0), fitted("ENSG00000187608", 70.0)), ("ISG15".into(), "ENSG000…".into()));
    }

    #[test]
    fn one_value_and_nothing_finite_are_no_trouble() {
        assert!(labels(&[3.0]).len() >= 2);
        assert!(labels(&[0.0]).len() >= 2);
        assert!(Axis::spanning([f64::NAN, f64::INFINITY].into_iter(), 1.0, (0.0, 1.0)).is_none());
    }

    #[test]
    fn values_beyond_an_axis_lie_on_its_ends() {
        let axis = Axis::spanning([0.0, 1.0].into_iter(), 0.0, (10.0, 110.0)).expect("there are values");
        assert_eq!((axis.at(-5.0), axis.at(0.5), axis.at(9.0)), (10.0, 60.0, 110.0));
    }

    #[test]
    fn markup_in_text_is_disarmed() {
        assert_eq!(escape(r#"<a href="x">&'"#), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
    }

    #[test]
    fn numbers_keep_about_three_digits() {
        assert_eq!([0.1234, 1.234, 12.34, 1234.0, 0.0].map(short), ["0.123", "1.23", "12.3", "1234", "0.000"]);
        assert_eq!([1.5e-5, -2.0e7].map(short), ["1.5e-5", "-2.0e7"]);
    }
}
