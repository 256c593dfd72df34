//! One HTML page about a model: how it compares with baselines, its data, the genes that change, and how it trained.
//!
//! The page is self-contained: pictures are inline SVG, a few lines of script sort tables, and it follows the reader's
//! light or dark colour scheme. [`page()`] turns plain structs into text, [`figures`] and [`tables`] into files of charts and tables, a [`ChartPainter`] charts into pictures;
//! the caller reads files and computes numbers.
//!
//! ```
//! let html = report::page(&report::ReportInput::default());
//! assert!(html.starts_with("<!doctype html>"));
//! ```
#![forbid(unsafe_code)]

mod ceiling;
mod chart;
mod data;
mod data_section;
mod export;
mod genes;
mod glossary;
mod judged;
mod labels;
mod latents;
mod names;
mod page;
mod pipeline;
mod png;
mod responses;
mod score_dots;
mod score_tables;
mod similarity;
mod svg;
mod table;
mod training;
mod verdict_box;

pub use data::{
    CellsByPart, CommandRun, DataOverview, DosePoint, DoseResponse, HistoryRow, LatentMap, Latents,
    PerturbationSimilarity, ReportInput, ResponseCurve, TextTable,
};
pub use export::{NamedText, figures, tables};
pub use judged::{PredictionOnPage, judged_page};
pub use page::page;
pub use png::ChartPainter;
