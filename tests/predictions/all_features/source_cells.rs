//! The source cells that `--from` chooses, and the covariates that they share with what is predicted.

use crate::support::{
    self, Home, TINY,
    parquet::{read, source_cells, texts},
    says,
};

/// Cell type, batch and number of source cells of each prediction, in order.
type Rows = Vec<(String, String, u64)>;

fn rows(home: &Home, flags: &str) -> Rows {
    let _ = std::fs::remove_file(home.path("p.parquet"));
    home.json(&format!("predict m s.atlas --out p.parquet {flags}"));
    let table = read(&home.path("p.parquet"));
    let covariates = texts(&table, "cell_type").into_iter().zip(texts(&table, "batch"));
    let rows = covariates.zip(source_cells(&table)).map(|((cell_type, batch), cells)| (cell_type, batch, cells));
    let mut rows: Rows = rows.collect();
    rows.sort();
    rows
}

fn of_type(rows: &Rows, name: &str) -> Rows {
    rows.iter().filter(|(cell_type, ..)| cell_type == name).cloned().collect()
}

#[test]
fn chosen_ones_match_as_others_do_but_for_the_covariates_that_their_selector_names() {
    let home = Home::new();
    home.json(&format!("{} --batches 2", support::SIMULATE));
    home.json("ingest s.h5ad --batch batch --out s.atlas");
    home.json(&format!("train s.atlas --out m --epochs 1 {TINY}"));
    let atlas = stages::reader::atlas::Atlas::open(home.path("s.atlas")).unwrap();
    let to = format!("--to condition={},dose=1", atlas.manifest().conditions.perturbations()[1]);

    let all = rows(&home, &to);
    let (here, there) = (of_type(&all, "type_0"), of_type(&all, "type_1"));
    assert_eq!((all.len(), here.len(), there.len()), (4, 2, 2), "two cell types in two batches");
    assert_eq!(rows(&home, &format!("{to} --from condition=ctrl")), all);
    assert_eq!(rows(&home, &format!("{to},cell_type=type_0 --from condition=ctrl")), here);
    let sum: u64 = here.iter().map(|(.., cells)| cells).sum();
    for from in ["", "--from condition=ctrl"] {
        let pooled = rows(&home, &format!("{to},cell_type=type_0 --match cell_type {from}"));
        assert_eq!(pooled.iter().map(|(.., cells)| *cells).collect::<Vec<_>>(), [sum, sum], "{from}");
    }

    // The covariate that --from names is replaced, unless it has to match.
    let moved = format!("{to},cell_type=type_0 --from condition=ctrl,cell_type=type_1");
    let expected: Rows = there.into_iter().map(|(_, batch, cells)| ("type_0".into(), batch, cells)).collect();
    assert_eq!(rows(&home, &moved), expected);
    let message = home.refused(65, &format!("predict m s.atlas --out x {moved} --match cell_type"));
    says(&message, &["no source cells with cell_type=type_0"]);

    let (first, second) = (&here[0].1, &here[1].1);
    assert_eq!(rows(&home, &format!("{to},batch={first} --batch {first}")).len(), 2);
    let message = home.refused(2, &format!("predict m s.atlas --out x {to},batch={first} --batch {second}"));
    says(&message, &["names another batch than --batch", second]);
}
