//! Whether an atlas has values of the kind that a model was trained on, and which flag of `ingest` would read them.

use model_card::ModelCard;
use reader::atlas::Atlas;
use schemas::{
    Error, Result,
    atlas::{Origin, ValueKind},
};

/// A network that was trained on counts finds no counts in logarithms, nor the reverse.
///
/// # Errors
/// Values of the other kind.
pub fn check_values(card: &ModelCard, atlas: &Atlas) -> Result<()> {
    let (model, here) = (card.values, atlas.manifest().values);
    if model == here {
        return Ok(());
    }
    let message = format!("its values are {here}, but the model was trained on values that are {model}");
    let trained = card.labels.iter().flat_map(|labels| &labels.sources).next();
    let hint = way_to_read(model, atlas.manifest().sources.first(), trained);
    Err(Error::data(atlas.path().display().to_string(), message, hint))
}

/// The way to read values of the wanted kind from the file of an atlas that has others, as far as is known of the two files.
fn way_to_read(wanted: ValueKind, source: Option<&Origin>, trained: Option<&Origin>) -> String {
    let (file, matrix) = source.map_or(("the file", ""), |source| (source.path.as_str(), source.matrix.as_str()));
    if let (ValueKind::Counts, Some(flag)) = (wanted, source.and_then(|source| source.counts.as_ref())) {
        return format!("{file} also holds counts: ingest it again with {flag}");
    }
    if let (ValueKind::Continuous, Some(flag)) = (wanted, source.and_then(|source| source.continuous.as_ref())) {
        return format!("{file} also holds logarithms: ingest it again with {flag}");
    }
    let of_training = trained.filter(|trained| trained.matrix != matrix).and_then(|trained| flag_for(&trained.matrix));
    match (wanted, of_training, flag_for(matrix)) {
        (_, Some(flag), Some(_)) => format!("ingest {file} again {flag}, as the data of the model were read"),
        (ValueKind::Counts, ..) => format!(
            "ingest {file} again with its counts: name their matrix with --layer LAYER (`inspect` lists the layers) or --raw, or say --values counts"
        ),
        (ValueKind::Continuous, _, Some(flag)) if flag != X => {
            format!("ingest {file} again {X}, if its X holds values as in training; now it was read {flag}")
        }
        (ValueKind::Continuous, ..) => format!(
            "ingest {file} again with values as in training: name their matrix with --layer LAYER (`inspect` lists the layers) or --raw; --values log1p takes whole numbers as continuous"
        ),
    }
}

/// How `X` is read.
const X: &str = "without --layer and --raw";

/// How `ingest` reads a matrix of AnnData; `None` for other formats.
fn flag_for(matrix: &str) -> Option<String> {
    match matrix {
        "X" => Some(X.to_owned()),
        "raw/X" => Some("with --raw".to_owned()),
        matrix => matrix.strip_prefix("layers/").map(|layer| format!("with --layer {layer}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_from(matrix: &str, counts: Option<&str>) -> Origin {
        let counts = counts.map(str::to_owned);
        Origin { path: "a.h5ad".into(), matrix: matrix.into(), counts, ..Origin::default() }
    }

    #[test]
    fn the_flag_is_named_that_reads_the_values_of_the_model() {
        let to_counts =
            |source: Origin, trained: Option<Origin>| way_to_read(ValueKind::Counts, Some(&source), trained.as_ref());
        let with = to_counts(read_from("X", Some("--layer raw_counts")), None);
        assert_eq!(with, "a.h5ad also holds counts: ingest it again with --layer raw_counts");
        let as_trained = to_counts(read_from("X", None), Some(read_from("layers/umi", None)));
        assert_eq!(as_trained, "ingest a.h5ad again with --layer umi, as the data of the model were read");
        let unknown = to_counts(read_from("X", None), Some(read_from("X", None)));
        assert!(unknown.contains("--layer LAYER (`inspect` lists the layers) or --raw"), "{unknown}");
    }

    #[test]
    fn the_way_back_from_counts_is_named() {
        let to_logarithms = |matrix, trained: Option<&str>| {
            let trained = trained.map(|matrix| read_from(matrix, None));
            way_to_read(ValueKind::Continuous, Some(&read_from(matrix, None)), trained.as_ref())
        };
        let x = "ingest a.h5ad again without --layer and --raw, as the data of the model were read";
        assert_eq!(to_logarithms("layers/counts", Some("X")), x);
        assert!(to_logarithms("raw/X", Some("raw/X")).contains("now it was read with --raw"));
        assert!(to_logarithms("X", Some("X")).contains("--layer LAYER"));
        let known = Origin { continuous: Some("--layer lognorm".into()), ..read_from("X", None) };
        assert_eq!(
            way_to_read(ValueKind::Continuous, Some(&known), Some(&read_from("X", None))),
            "a.h5ad also holds logarithms: ingest it again with --layer lognorm"
        );
        // A table has one matrix, without a name.
        assert!(to_logarithms("", Some("layers/log")).contains("--layer LAYER"));
    }
}
