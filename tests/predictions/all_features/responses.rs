//! Dose responses of pairs, whatever the order in which a pair is typed.

use crate::support::{
    Home,
    parquet::{genes, lists, read, texts},
    says,
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
