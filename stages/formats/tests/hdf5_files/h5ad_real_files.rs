//! Files written by other programs are read as anndata itself reads them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::array::{Array, AsArray};
use formats::{
    format::{self, Choice},
    h5ad,
    source::{self, Source},
};
use schemas::chunk::Chunk;

/// The content of a file according to anndata 0.12: its shape, the sum and the number of its non-zero values, its columns of `obs`.
struct Expected {
    file: &'static str,
    shape: (u64, u64),
    sum: f64,
    nonzeros: usize,
    obs: &'static [&'static str],
}

const fn expected(
    file: &'static str,
    shape: (u64, u64),
    sum: f64,
    nonzeros: usize,
    obs: &'static [&'static str],
) -> Expected {
    Expected { file, shape, sum, nonzeros, obs }
}

const READABLE: &[Expected] = &[
    expected(
        "data/kang_pbmc/kang_pbmc_counts.h5ad",
        (1556, 1267),
        2_338_396.0,
        585_251,
        &["cell_type", "sample_id", "condition", "donor"],
    ),
    expected(
        "data/norman_mcfaline/norman_mcfaline.h5ad",
        (5391, 500),
        365_114.068_263_649_94,
        190_395,
        &[
            "ncounts",
            "ngenes",
            "condition",
            "perturbation",
            "perturbation_type",
            "dataset",
            "cell_type",
            "treatment",
            "dose",
            "perturbation_raw",
            "condition_cell_type",
        ],
    ),
    expected(
        "formats/h5ad_archives/anndata/tests/data/archives/v0.5.0/adata.h5ad",
        (700, 765),
        -243.681_057_988_666,
        535_433,
        &["bulk_labels", "n_genes", "percent_mito", "n_counts", "S_score", "G2M_score", "phase", "louvain"],
    ),
    expected(
        "formats/h5ad_archives/anndata/tests/data/archives/v0.7.0/adata.h5ad",
        (30, 20),
        285.0,
        228,
        &["obs_cat", "cat_ordered", "int64", "float64", "uint8"],
    ),
    expected(
        "formats/h5ad_archives/anndata/tests/data/archives/v0.7.8/adata.h5ad",
        (30, 20),
        302.0,
        239,
        &["obs_cat", "cat_ordered", "int64", "float64", "uint8"],
    ),
    expected(
        "formats/h5ad_archives/anndataR/inst/extdata/example.h5ad",
        (50, 100),
        4791.224940657616,
        4317,
        &[
            "Float",
            "FloatNA",
            "Int",
            "IntNA",
            "Bool",
            "BoolNA",
            "n_genes_by_counts",
            "log1p_n_genes_by_counts",
            "total_counts",
            "log1p_total_counts",
            "leiden",
        ],
    ),
    // Its 2556 missing values are not part of the sum, but are not zeros.
    expected(
        "formats/h5ad_archives/cellxgene/nan.h5ad",
        (100, 100),
        -108.554_045_503_617_09,
        10_000,
        &["n_genes", "percent_mito", "n_counts", "louvain"],
    ),
    expected("formats/h5ad_archives/cellxgene/tiny.h5ad", (3, 4), 12.0, 12, &["string_category", "float_category"]),
    expected("formats/h5ad_archives/muon/test_rna.h5ad", (1000, 45), 63_338.0, 14_512, &[]),
    expected(
        "formats/h5ad_archives/pertpy/pertpy_sc_sim.h5ad",
        (200, 15_697),
        146_728.776_707_589_63,
        87_053,
        &["label", "cell_type"],
    ),
    expected(
        "formats/h5ad_archives/pertpy/pertpy_smillie.h5ad",
        (133, 51),
        365_492.0,
        4328,
        &["Sample", "Subject", "Location", "Health", "Replicate"],
    ),
    expected("formats/h5ad_archives/scvi-tools/TM_droplet_mat.h5ad", (47, 10), 633.0, 470, &[]),
    expected(
        "formats/h5ad_archives/scvi-tools/brainlarge_dataset_test.h5ad",
        (70, 720),
        38_735.0,
        15_274,
        &[
            "labels",
            "batch",
            "n_counts",
            "n_genes",
            "_scvi_batch",
            "_scvi_labels",
            "_scvi_local_l_mean",
            "_scvi_local_l_var",
        ],
    ),
    expected(
        "formats/h5ad_archives/scvi-tools/pbmc_10k_protein_v3.h5ad",
        (200, 16_727),
        909_531.0,
        317_760,
        &["n_genes", "percent_mito", "n_counts"],
    ),
    expected(
        "formats/h5ad_archives/tiledbsoma/bruce-spatial.h5ad",
        (6471, 33),
        1_248_106.0,
        146_550,
        &[
            "CellType",
            "Region",
            "Valid",
            "n_genes_by_counts",
            "log1p_n_genes_by_counts",
            "total_counts",
            "log1p_total_counts",
            "leiden",
            "louvain",
        ],
    ),
    expected(
        "formats/h5ad_archives/tiledbsoma/pbmc-small.h5ad",
        (80, 20),
        0.0,
        1600,
        &["orig.ident", "nCount_RNA", "nFeature_RNA", "RNA_snn_res.0.8", "letter.idents", "groups", "RNA_snn_res.1"],
    ),
    expected("formats/h5ad_archives/tiledbsoma/subset_100_100.h5ad", (100, 100), 14.0, 13, &[]),
    expected(
        "formats/h5ad_archives/tiledbsoma/x-empty.h5ad",
        (2638, 1838),
        0.0,
        0,
        &["n_genes", "percent_mito", "n_counts", "louvain"],
    ),
    expected(
        "formats/h5ad_archives/zellkonverter/inst/extdata/example_anndata.h5ad",
        (200, 459),
        144_277.426_755_785_94,
        53_667,
        &["louvain"],
    ),
    expected(
        "formats/h5ad_archives/zellkonverter/inst/extdata/krumsiek11.h5ad",
        (640, 11),
        2016.5208012731237,
        7018,
        &["cell_type"],
    ),
    expected(
        "formats/h5ad_archives/zellkonverter/inst/extdata/krumsiek11_augmented_v0-8.h5ad",
        (640, 11),
        2016.5208012731237,
        7018,
        &["cell_type", "dummy_num", "dummy_num2", "dummy_int", "dummy_int2", "dummy_bool", "dummy_bool2"],
    ),
];

/// The path of a shared file; `None` if it does not exist.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn shared(file: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(file);
    if !path.exists() {
        eprintln!("skipped: {} is not here", path.display());
        return None;
    }
    Some(path)
}

fn open(path: &Path) -> Arc<dyn Source> {
    format::open(path, &Choice::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn chunks(source: Arc<dyn Source>) -> Vec<Chunk> {
    source::chunks(source).map(|chunk| chunk.unwrap_or_else(|error| panic!("{error}"))).collect()
}

#[test]
fn every_file_with_an_x_is_read_as_anndata_reads_it() {
    for expected in READABLE {
        let Some(path) = shared(expected.file) else { continue };
        let reader = open(&path);
        let file = expected.file;
        assert_eq!((reader.cells(), reader.var().num_rows() as u64), expected.shape, "{file}");
        let obs_schema = reader.obs_schema();
        let columns: Vec<&str> = obs_schema.fields().iter().skip(1).map(|field| field.name().as_str()).collect();
        assert_eq!(columns, expected.obs, "{file}");
        assert_eq!(reader.var().num_rows() as u64, expected.shape.1, "{file}");
        let (mut sum, mut nonzeros, mut rows) = (0.0, 0, 0);
        for chunk in chunks(reader) {
            assert_eq!(chunk.first.0, rows, "{file}");
            assert_eq!(chunk.obs.num_rows(), chunk.expression.rows(), "{file}");
            rows += chunk.expression.rows() as u64;
            sum += chunk
                .expression
                .values()
                .iter()
                .filter(|value| !value.is_nan())
                .map(|value| f64::from(*value))
                .sum::<f64>();
            nonzeros += chunk.expression.values().len();
        }
        assert_eq!(rows, expected.shape.0, "{file}");
        assert_eq!(nonzeros, expected.nonzeros, "{file}");
        assert!((sum - expected.sum).abs() <= 1e-6 * expected.sum.abs().max(10.0), "{file}: {sum}");
    }
}

#[test]
fn columns_are_read_as_anndata_reads_them() {
    let Some(path) = shared("formats/h5ad_archives/anndata/tests/data/archives/v0.7.0/adata.h5ad") else { return };
    let first = chunks(open(&path)).swap_remove(0);
    let text = |chunk: &Chunk, name: &str| {
        let column = chunk.obs.column_by_name(name).expect("the column is there");
        column.as_string::<i32>().value(0).to_owned()
    };
    let numbers = first.obs.column_by_name("int64").expect("the column is there");
    assert_eq!(numbers.as_primitive::<arrow::datatypes::Int64Type>().value(0), -29);
    assert_eq!([text(&first, "cell"), text(&first, "obs_cat"), text(&first, "cat_ordered")], ["cell0", "S", "w"]);

    let Some(path) = shared("formats/h5ad_archives/anndataR/inst/extdata/example.h5ad") else { return };
    let reader = open(&path);
    assert_eq!(reader.var().column(0).as_string::<i32>().value(0), "Gene000");
    let first = chunks(reader).swap_remove(0);
    let nulls = |name: &str| first.obs.column_by_name(name).expect("the column is there").null_count();
    assert_eq!([nulls("Int"), nulls("Bool")], [0, 0]);
    assert!(nulls("IntNA") > 0 && nulls("BoolNA") > 0);
}

#[test]
fn a_data_frame_from_before_anndata_0_7_is_read_with_its_categories() {
    let columns = |file: &str, names: &[&str]| -> Option<Vec<String>> {
        let first = chunks(open(&shared(file)?)).swap_remove(0);
        let value = |name: &&str| {
            let column = first.obs.column_by_name(name).expect("the column is there");
            let column = arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8).expect("it can be shown");
            column.as_string::<i32>().value(2).to_owned()
        };
        Some(names.iter().map(value).collect())
    };
    // Names of fixed length, alongside a number.
    let old = columns(
        "formats/h5ad_archives/anndata/tests/data/archives/v0.5.0/adata.h5ad",
        &["cell", "bulk_labels", "phase", "louvain", "n_genes", "n_counts"],
    );
    if let Some(old) = old {
        assert_eq!(old, ["AACACGTGGTCTTT-1", "CD56+ NK", "G1", "3", "1228", "3389.0"]);
    }
    // Names in the heap of the file.
    let spatial = columns(
        "formats/h5ad_archives/tiledbsoma/bruce-spatial.h5ad",
        &["cell", "CellType", "Region", "Valid", "n_genes_by_counts", "total_counts", "leiden", "louvain"],
    );
    if let Some(spatial) = spatial {
        assert_eq!(spatial, ["3642", "Inhibitory CP", "Layer 4", "1", "29", "405.0", "8", "2"]);
    }
    let Some(path) = shared("formats/h5ad_archives/tiledbsoma/bruce-spatial.h5ad") else { return };
    let reader = open(&path);
    let text = |column: usize, gene: usize| reader.var().column(column).as_string::<i32>().value(gene).to_owned();
    assert_eq!([text(0, 0), text(1, 0), text(0, 1), text(1, 1)], ["Gad2", "Cy5", "Slc32a1", "CALFluorRed610"]);
}

#[test]
fn raw_of_old_files_is_read_too() {
    let Some(path) = shared("formats/h5ad_archives/anndata/tests/data/archives/v0.5.0/adata.h5ad") else { return };
    let raw = format::open(&path, &Choice { raw: true, ..Choice::default() }).expect("raw is there");
    assert_eq!((raw.cells(), raw.var().num_rows(), raw.nonzeros()), (700, 765, Some(174_400)));
    let sum = |chunk: &Chunk| chunk.expression.values().iter().map(|value| f64::from(*value)).sum::<f64>();
    let sum = chunks(raw).iter().map(sum).sum::<f64>();
    assert!((sum - 319_044.22).abs() < 0.1, "{sum}");
}

#[test]
fn raw_and_layers_can_be_chosen() {
    let Some(path) = shared("formats/h5ad_archives/anndata/tests/data/archives/v0.7.0/adata.h5ad") else { return };
    let raw = h5ad::open(&path, &Choice { raw: true, ..Choice::default() }).expect("raw is there");
    assert_eq!((raw.cells(), raw.var().num_rows()), (30, 40));
    let layer = |name: &str| h5ad::open(&path, &Choice { layer: Some(name.into()), ..Choice::default() });
    assert_eq!(layer("sparse").expect("the layer is there").var().num_rows(), 20);
    let error = layer("spars").expect_err("there is no such layer");
    assert_eq!(error.to_string(), "unknown layer `spars`; the nearest known: sparse, array");
}

#[test]
fn every_other_file_is_refused_with_a_reason() {
    for (file, reason, mend) in [
        ("anndata/tests/data/archives/v0.11.4/adata.h5ad", "X: there is no such matrix", "set adata.X"),
        ("tiledbsoma/x-none.h5ad", "X: there is no such matrix", "set adata.X"),
        ("tiledbsoma/xnone.h5ad", "X: there is no such matrix", "set adata.X"),
        ("scvi-tools/brain_large.h5", "mm10/gene_names: is missing", "Cell Ranger"),
        ("muon/test_rna_atac.h5mu", "holds several data sets: atac, rna", "mod['rna'].write_h5ad"),
        ("anndata/tests/data/excel.xlsx", "is not an HDF5 file", ".h5ad"),
        ("anndata/tests/data/adata.csv", "CSV is not supported", "Parquet"),
    ] {
        let Some(path) = shared(&format!("formats/h5ad_archives/{file}")) else { continue };
        let error = format::open(&path, &Choice::default()).expect_err(file);
        assert!(error.to_string().contains(reason), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains(mend)), "{file}: {:?}", error.hint());
    }
}

#[test]
fn any_hdf5_file_is_opened_or_refused_in_words() {
    let Some(folder) = shared("formats/hdf5_jhdf/jhdf/src/test/resources/hdf5") else { return };
    let files: Vec<PathBuf> =
        folder.read_dir().expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    assert!(files.len() > 60);
    for path in files {
        let error = format::open(&path, &Choice::default()).expect_err("none of them holds cells");
        assert_eq!(error.exit_code(), schemas::error::ExitCode::Data, "{error}");
        assert!(error.hint().is_some(), "{} is refused without a hint", path.display());
    }
}
