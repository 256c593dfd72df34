//! File names within a model's folder.

/// The weights.
pub const WEIGHTS: &str = "model.safetensors";
/// The card; without it, the folder holds a run that has not finished.
pub const CARD: &str = "model.json";
/// All settings.
pub const CONFIG: &str = "config.toml";
/// The names of its genes, one per line.
pub const GENES: &str = "genes.txt";
/// One line per epoch.
pub const HISTORY: &str = "history.jsonl";
/// The split it was trained with.
pub const SPLIT: &str = "split.parquet";
/// Measurements of the pipeline.
pub const PIPELINE: &str = "pipeline.json";
/// Scores of the last evaluation.
pub const EVALUATION: &str = "evaluation.json";
/// Folder of the checkpoints.
pub const CHECKPOINTS: &str = "checkpoint";
/// The files that training writes besides checkpoints.
pub const OF_TRAINING: [&str; 6] = [WEIGHTS, CARD, CONFIG, GENES, HISTORY, SPLIT];
/// All names in the folder of a finished model.
pub const ALL: [&str; 9] = [WEIGHTS, CARD, CONFIG, GENES, HISTORY, SPLIT, PIPELINE, EVALUATION, CHECKPOINTS];
