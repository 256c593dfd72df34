//! Files that are joined: what they must have in common, and what must not be the same.

use std::fs;

use schemas::chunk::{Chunk, CsrRows};

use crate::support::{
    Home,
    h5ad::{h5ad, set_value},
    says,
};

fn log1p(chunk: &mut Chunk) {
    let rows = &chunk.expression;
    let values = rows.values().iter().map(|count| count.ln_1p()).collect();
    chunk.expression = CsrRows::canonical(rows.row_pointers().to_vec(), rows.genes().to_vec(), values, 60).unwrap();
}

#[test]
fn counts_and_continuous_values_are_not_joined_unless_asked_for() {
    let home = Home::new();
    h5ad(&home, "counts.h5ad", |_| {});
    h5ad(&home, "log.h5ad", log1p);
    h5ad(&home, "scaled.h5ad", |chunk| {
        log1p(chunk);
        set_value(chunk, 0, 0, -1.0);
    });
    for files in ["counts.h5ad log.h5ad", "log.h5ad counts.h5ad scaled.h5ad"] {
        let message = home.refused(65, &format!("ingest {files} --out n.atlas"));
        says(&message, &["counts.h5ad holds integers only, as counts are, but log.h5ad does not (cell 0, gene `G"]);
        says(&message, &["--layer", "--values log1p"]);
    }
    for (name, line) in [
        ("both", "log.h5ad counts.h5ad --values log1p"),
        ("logs", "log.h5ad scaled.h5ad"),
        ("one", "log.h5ad --file-key file"),
    ] {
        assert_eq!(home.json(&format!("ingest {line} --out {name}.atlas"))["values"], "continuous");
    }
}

#[test]
fn a_file_that_is_given_twice_is_refused_through_links_too() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    std::os::unix::fs::symlink("s.h5ad", home.path("soft.h5ad")).unwrap();
    fs::hard_link(home.path("s.h5ad"), home.path("hard.h5ad")).unwrap();
    let ingest = |files: &str| home.refused(2, &format!("ingest {files} --out n.atlas"));
    says(&ingest("s.h5ad s.h5ad"), &["s.h5ad is given twice", "give each file once"]);
    says(&ingest("s.h5ad soft.h5ad"), &["s.h5ad and soft.h5ad are the same file"]);
    says(&ingest("hard.h5ad ./s.h5ad --file-key file"), &["hard.h5ad and ./s.h5ad are the same file"]);
    fs::copy(home.path("s.h5ad"), home.path("copy.h5ad")).unwrap();
    assert_eq!(home.json("ingest s.h5ad copy.h5ad --out both.atlas")["cells"], 200);
}

/// A folder of two cells: counts 5 and 7 of the first and third gene, and 1 of the second.
fn folder_of_genes(home: &Home, name: &str, features: [&str; 3]) {
    let folder = home.path(name);
    fs::create_dir(&folder).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("matrix.mtx", "%%MatrixMarket matrix coordinate integer general\n3 2 3\n1 1 5\n2 2 1\n3 2 7\n");
    write("barcodes.tsv", "AAA-1\nCCC-1\n");
    write("features.tsv", &features.map(|feature| format!("{feature}\tGene Expression\n")).concat());
}

#[test]
fn genes_of_one_name_are_not_taken_for_one_another() {
    let home = Home::new();
    for (name, features) in [
        ("a", ["E1\tMATR3", "E2\tMATR3", "E3\tMYC"]),
        ("same", ["E1\tMATR3", "E2\tMATR3", "E3\tMYC"]),
        ("turned", ["E2\tMATR3", "E3\tMYC", "E1\tMATR3"]),
        ("one", ["E2\tMATR3", "E3\tMYC", "E4\tTP53"]),
        ("none", ["E5\tSOX2", "E3\tMYC", "E4\tTP53"]),
    ] {
        folder_of_genes(&home, name, features);
    }
    for (inputs, path, other) in
        [("a turned", "a", "turned"), ("a one", "a", "one"), ("one a --join outer", "a", "one")]
    {
        let message = home.refused(65, &format!("ingest {inputs} --no-perturbation --out n.atlas"));
        let twice =
            format!("{path}: 2 genes are called `MATR3`, and each of them could be the gene of that name in {other}");
        says(&message, &[&twice, "--gene-id"]);
    }
    for (inputs, genes) in [
        ("a same", 3),
        ("a none", 1),
        ("a none --join outer", 5),
        ("a turned --gene-id gene_ids", 3),
        ("a one --gene-id gene_ids", 2),
    ] {
        let made = home.json(&format!("ingest {inputs} --no-perturbation --out n.atlas --force"));
        assert_eq!(made["genes"], genes, "{inputs}");
    }
}

#[test]
fn genes_without_an_id_are_not_taken_for_one_another() {
    let home = Home::new();
    let folder = |name: &str, features: [&str; 3]| folder_of_genes(&home, name, features);
    folder("a", ["E1\tTP53", "E2\tMYC", "\tx"]);
    folder("b", ["E2\tMYC", "E1\tTP53", "\ty"]);
    let message = home.refused(65, "ingest a b --gene-id gene_ids --out n.atlas");
    says(&message, &["a, var column `gene_ids`: 1 of 3 genes have no id, the first of them `x` in row 2", "--gene-id"]);
    assert_eq!(home.json("ingest a b --out named.atlas --no-perturbation")["genes"], 2);
}
