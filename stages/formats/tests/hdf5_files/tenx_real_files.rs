//! Files of Cell Ranger and Space Ranger are read as scanpy reads them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::array::AsArray;
use formats::{
    format::{self, Choice, SourceFormat},
    source::{self, Source},
};
use hdf5_metno::{File, types::FixedAscii};
use schemas::error::ExitCode;

/// The content of a file according to scanpy 1.11: its shape, the sum and number of its values, and the first cell and gene.
struct Expected {
    file: &'static str,
    genome: Option<&'static str>,
    shape: (u64, usize),
    sum: f64,
    nonzeros: usize,
    first: [&'static str; 3],
}

const EXPECTED: &[Expected] = &[
    Expected {
        file: "10x_data/1.2.0/filtered_gene_bc_matrices_h5.h5",
        genome: None,
        shape: (12, 343),
        sum: 12.0,
        nonzeros: 12,
        first: ["AACACGTGTACGCTGC-1", "DSCAM", "DSCAM"],
    },
    Expected {
        file: "10x_data/1.2.0/multiple_genomes.h5",
        genome: Some("another_genome"),
        shape: (12, 343),
        sum: 13.0,
        nonzeros: 12,
        first: ["AACACGTGTACGCTGC-1", "gene_0", "gene_0"],
    },
    Expected {
        file: "10x_data/3.0.0/filtered_feature_bc_matrix.h5",
        genome: Some("GRCh38_chr21"),
        shape: (1107, 507),
        sum: 41_549.0,
        nonzeros: 23_866,
        first: ["AAACCCAAGGAGAGTA-1", "CH507-9B2.2", "ENSG00000279493"],
    },
    Expected {
        file: "visium_data/1.0.0/filtered_feature_bc_matrix.h5",
        genome: None,
        shape: (100, 100),
        sum: 932.0,
        nonzeros: 656,
        first: ["AAACAAGTATCTCCCA-1", "ENSG00000243485", "ENSG00000243485"],
    },
    Expected {
        file: "visium_data/2.1.0/raw_probe_bc_matrix.h5",
        genome: None,
        shape: (4987, 1000),
        sum: 3372.0,
        nonzeros: 858,
        first: ["AACACCTACTATCGAA-1", "Itgb2l|2ef1e7b", "DEPRECATED_ENSMUSG00000000157"],
    },
];

/// The path of a shared file; `None` if it does not exist.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn shared(file: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/formats/10x/scanpy/tests/_data");
    let path = folder.join(file);
    if !path.exists() {
        eprintln!("skipped: {} is not here", path.display());
        return None;
    }
    Some(path)
}

fn of_genome(genome: Option<&str>) -> Choice {
    Choice { genome: genome.map(str::to_owned), ..Choice::default() }
}

fn sum_and_nonzeros(source: Arc<dyn Source>) -> (f64, usize) {
    source::chunks(source).fold((0.0, 0), |(sum, nonzeros), chunk| {
        let chunk = chunk.unwrap_or_else(|error| panic!("{error}"));
        let values = chunk.expression.values();
        (sum + values.iter().map(|value| f64::from(*value)).sum::<f64>(), nonzeros + values.len())
    })
}

#[test]
fn every_file_is_read_as_scanpy_reads_it() {
    for Expected { file, genome, shape, sum, nonzeros, first } in EXPECTED {
        let Some(path) = shared(file) else { continue };
        assert_eq!(SourceFormat::detect(&path).expect("it is known"), SourceFormat::TenX);
        let reader = format::open(&path, &of_genome(*genome)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((reader.cells(), reader.var().num_rows()), *shape, "{file}");
        let cells = reader.obs(0..1, &[0]).expect("the first cell");
        let gene = |column: &str| {
            let column = reader.var().column_by_name(column).expect("the column is there");
            column.as_string::<i32>().value(0).to_owned()
        };
        assert_eq!([cells.column(0).as_string::<i32>().value(0), &gene("gene"), &gene("gene_id")], *first, "{file}");
        assert_eq!(sum_and_nonzeros(reader), (*sum, *nonzeros), "{file}");
    }
}

#[test]
fn what_is_known_of_features_and_probes_is_kept() {
    let columns = |file: &str| -> Option<Vec<String>> {
        let reader = format::open(&shared(file)?, &Choice::default()).unwrap_or_else(|error| panic!("{error}"));
        Some(reader.var().schema().fields().iter().map(|field| field.name().clone()).collect())
    };
    if let Some(plain) = columns("10x_data/3.0.0/filtered_feature_bc_matrix.h5") {
        assert_eq!(plain, ["gene", "gene_id", "feature_types", "genome"]);
    }
    if let Some(probes) = columns("visium_data/2.1.0/raw_probe_bc_matrix.h5") {
        let known = ["gene", "gene_id", "probe_id", "feature_types", "genome"];
        assert_eq!(probes[..5], known);
        assert_eq!(probes[5..], ["filtered_probes", "gene_name", "probe_region"]);
    }
    let Some(path) = shared("visium_data/2.1.0/raw_probe_bc_matrix.h5") else { return };
    let reader = format::open(&path, &Choice::default()).expect("it is good");
    let obs = reader.obs(0..4987, &[1]).expect("all cells");
    assert_eq!(obs.schema().field(0).name(), "filtered_barcodes");
}

#[test]
fn one_of_several_genomes_must_be_chosen() {
    let Some(path) = shared("10x_data/1.2.0/multiple_genomes.h5") else { return };
    let error = format::open(&path, &Choice::default()).expect_err("there are two");
    assert!(error.to_string().ends_with("several genomes: another_genome, hg19_chr21"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("--genome another_genome")));
    let error = format::open(&path, &of_genome(Some("hg19"))).expect_err("there is no such genome");
    assert_eq!(error.to_string(), "unknown genome `hg19`; the nearest known: hg19_chr21, another_genome");
    let layer = Choice { layer: Some("counts".into()), ..Choice::default() };
    assert_eq!(format::open(&path, &layer).expect_err("there are no layers").exit_code(), ExitCode::Usage);
}

/// Writes three cells of four features: two genes of one genome, one of another, and an antibody.
fn write(path: &Path, types: [&str; 4], barcodes: usize) {
    let texts = |texts: &[&str]| -> Vec<FixedAscii<24>> {
        texts.iter().map(|text| FixedAscii::from_ascii(text.as_bytes()).expect("it is short")).collect()
    };
    let file = File::create(path).expect("a file");
    let matrix = file.create_group("matrix").expect("a group");
    let features = matrix.create_group("features").expect("a group");
    for (name, values) in [
        ("id", ["ENSG1", "ENSG2", "ENSMUSG1", "CD3"]),
        ("name", ["A", "B", "a", "CD3_TotalSeqB"]),
        ("feature_type", types),
        ("genome", ["GRCh38", "GRCh38", "mm10", ""]),
    ] {
        features.new_dataset_builder().with_data(&texts(&values)).create(name).expect("names");
    }
    let cells = texts(&["AAAC-1", "AAAG-1", "AAAT-1"][..barcodes]);
    matrix.new_dataset_builder().with_data(&cells).create("barcodes").expect("names");
    matrix.new_dataset_builder().with_data(&[4_i32, 3]).create("shape").expect("numbers");
    matrix.new_dataset_builder().with_data(&[0_i64, 3, 3, 5]).create("indptr").expect("numbers");
    matrix.new_dataset_builder().with_data(&[3_i64, 2, 0, 1, 3]).create("indices").expect("numbers");
    matrix.new_dataset_builder().with_data(&[9_i32, 2, 1, 5, 7]).create("data").expect("numbers");
    file.close().expect("it closes");
}

#[test]
fn only_gene_expression_is_kept_and_of_a_genome_only_its_genes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("matrix.h5");
    write(&path, ["Gene Expression", "Gene Expression", "Gene Expression", "Antibody Capture"], 3);
    let rows = |genome: Option<&str>| {
        let reader = format::open(&path, &of_genome(genome)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(reader.nonzeros(), None, "how many there are is known only when they are read");
        let rows = reader.expression(0..3, schemas::chunk::CsrRows::default()).expect("all cells");
        let all = (0..3).map(|row| rows.row(row).0.iter().copied().zip(rows.row(row).1.iter().copied()).collect());
        (reader.var().num_rows(), all.collect::<Vec<Vec<(u32, f32)>>>())
    };
    assert_eq!(rows(None), (3, vec![vec![(0, 1.0), (2, 2.0)], vec![], vec![(1, 5.0)]]));
    assert_eq!(rows(Some("mm10")), (1, vec![vec![(0, 2.0)], vec![], vec![]]));
    let error = format::open(&path, &of_genome(Some("mm39"))).expect_err("there is no such genome");
    assert!(error.to_string().starts_with("unknown genome `mm39`; the nearest known: mm10"), "{error}");
}

#[test]
fn a_file_that_does_not_fit_together_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("matrix.h5");
    let refused = |types: &str, barcodes| {
        write(&path, [types; 4], barcodes);
        let error = format::open(&path, &Choice::default()).expect_err("it is bad");
        assert_eq!(error.exit_code(), ExitCode::Data);
        assert!(error.hint().is_some(), "{error}");
        error.to_string()
    };
    assert!(refused("Gene Expression", 2).ends_with("matrix/barcodes: has 2 values, but the matrix has 3"));
    let none = refused("Peaks", 3);
    assert!(none.ends_with("matrix/features: has no features of the type Gene Expression, but 4 Peaks"), "{none}");
}
