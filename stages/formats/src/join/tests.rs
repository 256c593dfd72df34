use super::*;
use crate::{memory::CellsInMemory, source::annotation};

fn file(name: &str, cells: &[&str], genes: &[&str], ids: &[&str], rows: Vec<Vec<(u32, f32)>>) -> Arc<dyn Source> {
    let text = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let obs = RecordBatch::try_from_iter([("cell", text(cells)), (name, text(cells))]).expect("one length");
    let var = RecordBatch::try_from_iter([("gene", text(genes)), ("id", text(ids))]).expect("one length");
    let mut pointers = vec![0];
    for row in &rows {
        pointers.push(pointers[pointers.len() - 1] + u32::try_from(row.len()).expect("few"));
    }
    let (ids, values) = rows.into_iter().flatten().unzip();
    let genes = u32::try_from(genes.len()).expect("few");
    let expression = CsrRows::canonical(pointers, ids, values, genes).expect("good rows");
    Arc::new(CellsInMemory::new(&format!("{name}.h5ad"), obs, var, expression).expect("it fits"))
}

fn two() -> Vec<Arc<dyn Source>> {
    vec![
        file("a", &["c0", "c1"], &["X", "Y", "V"], &["1", "2", "3"], vec![vec![(0, 1.0), (2, 2.0)], vec![(1, 3.0)]]),
        file("b", &["c2"], &["Z", "X", "Y"], &["4", "3", "2"], vec![vec![(0, 4.0), (1, 5.0), (2, 6.0)]]),
    ]
}

fn names(joined: &Joined) -> Vec<&str> {
    joined.var().column(0).as_string::<i32>().iter().flatten().collect()
}

#[test]
fn an_inner_join_keeps_the_genes_that_every_file_has_by_name_or_by_id() {
    let joined = Joined::new(two(), &JoinOptions::default()).expect("genes in common");
    assert_eq!(names(&joined), ["X", "Y"]);
    let rows = joined.expression(0..3, CsrRows::default()).expect("all cells");
    assert_eq!(rows.row(0), (&[0][..], &[1.0][..]));
    assert_eq!(rows.row(2), (&[0, 1][..], &[5.0, 6.0][..]));
    let by_id = JoinOptions { gene_id: Some("id".into()), ..JoinOptions::default() };
    let joined = Joined::new(two(), &by_id).expect("ids in common");
    assert_eq!(names(&joined), ["Y", "V"]);
    assert_eq!(joined.expression(2..3, CsrRows::default()).expect("a cell").row(0), (&[0, 1][..], &[6.0, 5.0][..]));
}

#[test]
fn an_outer_join_keeps_every_gene() {
    let outer = JoinOptions { genes: GeneJoin::Outer, ..JoinOptions::default() };
    let joined = Joined::new(two(), &outer).expect("genes");
    assert_eq!(names(&joined), ["X", "Y", "V", "Z"]);
    let rows = joined.expression(0..3, CsrRows::default()).expect("all cells");
    assert_eq!(rows.row(0), (&[0, 2][..], &[1.0, 2.0][..]));
    assert_eq!(rows.row(2), (&[0, 1, 3][..], &[5.0, 6.0, 4.0][..]));
}

#[test]
fn repeated_names_are_matched_only_where_all_files_list_the_same_genes() {
    let file = |name: &str, genes: [&str; 3], values: [f32; 3]| {
        file(name, &[name], &genes, &["1", "2", "3"], vec![(0..).zip(values).collect()])
    };
    let join = |second: [&str; 3]| {
        let files = vec![file("a", ["X", "Y", "X"], [1.0, 2.0, 3.0]), file("b", second, [4.0, 5.0, 6.0])];
        Joined::new(files, &JoinOptions::default())
    };
    let joined = join(["X", "Y", "X"]).expect("the same genes");
    let rows = joined.expression(0..2, CsrRows::default()).expect("both cells");
    assert_eq!((rows.row(0).1, rows.row(1).1), (&[1.0, 2.0, 3.0][..], &[4.0, 5.0, 6.0][..]));
    let error = join(["X", "X", "Y"]).expect_err("another order").to_string();
    assert_eq!(error, "a.h5ad: 2 genes are called `X`, and each of them could be the gene of that name in b.h5ad");
}

#[test]
fn annotations_are_joined_by_column_and_cells_know_their_file() {
    let file_column = FileColumn { name: "file".into(), files: vec!["a".into(), "b".into()] };
    let options = JoinOptions { file_column: Some(file_column), ..JoinOptions::default() };
    let joined = Joined::new(two(), &options).expect("genes in common");
    let obs = joined.obs(1..3, &[0, 1, 2, 3]).expect("two cells of two files");
    let column = |at: usize| obs.column(at).as_string::<i32>().iter().collect::<Vec<_>>();
    assert_eq!(column(0), [Some("c1"), Some("c2")]);
    assert_eq!(column(1), [Some("c1"), None]);
    assert_eq!(column(3), [Some("a"), Some("b")]);
    assert_eq!(joined.locate(2), ("b.h5ad".to_owned(), 0));
}

#[test]
fn genes_without_an_id_or_a_name_are_refused_and_not_matched_with_one_another() {
    let second = |genes: &[&str], ids: &[&str]| file("b", &["c1"], genes, ids, vec![vec![(0, 1.0)]]);
    let first = file("a", &["c0"], &["X", "Y", "Z"], &["1", "2", "3"], vec![vec![(0, 1.0)]]);
    let by_id = JoinOptions { gene_id: Some("id".into()), ..JoinOptions::default() };
    let files = |genes: &[&str], ids: &[&str]| vec![Arc::clone(&first), second(genes, ids)];
    let error = Joined::new(files(&["X", "Y", "W"], &["1", "", ""]), &by_id).expect_err("two have no id");
    assert_eq!(error.exit_code(), schemas::error::ExitCode::Data);
    let expected = "b.h5ad, var column `id`: 2 of 3 genes have no id, the first of them `Y` in row 1";
    assert_eq!(error.to_string(), expected);
    let unnamed = files(&["X", "Y", ""], &["1", "2", ""]);
    let error = Joined::new(unnamed, &JoinOptions::default()).expect_err("one has no name").to_string();
    assert_eq!(error, "b.h5ad, var: 1 of 3 genes have no name, the first of them in row 2");
    // A file that is not joined with another one needs no matching.
    assert!(Joined::new(vec![second(&["X", "Y"], &["1", ""])], &by_id).is_ok());
}

#[test]
fn an_own_column_called_gene_identifies_genes_where_it_is_named() {
    let own = |name: &str, genes: &[&str], ids: &[&str]| {
        let text = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
        let schema = Schema::new(vec![
            Field::new("gene", DataType::Utf8, true),
            annotation(("var", "gene"), "gene", &["gene"], DataType::Utf8),
        ]);
        let var = RecordBatch::try_new(Arc::new(schema), vec![text(genes), text(ids)]).expect("one length");
        let obs = RecordBatch::try_from_iter([("cell", text(&[name]))]).expect("a column");
        let expression = CsrRows::canonical(vec![0, 1], vec![0], vec![1.0], 2).expect("a row");
        Arc::new(CellsInMemory::new(name, obs, var, expression).expect("it fits")) as Arc<dyn Source>
    };
    let files = || vec![own("a", &["X", "Y"], &["1", "2"]), own("b", &["Y", "X"], &["1", "2"])];
    let second = |gene_id: &str| {
        let options = JoinOptions { gene_id: Some(gene_id.into()), ..JoinOptions::default() };
        let joined = Joined::new(files(), &options).expect("genes in common");
        joined.expression(1..2, CsrRows::default()).expect("a cell").row(0).0.to_vec()
    };
    assert_eq!([second("gene"), second("var_gene")], [[0], [0]]);
    let nope = JoinOptions { gene_id: Some("nope".into()), ..JoinOptions::default() };
    let error = Joined::new(files(), &nope).expect_err("no such column").to_string();
    assert!(error.starts_with("a: unknown var column `nope`"), "{error}");
}

#[test]
fn a_text_that_is_a_number_in_another_notation_is_found() {
    let notations = ["2.50", "01", "1e3", "2.5", "7", "x", "nan"].map(columns::other_notation);
    let expected = [Some("2.5"), Some("1"), Some("1000"), None, None, None, None];
    assert_eq!(notations, expected.map(|number| number.map(str::to_owned)));
}

#[test]
fn files_without_a_common_gene_are_refused() {
    let mut files = two();
    files.push(file("c", &["c3"], &["W"], &["9"], vec![vec![(0, 1.0)]]));
    let error = Joined::new(files, &JoinOptions::default()).expect_err("nothing in common");
    assert!(error.to_string().contains("a.h5ad, b.h5ad, c.h5ad: their genes have no name in common"), "{error}");
}
