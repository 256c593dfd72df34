//! Dose responses: of pairs, whatever the order in which a pair is typed, and at the doses of training.

use crate::support::{
    Home, TINY,
    h5ad::{set_column, write_h5ad},
    parquet::{genes, lists, read, texts},
    says, simulator,
};

#[test]
fn a_pair_in_another_order_responds_under_the_name_that_its_doses_belong_to() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    let atlas = stages::reader::atlas::Atlas::open(home.path("s.atlas")).unwrap();
    let combinations = atlas.manifest().conditions.combinations().iter();
    let pair = combinations.map(|combination| combination.name.clone()).find(|name| name.contains('+')).unwrap();
    let (first, second) = pair.split_once('+').unwrap();
    let typed = format!("{second}+{first}");
    let request = format!("response m s.atlas --condition {typed} --doses 0:1:0.5 --doses 5 --genes 1");
    let result = home.json(&format!("{request} --out r.parquet"));
    assert_eq!(result["condition"], pair.as_str());
    let curve = &result["curves"][0];
    let points = curve["points"].as_array().unwrap();
    let doses: Vec<&str> = points.iter().map(|point| point["dose"].as_str().unwrap()).collect();
    assert_eq!(doses, ["5+0", "5+0.5", "5+1"], "doses of {typed} in the order of {pair}");

    let table = read(&home.path("r.parquet"));
    assert!(texts(&table, "condition").iter().all(|name| *name == pair));
    let printed = home.run(&request).stdout;
    assert!(printed.contains("condition") && printed.contains(&pair) && !printed.contains(&typed), "{printed}");

    let cell_type = curve["covariates"]["cell_type"].as_str().unwrap();
    let to = format!("condition={typed},dose=0.5+5,cell_type={cell_type}");
    home.json(&format!("predict m s.atlas --to {to} --out p.parquet"));
    let predicted = read(&home.path("p.parquet"));
    assert_eq!((&texts(&predicted, "condition")[0], texts(&predicted, "dose")[0].as_str()), (&pair, "5+0.5"));
    let gene = genes(&predicted).iter().position(|gene| *gene == result["genes"][0].as_str().unwrap()).unwrap();
    let (mean, at_point) = (f64::from(lists(&predicted, "mean")[0][gene]), points[1]["mean"][0].as_f64().unwrap());
    assert!((mean - at_point).abs() < 1e-3 * mean.abs(), "predicted {mean}, in the curve {at_point}");
}

#[test]
fn the_response_to_what_was_never_trained_is_refused() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    for condition in ["nobody", "G00034+nobody"] {
        says(&home.refused(65, &format!("response m s.atlas --condition {condition}")), &["nobody"]);
    }
    for control in ["ctrl", "ctrl+ctrl"] {
        let message = home.refused(2, &format!("response m s.atlas --condition {control} --out r.parquet"));
        says(&message, &[&format!("`{control}` is control, which has no dose")]);
    }
}

#[test]
fn without_doses_a_curve_goes_to_the_largest_trained_one() {
    let home = Home::new();
    let simulator = simulator(600, true);
    let mut chunk = simulator.chunk(0..600).unwrap();
    let nanomolar = |dose: &str| dose.parse::<f64>().map_or(dose.to_owned(), |dose| (dose * 1000.0).to_string());
    set_column(&mut chunk, "dose", "dose", |_, doses| doses.split('+').map(nanomolar).collect::<Vec<_>>().join("+"));
    write_h5ad(&home.path("s.h5ad"), simulator.genes(), &chunk);
    let atlas = home.json("ingest s.h5ad --out s.atlas");
    home.json(&format!("train s.atlas --out m --epochs 1 {TINY}"));
    let single = atlas["conditions"].as_array().unwrap().iter().find(|one| one["doses"].as_array().unwrap().len() == 1);
    let name = single.unwrap()["name"].as_str().unwrap();
    let result = home.json(&format!("response m s.atlas --condition {name} --genes 1"));
    let points = result["curves"][0]["points"].as_array().unwrap();
    let doses: Vec<f64> = points.iter().map(|point| point["dose"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!((doses[0], *doses.last().unwrap()), (0.0, 1000.0), "{doses:?}");
    let trained = points.iter().filter(|point| point["dose_was"] == "trained").count();
    assert!(trained > 1 && points.iter().all(|point| point["dose_was"] != "extrapolated"), "{points:?}");
}
