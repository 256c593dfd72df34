//! Matrix Market files are read as scipy and scanpy read them, and refused if they are invalid.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::array::{AsArray, RecordBatch};
use flate2::{Compression, write::GzEncoder};
use formats::{
    format::{self, Choice},
    source::{self, Source},
};
use schemas::{Error, chunk::Chunk, error::ExitCode};

/// The content of a file according to scipy: its shape, the sum of its values, and the number of non-zeros after summing duplicates.
type Expected = (&'static str, (u64, u64), f64, usize);

const READABLE: &[Expected] = &[
    ("python/tests/matrices/eye3.mtx", (3, 3), 3.0, 3),
    ("python/tests/matrices/matrix_array_integer_general.mtx", (3, 2), 72.0, 6),
    ("python/tests/matrices/matrix_array_real_general.mtx", (3, 2), 72.0, 6),
    ("python/tests/matrices/matrix_coordinate_integer_general.mtx", (3, 3), 3.0, 3),
    ("python/tests/matrices/matrix_coordinate_pattern_general.mtx", (3, 3), 3.0, 3),
    ("python/tests/matrices/matrix_coordinate_pattern_symmetric.mtx", (3, 3), 5.0, 5),
    ("python/tests/matrices/matrix_coordinate_real_general.mtx", (3, 3), 3.0, 3),
    ("python/tests/matrices/matrix_coordinate_real_general.mtx.gz", (3, 3), 3.0, 3),
    ("python/tests/matrices/matrix_coordinate_real_skew-symmetric.mtx", (3, 3), 30.0, 5),
    ("python/tests/matrices/matrix_coordinate_real_symmetric.mtx", (3, 3), 90.0, 5),
    ("python/tests/matrices/misc/windows_newlines.mtx", (3, 3), 3.0, 3),
    ("tests/matrices/2col_array.mtx", (3, 2), 96.0, 6),
    ("tests/matrices/eye3.mtx", (3, 3), 3.0, 3),
    ("tests/matrices/eye3_array.mtx", (3, 3), 3.0, 3),
    ("tests/matrices/eye3_pattern.mtx", (3, 3), 3.0, 3),
    ("tests/matrices/eye3_str.mtx", (3, 3), 3.0, 3),
    ("tests/matrices/graphblas/matrix_bool.mtx", (3, 1), 4.0, 3),
    ("tests/matrices/graphblas/matrix_double.mtx", (3, 1), 4.0, 3),
    ("tests/matrices/graphblas/matrix_float.mtx", (3, 1), 4.0, 3),
    ("tests/matrices/graphblas/matrix_int16.mtx", (3, 1), 4.0, 3),
    ("tests/matrices/graphblas/matrix_int32.mtx", (3, 1), 4.0, 3),
    ("tests/matrices/graphblas/matrix_int64.mtx", (3, 1), 4.0, 3),
    ("tests/matrices/graphblas/matrix_int8.mtx", (3, 1), 4.0, 3),
    ("tests/matrices/graphblas/matrix_uint16.mtx", (3, 1), 4.0, 3),
    ("tests/matrices/graphblas/matrix_uint32.mtx", (3, 1), 4.0, 3),
    ("tests/matrices/graphblas/matrix_uint64.mtx", (3, 1), 4.0, 3),
    ("tests/matrices/graphblas/matrix_uint8.mtx", (3, 1), 4.0, 3),
    ("tests/matrices/kepner_gilbert_graph.mtx", (7, 7), 12.0, 12),
    ("tests/matrices/nist_ex1.mtx", (5, 5), 33.335, 8),
    ("tests/matrices/nist_ex1_freeformat.mtx", (5, 5), 33.335, 8),
    ("tests/matrices/nist_ex1_more_freeformat.mtx", (5, 5), 33.335, 8),
    ("tests/matrices/overflow/overflow_index_gt_int8.mtx", (1000, 1000), 1.0, 1),
    ("tests/matrices/overflow/overflow_value_gt_int32.mtx", (3, 3), 8_589_934_592.0, 1),
    ("tests/matrices/permissive/permissive_banner_leading_spaces_eye3.mtx", (3, 3), 3.0, 3),
    ("tests/matrices/permissive/permissive_banner_one_percent_eye3.mtx", (3, 3), 3.0, 3),
    ("tests/matrices/permissive/permissive_lines_indented.mtx", (1, 1), 1.0, 1),
    ("tests/matrices/permissive/windows_lineendings_nist_ex1_more_freeformat.mtx", (5, 5), 33.335, 8),
    ("tests/matrices/row_3by4.mtx", (3, 4), 10.0, 4),
    ("tests/matrices/symmetry/coordinate_hermitian_real_row.mtx", (3, 3), 90.0, 5),
    ("tests/matrices/symmetry/coordinate_hermitian_real_row_general.mtx", (3, 3), 90.0, 5),
    ("tests/matrices/symmetry/coordinate_hermitian_real_row_general_dup.mtx", (3, 3), 120.0, 5),
    ("tests/matrices/symmetry/coordinate_hermitian_real_row_general_zero.mtx", (3, 3), 90.0, 5),
    ("tests/matrices/symmetry/coordinate_pattern_symmetric_row.mtx", (3, 3), 4.0, 4),
    ("tests/matrices/symmetry/coordinate_pattern_symmetric_row_general.mtx", (3, 3), 4.0, 4),
    ("tests/matrices/symmetry/coordinate_pattern_symmetric_row_general_dup.mtx", (3, 3), 4.0, 4),
    ("tests/matrices/symmetry/coordinate_pattern_symmetric_row_general_zero.mtx", (3, 3), 4.0, 4),
    ("tests/matrices/symmetry/coordinate_skew_symmetric_row.mtx", (3, 3), 0.0, 4),
    ("tests/matrices/symmetry/coordinate_skew_symmetric_row_general.mtx", (3, 3), 0.0, 4),
    ("tests/matrices/symmetry/coordinate_skew_symmetric_row_general_dup.mtx", (3, 3), 0.0, 4),
    ("tests/matrices/symmetry/coordinate_skew_symmetric_row_general_zero.mtx", (3, 3), 0.0, 4),
    ("tests/matrices/symmetry/coordinate_symmetric_row.mtx", (3, 3), 90.0, 5),
    ("tests/matrices/symmetry/coordinate_symmetric_row_general.mtx", (3, 3), 90.0, 5),
    ("tests/matrices/symmetry/coordinate_symmetric_row_general_dup.mtx", (3, 3), 120.0, 5),
    ("tests/matrices/symmetry/coordinate_symmetric_row_general_zero.mtx", (3, 3), 90.0, 5),
    ("tests/matrices/symmetry_array/array_skew-symmetric.mtx", (3, 3), 0.0, 6),
    ("tests/matrices/symmetry_array/array_skew-symmetric_general.mtx", (3, 3), 0.0, 6),
    ("tests/matrices/symmetry_array/array_symmetric.mtx", (3, 3), 204.0, 9),
    ("tests/matrices/symmetry_array/array_symmetric_general.mtx", (3, 3), 204.0, 9),
];

/// The path of a shared file; `None` if it does not exist.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn shared(file: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/formats").join(file);
    if !path.exists() {
        eprintln!("skipped: {} is not here", path.display());
        return None;
    }
    Some(path)
}

fn try_open(path: &Path) -> Result<Arc<dyn Source>, Error> {
    format::open(path, &Choice::default())
}

fn open(path: &Path) -> Arc<dyn Source> {
    try_open(path).unwrap_or_else(|error| panic!("{error}"))
}

fn chunks(source: Arc<dyn Source>) -> Vec<Chunk> {
    source::chunks(source).map(|chunk| chunk.unwrap_or_else(|error| panic!("{error}"))).collect()
}

/// Number of cells, sum of all values, and number of values.
fn totals(source: Arc<dyn Source>) -> (u64, f64, usize) {
    let chunks = chunks(source);
    let values = || chunks.iter().flat_map(|chunk| chunk.expression.values());
    let cells = chunks.iter().map(|chunk| chunk.expression.rows() as u64).sum();
    (cells, values().map(|value| f64::from(*value)).sum(), values().count())
}

fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    let values = batch.column_by_name(column).expect("the column is there").as_string::<i32>();
    values.iter().flatten().map(str::to_owned).collect()
}

fn column_names(batch: &RecordBatch) -> Vec<String> {
    batch.schema().fields().iter().map(|field| field.name().clone()).collect()
}

/// The line number that an error names.
fn refused(path: &Path) -> String {
    let error = try_open(path).map(drop).expect_err("the file is broken");
    assert_eq!(error.exit_code(), ExitCode::Data, "{error}");
    assert!(error.hint().is_some(), "{error}: no hint");
    error.to_string()
}

#[test]
fn every_valid_real_or_integer_matrix_is_read_as_scipy_reads_it() {
    for (file, (rows, columns), sum, nonzeros) in READABLE {
        let Some(path) = shared(&format!("mtx/{file}")) else { continue };
        let source = open(&path);
        assert_eq!((source.cells(), source.var().num_rows() as u64), (*rows, *columns), "{file}");
        let (cells, found, count) = totals(source);
        assert_eq!((cells, count), (*rows, *nonzeros), "{file}");
        assert!((found - sum).abs() <= 1e-6 * sum.abs().max(1.0), "{file}: {found}");
    }
}

#[test]
fn every_file_that_scipy_refuses_is_refused_with_its_line() {
    let Some(list) = shared("mtx/expected_python.tsv") else { return };
    let list = fs::read_to_string(list).expect("the list is text");
    let mut count = 0;
    for line in list.lines().skip(1) {
        let [file, status, message] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        // Classic Macintosh line endings are read nevertheless; complex values are refused although scipy reads them.
        if (status == "OK" && !message.contains("complex")) || file.ends_with("windows_newlines.mtx") {
            continue;
        }
        let error = refused(&shared(&format!("mtx/{file}")).expect("the file is there"));
        assert!(error.contains(", line "), "{error}");
        count += 1;
    }
    assert_eq!(count, 56);
}

#[test]
fn what_is_no_expression_is_refused_by_name() {
    for (file, reason) in [
        ("tests/matrices/vector_coordinate.mtx", "line 1: holds a vector"),
        ("tests/matrices/eye3_complex.mtx", "line 1: holds complex values"),
        ("tests/matrices/symmetry/coordinate_hermitian_row.mtx", "line 1: holds complex values"),
        ("tests/matrices/overflow/overflow_value_gt_float64.mtx", "line 4: value 1E310 overflows"),
        ("tests/matrices/overflow/overflow_value_gt_int64.mtx", "line 6: value 19223372036854775808 overflows"),
        ("tests/matrices/overflow/overflow_index_gt_int64.mtx", "line 6: row 19223372036854775808 overflows"),
        ("tests/matrices/overflow/overflow_dim_gt_int64.mtx", "line 2: `19223372036854775808` overflows"),
        ("tests/matrices/invalid/invalid_truncated_lines.mtx", "line 4: the file ends after 2 of 12 entries"),
        ("tests/matrices/invalid/invalid_matrix_coord_too_long.mtx", "line 7: the file continues after its 3 entries"),
        ("tests/matrices/invalid/invalid_indices_out_of_range_5.mtx", "line 5: row -1 is out of range: there are 7"),
        ("python/tests/matrices/scipy_crashes/dim_over_32_bit.mtx", "1099511627776 genes are too many"),
        ("python/tests/matrices/matrix_coordinate_real_general.mtx.bz2", "is compressed with bzip2"),
    ] {
        let Some(path) = shared(&format!("mtx/{file}")) else { continue };
        let error = refused(&path);
        assert!(error.contains(reason), "{error}");
    }
}

/// A folder, its shape, the sum and number of its values, its first two cells, and its first two genes.
type Folder = (&'static str, (u64, usize), f64, usize, [&'static str; 2], [&'static str; 2]);

#[test]
fn folders_of_10x_are_read_as_scanpy_reads_them() {
    let folders: [Folder; 3] = [
        (
            "1.2.0/filtered_gene_bc_matrices/hg19_chr21",
            (12, 343),
            12.0,
            12,
            ["AACACGTGTACGCTGC-1", "AAGGAGCTCCGATATG-1"],
            ["DSCAM", "MIR99AHG"],
        ),
        (
            "3.0.0/filtered_feature_bc_matrix",
            (1107, 507),
            41_549.0,
            23_866,
            ["AAACCCAAGGAGAGTA-1", "AAACGCTTCAGCCCAG-1"],
            ["CH507-9B2.2", "CH507-9B2.1"],
        ),
        ("int-ids", (5, 6), 8.0, 3, ["AAACCCAAGATTAGCA-1", "AAACCCACACAATGAA-1"], ["Pwwp4b", "Pwwp4a"]),
    ];
    for (folder, (cells, genes), sum, nonzeros, first_cells, first_genes) in folders {
        let Some(path) = shared(&format!("10x/scanpy/tests/_data/10x_data/{folder}")) else { continue };
        let source = open(&path);
        let var = source.var().clone();
        let ids =
            if folder.starts_with('1') { vec!["gene", "gene_ids"] } else { vec!["gene", "gene_ids", "feature_types"] };
        assert_eq!(column_names(&var), ids, "{folder}");
        assert_eq!(
            (var.num_rows(), texts(&var, "gene")[..2].to_vec()),
            (genes, first_genes.map(str::to_owned).to_vec())
        );
        let obs = source.obs(0..2, &[0]).expect("the first two");
        assert_eq!(texts(&obs, "cell"), first_cells, "{folder}");
        assert_eq!(totals(source), (cells, sum, nonzeros), "{folder}");
    }
}

/// A folder with a matrix of two genes and three cells: the second gene is 5 in the third cell, the first is
/// 1 in the first.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

const MATRIX: &str = "%%MatrixMarket matrix coordinate integer general\n2 3 2\n2 3 5\n1 1 1\n";

#[test]
fn the_numbers_of_names_tell_which_side_the_cells_are() {
    let names = [("barcodes.tsv", "a\nb\nc\n"), ("genes.tsv", "id1\tG1\nid2\tG2\n"), ("matrix.mtx", MATRIX)];
    let genes_in_rows = folder(&names);
    let source = open(genes_in_rows.path());
    assert_eq!((source.cells(), texts(source.var(), "gene")), (3, vec!["G1".to_owned(), "G2".to_owned()]));
    let chunk = chunks(source).swap_remove(0);
    assert_eq!(chunk.expression.row(2), (&[1][..], &[5.0][..]));

    let cells_in_rows = folder(&[("x.mtx", MATRIX), ("x.barcodes.txt", "a\nb\n"), ("x.genes.txt", "G1\nG2\nG3\n")]);
    let source = open(&cells_in_rows.path().join("x.mtx"));
    assert_eq!((source.cells(), source.var().num_rows()), (2, 3));
    assert_eq!(chunks(source).swap_remove(0).expression.row(1), (&[2][..], &[5.0][..]));

    let alone = folder(&[("matrix.mtx", MATRIX)]);
    let source = open(&alone.path().join("matrix.mtx"));
    assert_eq!(texts(&source.obs(0..2, &[0]).expect("both"), "cell"), ["cell0", "cell1"]);
    assert_eq!(texts(source.var(), "gene"), ["gene0", "gene1", "gene2"]);
}

#[test]
fn names_that_do_not_fit_are_refused_with_their_numbers() {
    let one_too_many =
        folder(&[("barcodes.tsv", "barcode\na\nb\nc\n"), ("genes.tsv", "G1\nG2\n"), ("matrix.mtx", MATRIX)]);
    let error = refused(one_too_many.path());
    assert!(error.contains("2 rows and 3 columns") && error.contains("barcodes.tsv has 4 lines"), "{error}");
    let ragged = folder(&[("barcodes.tsv", "a\nb\nc\n"), ("genes.tsv", "id1\tG1\nG2\n"), ("matrix.mtx", MATRIX)]);
    let error = refused(ragged.path());
    assert!(error.contains("genes.tsv, line 2: has 1 columns, but the first line has 2"), "{error}");
    let no_barcodes = folder(&[("genes.tsv", "G1\nG2\n"), ("matrix.mtx", MATRIX)]);
    assert!(refused(no_barcodes.path()).contains("no barcodes.tsv"));
}

#[test]
fn sizes_that_no_matrix_has_are_refused_before_anything_is_made_of_them() {
    let of_genes = |genes: u32| folder(&[("matrix.mtx", &MATRIX.replace("2 3 2", &format!("2 {genes} 2")))]);
    let most = of_genes(1 << 20);
    assert_eq!(open(&most.path().join("matrix.mtx")).var().num_rows(), 1 << 20);
    let too_many = of_genes((1 << 20) + 1);
    let error = refused(&too_many.path().join("matrix.mtx"));
    assert!(error.contains("matrix.mtx, line 2") && error.contains("at most 4294967296 × 1048576"), "{error}");
}

#[test]
fn a_gzip_stream_that_is_cut_short_is_refused() {
    let folder = folder(&[]);
    let text = MATRIX.replace("2 3 2", "2 3 30000") + &"1 1 1\n2 2 3\n".repeat(14_999);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text.as_bytes()).expect("compressed");
    let whole = gzip.finish().expect("finished");
    let path = folder.path().join("matrix.mtx.gz");
    fs::write(&path, &whole).expect("written");
    assert_eq!(totals(open(&path)), (2, 60_002.0, 3));
    fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    let error = refused(&path);
    assert!(error.contains("the gzip stream is damaged or cut short"), "{error}");
}

#[test]
fn an_interrupt_ends_the_reading_that_has_it_and_no_other() {
    let home = tempfile::tempdir().expect("a folder");
    let path = home.path().join("matrix.mtx");
    std::fs::write(&path, "%%MatrixMarket matrix coordinate integer general\n2 2 1\n1 2 7\n").expect("written");
    let [one, other] = [Choice::default(), Choice::default()];
    one.interrupt.request();
    let error = format::open(&path, &one).map(drop).expect_err("it was asked to end");
    assert_eq!(error.exit_code(), ExitCode::Stopped, "{error}");
    assert_eq!(totals(format::open(&path, &other).expect("it goes on")), (2, 7.0, 1));
}
