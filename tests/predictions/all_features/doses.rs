//! Doses: as numbers in `.h5ad` files, which read back as the conditions they are of, and far beyond the trained ones.

use std::{collections::BTreeSet, path::Path};

use arrow::{array::AsArray, datatypes::DataType};
use schemas::arrow::place_of_column;
use stages::{
    formats::{
        format::{Choice, open},
        source::obs_column,
    },
    reader::atlas::Atlas,
};

use crate::support::{
    Home, TINY,
    h5ad::{set_column, write_h5ad},
    says, simulator,
};

/// The values of a column of `obs`, as text; `None` if there is no such column.
fn obs_texts(path: &Path, column: &str) -> Option<Vec<Option<String>>> {
    let source = open(path, &Choice::default()).unwrap();
    place_of_column(&source.obs_schema(), column)?;
    let values = obs_column(&*source, column).unwrap().map(Result::unwrap);
    Some(
        values
            .flat_map(|slice| slice.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>())
            .collect(),
    )
}

#[test]
fn doses_in_an_h5ad_are_numbers_and_read_back_as_the_same_conditions() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    let atlas = Atlas::open(home.path("s.atlas")).unwrap();
    let single = atlas.manifest().conditions.perturbations()[0].clone();
    home.json(&format!(
        "predict m s.atlas --to condition={single},dose=0.5 --output cells --controls copy --out one.h5ad"
    ));
    let source = open(&home.path("one.h5ad"), &Choice::default()).unwrap();
    assert_eq!(source.obs_schema().field_with_name("dose").unwrap().data_type(), &DataType::Float64);
    let (labels, doses) = (obs_texts(&home.path("one.h5ad"), "condition"), obs_texts(&home.path("one.h5ad"), "dose"));
    for (label, dose) in labels.unwrap().into_iter().zip(doses.unwrap()) {
        assert_eq!(dose.as_deref(), Some(if label.as_deref() == Some("ctrl") { "0" } else { "0.5" }));
    }
    assert!(obs_texts(&home.path("one.h5ad"), "dose_1").is_none());

    // With combinations, doses stay aligned with their perturbations, and numbers are beside them.
    for (line, file) in
        [("predict m s.atlas --to observed --output cells --controls copy", "all.h5ad"), ("embed m s.atlas", "e.h5ad")]
    {
        home.json(&format!("{line} --out {file}"));
        let path = home.path(file);
        let all = ["dose", "dose_1", "dose_2"].map(|column| obs_texts(&path, column).unwrap());
        let labels = obs_texts(&path, "condition").unwrap();
        let mut pairs = 0;
        for (row, label) in labels.iter().map(|label| label.as_deref().unwrap()).enumerate() {
            let [dose, one, two] = all.each_ref().map(|doses| doses[row].as_deref());
            match label {
                "ctrl" => assert_eq!((one, two), (Some("0"), None)),
                label if label.contains('+') => {
                    assert_eq!(dose.unwrap().split_once('+'), one.zip(two), "{label}");
                    pairs += 1;
                }
                _ => assert_eq!((dose, two), (one, None), "{label}"),
            }
        }
        assert!(pairs > 0, "{file} has combinations");
    }
    // The file is cells with labels: it is ingested, and judged, with the doses it was predicted at.
    let again = home.json("ingest all.h5ad --out again.atlas --values log1p");
    let conditions = |value: &serde_json::Value| {
        let of = |one: &serde_json::Value| format!("{} {}", one["name"], one["doses"]);
        value["conditions"].as_array().unwrap().iter().map(of).collect::<BTreeSet<_>>()
    };
    let truth = conditions(&home.json("inspect s.atlas"));
    assert!(conditions(&again).is_subset(&truth), "{again}");
    home.json("predict m s.atlas --to ood --output cells --controls copy --out ood.h5ad");
    home.json("split s.atlas --name held --hold-out condition=G00034,dose=0.5");
    let judged = home.json("judge ood.h5ad --truth s.atlas --split held");
    let evaluated = home.json("evaluate m s.atlas");
    assert_eq!(
        judged["predictions"][0]["conditions"].as_array().unwrap().len(),
        evaluated["conditions"].as_array().unwrap().len()
    );
}

#[test]
fn doses_are_judged_where_the_atlas_has_another_name_for_them() {
    let home = Home::new();
    let simulator = simulator(600, true);
    let mut chunk = simulator.chunk(0..600).unwrap();
    set_column(&mut chunk, "dose", "dose_val", |_, dose| dose.to_owned());
    write_h5ad(&home.path("s.h5ad"), simulator.genes(), &chunk);
    home.json("ingest s.h5ad --out s.atlas");
    home.json("split s.atlas --name held --hold-out dose_val=0.5");
    home.json(&format!("train s.atlas --split held --out m --epochs 1 {TINY}"));
    home.json("predict m s.atlas --to ood --output cells --controls copy --out p.h5ad");
    let judged = home.json("judge p.h5ad --truth s.atlas --split held");
    let conditions = judged["predictions"][0]["conditions"].as_array().unwrap();
    assert!(!conditions.is_empty() && conditions.iter().all(|one| one["dose"] == "0.5"), "{conditions:?}");
}

#[test]
fn a_dose_at_which_the_prediction_overflows_is_refused() {
    let home = Home::with_atlas();
    home.json(&format!("train s.atlas --out m --epochs 1 --set model.doser_type=linear {TINY}"));
    let condition = Atlas::open(home.path("s.atlas")).unwrap().manifest().conditions.perturbations()[0].clone();
    for output in ["--out x", "--layout long --out x", "--output cells --out x"] {
        let refused = home.refused(2, &format!("predict m s.atlas --to condition={condition},dose=1e300 {output}"));
        says(
            &refused,
            &[&format!("the prediction for `{condition}` at the dose"), "not finite", "closer to the trained"],
        );
    }
}
