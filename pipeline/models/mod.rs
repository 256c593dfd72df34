//! The pipelines of a model: training it, predicting with it, and using the predictions.

mod batch_sizes;
pub mod crossvalidating;
pub mod data_overview;
mod dose_grid;
pub mod dose_response;
pub mod embedding;
pub mod evaluation;
pub mod figures;
pub mod gene_choice;
mod held_out;
mod model_cells;
pub mod predicting;
pub mod profiling;
pub mod publishing;
pub mod training;
