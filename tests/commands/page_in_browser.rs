//! The report page in a browser, wide, narrow and dark: no text overlaps another or is cut, and nothing is wrong on the console.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use super::support::{
    Home, TINY,
    h5ad::{set_column, write_h5ad},
    simulator, skipped,
};

const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const CHECKS: &str = include_str!("page_checks.js");

/// Messages that a browser writes to the console while it takes a picture of a page in a frame of this width.
fn console(browser: &str, page: &Path, width: u32, is_dark: bool) -> String {
    let folder = page.parent().unwrap();
    let frame = folder.join(format!("frame-{width}-{is_dark}.html"));
    let style = format!("border: 0; width: {width}px; height: 9000px");
    let name = page.file_name().unwrap().to_str().unwrap();
    let around = format!(
        "<!doctype html><meta name=\"color-scheme\" content=\"light dark\"><body style=\"margin: 0\">\
         <iframe src=\"{name}\" style=\"{style}\"></iframe><script>{CHECKS}</script>"
    );
    fs::write(&frame, around).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--hide-scrollbars", "--allow-file-access-from-files"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=4000"])
        .arg(format!("--blink-settings=preferredColorScheme={}", u32::from(!is_dark)))
        .arg(format!("--user-data-dir={}", folder.join("browser").display()))
        .arg(format!("--window-size={},9000", width.max(500)))
        .arg(format!("--screenshot={}", frame.with_extension("png").display()))
        .arg(format!("file://{}", frame.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        fs::metadata(frame.with_extension("png")).is_ok_and(|picture| picture.len() > 10_000),
        "there is a picture"
    );
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines().filter(|line| line.contains("CONSOLE")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_page_looks_right_wide_narrow_and_dark() {
    let answers =
        |browser: &&&str| Command::new(browser).arg("--version").output().is_ok_and(|one| one.status.success());
    let Some(browser) = BROWSERS.iter().find(answers) else { return skipped("there is no chromium") };
    for home in [Home::with_model("condition=G00034,dose=0.5"), with_nanomolar_doses()] {
        home.json("evaluate m s.atlas");
        home.json("report m --out r.html");
        for (width, is_dark) in [(1300, false), (380, false), (1300, true)] {
            let said = console(browser, &home.path("r.html"), width, is_dark);
            let lines: Vec<&str> = said.lines().collect();
            assert!(
                lines.len() == 1 && lines[0].contains(&format!("texts, dark {is_dark}")),
                "{width} px, dark {is_dark}:\n{said}"
            );
        }
    }
}

/// A model of a screen with long names and doses up to 10,000, and few cells of each.
fn with_nanomolar_doses() -> Home {
    let home = Home::new();
    let simulator = simulator(300, true);
    let mut chunk = simulator.chunk(0..300).unwrap();
    let nanomolar =
        |dose: &str| dose.parse::<f64>().map_or(dose.to_owned(), |dose| (dose * dose * dose * 10_000.0).to_string());
    set_column(&mut chunk, "dose", "dose", |_, doses| doses.split('+').map(nanomolar).collect::<Vec<_>>().join("+"));
    set_column(&mut chunk, "condition", "condition", |_, name| name.replace("G0", "Trametinib (GSK112) G0"));
    write_h5ad(&home.path("s.h5ad"), simulator.genes(), &chunk);
    home.json("ingest s.h5ad --out s.atlas");
    home.json(&format!("train s.atlas --out m --hold-out cell_type=type_0,dose=10000 --epochs 2 {TINY}"));
    home
}

#[test]
fn every_chart_is_a_file_in_both_formats_and_every_table_a_csv() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    home.json("evaluate m s.atlas");
    let mut command = home.command("--json report m --out r.html --figures figures --tables tables");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let named = |folder: &str, ending: &str| {
        let files = fs::read_dir(home.path(folder)).unwrap().map(|file| file.unwrap().path());
        let files = files.filter(|file| file.extension().is_some_and(|one| one == ending));
        files.map(|file| file.file_stem().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let (vectors, pictures, tables) = (named("figures", "svg"), named("figures", "png"), named("tables", "csv"));
    assert!(vectors.len() > 5 && tables.len() > 5, "{vectors:?} {tables:?}");
    match String::from_utf8_lossy(&output.stderr).contains("this system has no fonts") {
        true => assert!(pictures.is_empty(), "{pictures:?}"),
        false => assert_eq!(pictures, vectors),
    }
}
