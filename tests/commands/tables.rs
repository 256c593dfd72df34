//! Tables on stdout: no wider than the screen, whole on request, or as CSV.

use crate::support::{Home, Ran, says};

const HOLD_OUT: &str = "cell_type=type_1,dose=0.5";

#[track_caller]
fn fits(ran: &Ran, width: usize) {
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for line in ran.stdout.lines().filter(|line| line.contains("  ")) {
        assert!(line.chars().count() <= width, "{} characters:\n{line}", line.chars().count());
    }
}

#[test]
fn tables_fit_80_columns_and_say_what_is_hidden() {
    let home = Home::with_model(HOLD_OUT);
    let narrow = home.run("evaluate m s.atlas");
    fits(&narrow, 80);
    assert!(narrow.stdout.contains("hidden; --wide shows all)"), "{}", narrow.stdout);
    let header = narrow.stdout.lines().find(|line| line.starts_with("condition")).unwrap();
    assert!(header.contains("pearson_delta"), "the score to look at first is shown: {header}");

    let wide = home.run("evaluate m s.atlas --wide").stdout;
    assert!(wide.contains("pearson_delta:additive_similar") && !wide.contains("--wide"), "{wide}");
    let mut command = home.command("evaluate m s.atlas");
    let wider = String::from_utf8(command.env("COLUMNS", "140").output().unwrap().stdout).unwrap();
    let width = |text: &str| text.lines().filter(|line| line.contains("  ")).map(|line| line.chars().count()).max();
    assert!(width(&narrow.stdout) < width(&wider) && width(&wider) <= Some(140), "{wider}");

    fits(&home.run("inspect s.atlas --statistics"), 80);
    let conditions = home.json("inspect s.atlas")["conditions"].clone();
    let name = conditions[1]["name"].as_str().unwrap();
    fits(&home.run(&format!("response m s.atlas --condition {name} --doses 0,1")), 80);
    home.json(&format!("split s.atlas --name held --hold-out {HOLD_OUT}"));
    home.json("predict m s.atlas --out p");
    fits(&home.run("judge p --truth s.atlas --split held"), 80);
}

#[test]
fn csv_is_the_main_table_with_all_columns() {
    let home = Home::with_model(HOLD_OUT);
    let rows = |text: &str| text.lines().map(|line| line.split(',').count()).collect::<Vec<_>>();
    let csv = home.run("evaluate m s.atlas --csv").stdout;
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("condition,dose,covariates,split,cells,r2_mean,"), "{csv}");
    assert!(rows(&csv).windows(2).all(|two| two[0] == two[1]), "{csv}");
    let conditions = home.json("evaluate m s.atlas")["conditions"].as_array().unwrap().len();
    assert_eq!(lines.len(), 1 + conditions);
    let inspected = home.run("--csv inspect s.atlas").stdout;
    assert!(inspected.starts_with("condition,dose,cells,control\nctrl,,"), "{inspected}");
}

#[test]
fn csv_is_refused_where_there_is_no_table() {
    let home = Home::with_atlas();
    says(&home.refused(2, "split s.atlas --name n --csv"), &["has no table to print as CSV", "--csv"]);
    let both = home.refused(2, "inspect s.atlas --csv --json");
    assert!(both.contains("--json"), "{both}");
}
