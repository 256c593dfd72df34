//! A chart: part of a page, or a file of its own.

use super::svg::{escape, label_at, picture};

/// Colours and marks of charts, with variables for colours.
const STYLE: &str = include_str!("chart.css");
/// Space of a stand-alone chart around its drawing.
const MARGIN: f64 = 14.0;
/// Width of a character of a legend, at most on average.
const CHARACTER: f64 = 6.6;

/// A drawing with its title and legend.
#[derive(Clone, Debug, Default)]
pub(super) struct Chart {
    /// The name of its file, without an ending.
    pub(super) name: String,
    /// Its title.
    pub(super) title: String,
    /// A few words after the title.
    pub(super) aside: String,
    /// The text that a pointer on the title shows.
    pub(super) tooltip: String,
    /// Width and height.
    pub(super) size: (f64, f64),
    /// SVG elements.
    pub(super) body: String,
    /// Classes of marks, and what they stand for.
    pub(super) legend: Vec<(String, String)>,
}

impl Chart {
    /// The chart as a part of a page.
    pub(super) fn figure(&self) -> String {
        let [title, aside, tooltip] = [&self.title, &self.aside, &self.tooltip].map(|text| escape(text));
        let aside = if aside.is_empty() { aside } else { format!("<span>{aside}</span>") };
        let entry = |(class, text): &(String, String)| {
            format!(r#"<span><i class="swatch {class}"></i>{}</span>"#, escape(text))
        };
        let legend: String = self.legend.iter().map(entry).collect();
        let legend = if legend.is_empty() { legend } else { format!(r#"<p class="legend">{legend}</p>"#) };
        let svg = picture(self.size, &self.title, &self.body);
        format!(
            r#"<figure style="--width:{}px"><figcaption><b title="{tooltip}">{title}</b>{aside}</figcaption><div class="drawing">{svg}</div>{legend}</figure>"#,
            self.size.0
        )
    }

    /// The chart as an SVG file, in light colours.
    pub(super) fn file(&self) -> String {
        let width = self.size.0.max(CHARACTER * self.title.chars().count() as f64);
        let (mut legend, mut x, mut y) = (String::new(), 0.0, self.size.1 + 16.0);
        for (class, text) in &self.legend {
            let needed = 24.0 + CHARACTER * text.chars().count() as f64;
            if x > 0.0 && x + needed > width {
                (x, y) = (0.0, y + 16.0);
            }
            legend += &legend_mark(class, (x + 5.0, y - 3.5));
            legend += &label_at(x + 14.0, y, "start", text);
            x += needed;
        }
        let bottom = if self.legend.is_empty() { self.size.1 } else { y };
        let (width, height) = (width + 2.0 * MARGIN, bottom + 20.0 + 2.0 * MARGIN);
        let title = format!(r#"<text class="title" x="0" y="0">{}</text>"#, escape(&self.title));
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.1} {height:.1}\" font-family=\"sans-serif\" font-size=\"11\"><style>{}</style>\
             <rect class=\"paper\" width=\"100%\" height=\"100%\"/><g transform=\"translate({MARGIN} {:.1})\">{title}\
             <g transform=\"translate(0 12)\">{}{legend}</g></g></svg>\n",
            plain_style(),
            MARGIN + 8.0,
            self.body
        )
    }
}

/// A mark of a legend, in the shape that its class names.
fn legend_mark(class: &str, (x, y): (f64, f64)) -> String {
    let fill = if class.contains("open") { "ring" } else { "dot" };
    match class.contains("diamond") {
        true => format!(r#"<path class="{fill} {class}" d="M{x:.1} {:.1}l4.5 4.5l-4.5 4.5l-4.5 -4.5z"/>"#, y - 4.5),
        false => format!(r#"<circle class="{fill} {class}" cx="{x:.1}" cy="{y:.1}" r="4"/>"#),
    }
}

/// The style with its light colours in place of variables, which other programs than browsers don't know.
fn plain_style() -> String {
    let mut style = STYLE.to_owned();
    for line in STYLE.lines() {
        for declaration in line.split(';') {
            let declared = declaration.trim().split_once(": ").filter(|(name, _)| name.starts_with("--"));
            if let Some((name, value)) = declared {
                style = style.replace(&format!("var({name})"), value);
            }
        }
    }
    style
}

/// A charts' file name made of words: other characters than letters and digits become `-`.
pub(super) fn slug(words: &str) -> String {
    let kept: String = words.chars().map(|one| if one.is_alphanumeric() { one } else { '-' }).collect();
    kept.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-").to_lowercase()
}

/// All charts one after another, in a grid.
pub(super) fn grid(charts: &[Chart]) -> String {
    in_columns("charts", charts)
}

/// The same in two columns at most, for charts that belong together in pairs.
pub(super) fn pairs(charts: &[Chart]) -> String {
    in_columns("charts pairs", charts)
}

/// The same in one column, for charts that are wider.
pub(super) fn column(charts: &[Chart]) -> String {
    in_columns("charts wide", charts)
}

fn in_columns(class: &str, charts: &[Chart]) -> String {
    if charts.is_empty() {
        return String::new();
    }
    format!(r#"<div class="{class}">{}</div>"#, charts.iter().map(Chart::figure).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stands_alone() {
        let chart = Chart {
            title: "A <b>".into(),
            size: (380.0, 100.0),
            legend: vec![("hue0".into(), "K562 & <co>".into())],
            ..Chart::default()
        };
        let file = chart.file();
        assert!(file.contains("xmlns=") && file.contains("A &lt;b&gt;") && file.contains("K562 &amp; &lt;co&gt;"));
        assert!(!file.contains("var("), "a variable has no value: {file}");
    }

    #[test]
    fn a_file_name_has_no_special_characters() {
        assert_eq!(slug("KLF1+MAP2K6 at 1+0.5, CD14+ Monocytes"), "klf1-map2k6-at-1-0-5-cd14-monocytes");
        assert_eq!(slug("../etc"), "etc");
    }
}
