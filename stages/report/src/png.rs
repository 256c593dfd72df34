//! Charts as PNG files, drawn from their SVG files with a font of the system.

use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{
        Options, Tree,
        fontdb::{Database, Family, Query},
    },
};
use schemas::{Error, Result};

use super::export::NamedText;

/// Pixels per unit of a chart, so that it is sharp on any screen and in print.
const SCALE: f32 = 3.0;
/// Fonts that are taken, in this order, where the system does not say which one has no serifs.
const FONTS: [&str; 5] = ["DejaVu Sans", "Liberation Sans", "Noto Sans", "Helvetica", "Arial"];

/// Draws charts with the fonts of the system.
#[derive(Debug)]
pub struct ChartPainter {
    options: Options<'static>,
}

impl ChartPainter {
    /// A painter with the fonts of the system; `None` if there is none, as charts without text are of no use.
    #[must_use]
    pub fn with_system_fonts() -> Option<Self> {
        let mut options = Options::default();
        let fonts = options.fontdb_mut();
        fonts.load_system_fonts();
        choose_font(fonts)?;
        Some(Self { options })
    }

    /// SVG files as PNG files of the same names.
    ///
    /// # Errors
    /// This fails only through a bug.
    pub fn draw(&self, charts: &[NamedText]) -> Result<Vec<(String, Vec<u8>)>> {
        let drawn =
            |(name, svg): &NamedText| Ok((format!("{}.png", name.trim_end_matches(".svg")), self.png(name, svg)?));
        charts.iter().map(drawn).collect()
    }

    fn png(&self, name: &str, svg: &str) -> Result<Vec<u8>> {
        let bug = |what: String| Error::Bug(format!("{name} can't be drawn: {what}"));
        let tree = Tree::from_str(svg, &self.options).map_err(|error| bug(error.to_string()))?;
        let size = tree.size().to_int_size().scale_by(SCALE).ok_or_else(|| bug("it has no size".into()))?;
        let mut pixels = Pixmap::new(size.width(), size.height()).ok_or_else(|| bug("it has no pixels".into()))?;
        resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
        pixels.encode_png().map_err(|error| bug(error.to_string()))
    }
}

/// Makes sure that there is a font without serifs.
fn choose_font(fonts: &mut Database) -> Option<()> {
    let has = |fonts: &Database, family| fonts.query(&Query { families: &[family], ..Query::default() }).is_some();
    if has(fonts, Family::SansSerif) {
        return Some(());
    }
    let usual = FONTS.into_iter().find(|name| has(fonts, Family::Name(name))).map(str::to_owned);
    let any = || fonts.faces().find_map(|face| face.families.first().map(|(name, _)| name.clone()));
    let chosen = usual.or_else(any)?;
    fonts.set_sans_serif_family(chosen);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::Chart;

    #[test]
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    fn a_chart_is_drawn_with_its_text_and_colours() {
        let Some(painter) = ChartPainter::with_system_fonts() else {
            eprintln!("skipped: this system has no fonts");
            return;
        };
        let chart = |title: &str| Chart {
            name: "a".into(),
            title: title.into(),
            size: (120.0, 40.0),
            body: r#"<circle class="dot model" cx="20" cy="20" r="10"/>"#.into(),
            ..Chart::default()
        };
        let svg = |title: &str| vec![("a.svg".to_owned(), chart(title).file())];
        let drawn = painter.draw(&svg("ΔA")).expect("a chart");
        assert_eq!(drawn[0].0, "a.png");
        let pixels = Pixmap::decode_png(&drawn[0].1).expect("a PNG file");
        assert_eq!((pixels.width(), pixels.height()), (444, 264));
        let colours = |pixels: &Pixmap, red: u8, green: u8| {
            pixels.pixels().iter().filter(|pixel| (pixel.red(), pixel.green()) == (red, green)).count()
        };
        // The model's colour fills a disc of 30 pixels, and the title is of ink.
        assert!((2700..2900).contains(&colours(&pixels, 0xb4, 0x47)), "{}", colours(&pixels, 0xb4, 0x47));
        assert!(colours(&pixels, 0x1d, 0x1f) > 30, "there is text");
        let without = painter.draw(&svg("")).expect("a chart");
        let without = Pixmap::decode_png(&without[0].1).expect("a PNG file");
        assert_eq!(colours(&without, 0x1d, 0x1f), 0, "there is no text");
    }

    #[test]
    fn without_fonts_nothing_is_chosen() {
        assert!(choose_font(&mut Database::new()).is_none());
    }
}
