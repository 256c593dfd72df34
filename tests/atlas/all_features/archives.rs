//! Files that other programs have written over the years go through the command line.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::{Home, says, skipped};

/// A folder of the shared material, unless that is not here.
fn shared(folder: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/formats").join(folder);
    if !path.exists() {
        skipped(&format!("{} is not here", path.display()));
        return None;
    }
    Some(fs::canonicalize(path).unwrap())
}

/// The content of each file according to another program: its name, and its shape unless there is no matrix.
fn read_elsewhere(folder: &Path) -> Vec<(String, Option<(u64, u64)>)> {
    let table = fs::read_to_string(folder.join("expected_python.tsv")).unwrap();
    let shape = |detail: &str| {
        let (cells, rest) = detail.strip_prefix('(')?.split_once(", ")?;
        let (genes, kind) = rest.split_once(") ")?;
        (!kind.starts_with("NoneType")).then(|| (cells.parse().unwrap(), genes.parse().unwrap()))
    };
    let lines = table.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    lines.map(|line| (line[0].to_owned(), shape(line[2]))).collect()
}

#[test]
fn every_h5ad_file_that_anndata_opens_is_inspected_and_ingested() {
    let Some(folder) = shared("h5ad_archives") else { return };
    let home = Home::new();
    for (at, (name, shape)) in read_elsewhere(&folder).into_iter().enumerate() {
        let file = folder.join(&name).display().to_string();
        let Some((cells, genes)) = shape else {
            says(&home.refused(65, &format!("inspect {file}")), &["X", "adata.X"]);
            says(&home.refused(65, &format!("ingest {file} --out no.atlas")), &["X", "adata.X"]);
            continue;
        };
        let inspected = home.json(&format!("inspect {file}"));
        assert_eq!((&inspected["cells"], &inspected["genes"]), (&cells.into(), &genes.into()), "{name}");
        let mut line = format!("ingest {file} --no-perturbation --out {at}.atlas");
        if name.ends_with("nan.h5ad") {
            says(&home.refused(65, &line), &["NaN", "--on-bad-values"]);
            line.push_str(" --on-bad-values clip");
        }
        let ingested = home.json(&line);
        assert_eq!((&ingested["cells"], &ingested["genes"]), (&cells.into(), &genes.into()), "{name}");
        if !name.ends_with("nan.h5ad") {
            assert_eq!(ingested["nonzeros"], inspected["nonzeros"], "{name}");
        }
    }
}

#[test]
fn every_10x_file_is_inspected_and_ingested() {
    let Some(folder) = shared("10x/scanpy/tests/_data") else { return };
    let home = Home::new();
    for (file, genome, shape) in [
        ("10x_data/1.2.0/filtered_gene_bc_matrices_h5.h5", "", (12, 343)),
        ("10x_data/1.2.0/multiple_genomes.h5", "--genome hg19_chr21", (12, 343)),
        ("10x_data/3.0.0/filtered_feature_bc_matrix.h5", "", (1107, 507)),
        ("visium_data/1.0.0/filtered_feature_bc_matrix.h5", "", (100, 100)),
        ("visium_data/2.1.0/raw_probe_bc_matrix.h5", "", (4987, 1000)),
    ] {
        let path = folder.join(file).display().to_string();
        let inspected = home.json(&format!("inspect {path} {genome}"));
        let found = (inspected["cells"].as_u64().unwrap(), inspected["genes"].as_u64().unwrap());
        assert_eq!((found, inspected["kind"].as_str().unwrap()), (shape, "10x"), "{file}");
        let out = file.replace('/', "_");
        let ingested = home.json(&format!("ingest {path} {genome} --no-perturbation --out {out}.atlas"));
        assert_eq!((&ingested["nonzeros"], &ingested["values"]), (&inspected["nonzeros"], &"counts".into()), "{file}");
        if !genome.is_empty() {
            says(&home.refused(65, &format!("inspect {path}")), &["several genomes", "--genome another_genome"]);
        }
    }
}
