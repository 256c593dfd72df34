//! Outputs: their endings, and `--force`.

use std::{
    fs,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use stages::storage::disk::FolderLock;

use crate::support::{Home, TINY, says};

const HOLD_OUT: &str = "cell_type=type_1,dose=0.5";

#[test]
fn an_ending_is_obeyed_or_refused_with_what_to_write() {
    let home = Home::with_model(HOLD_OUT);
    for (line, parts) in [
        ("predict m s.atlas --out x.pdf", &["x.pdf", ".parquet or .h5ad"][..]),
        ("embed m s.atlas --out x.json", &["x.json", ".parquet, .csv or .h5ad"]),
        ("report m --out s.csv", &["s.csv", "a name that ends in .html"]),
        ("judge p --truth s.atlas --out x.pdf", &["x.pdf", "a name that ends in .html"]),
        ("judge p --truth s.atlas --card x.html", &["x.html", "give --card a name that ends in .json"]),
        ("simulate --out s.csv", &["s.csv", "a name that ends in .h5ad"]),
        ("ingest s.h5ad --out i.parquet", &["i.parquet", "the name of a folder"]),
        ("train s.atlas --out m.h5ad", &["m.h5ad", "the name of a folder"]),
        ("explain train s.atlas --out m.h5ad", &["m.h5ad", "the name of a folder"]),
        ("response m s.atlas --condition G00000 --out r.pdf", &["r.pdf", "a name that ends in .parquet or .csv"]),
        ("embed m --of perturbations --out e.h5ad", &["e.h5ad", ".parquet or .csv"]),
    ] {
        says(&home.refused(2, line), parts);
    }
}

#[test]
fn latents_embeddings_and_curves_are_written_as_csv() {
    let home = Home::with_model(HOLD_OUT);
    for (line, file, columns, rows) in [
        ("embed m s.atlas", "l.csv", "cell,condition,dose,cell_type,basal_1,basal_2,", 600),
        ("embed m --of perturbations", "p.csv", "perturbation,embedding_1,", 5),
        ("embed m --of covariates", "c.csv", "covariate,value,embedding_1,", 2),
        (
            "response m s.atlas --condition G00034 --doses 0.5,1 --genes 3",
            "r.csv",
            "condition,dose,cell_type,",
            2 * 2 * 3,
        ),
    ] {
        let line = format!("{line} --out {file}");
        home.json(&line);
        let text = fs::read_to_string(home.path(file)).unwrap();
        assert!(text.starts_with(columns), "{text}");
        assert_eq!(text.lines().count(), 1 + rows, "{line}");
        says(&home.refused(2, &line), &["already exists", "--force"]);
        home.json(&format!("{line} --force"));
        assert_eq!(fs::read_to_string(home.path(file)).unwrap(), text, "{line}");
    }
    let other = home.refused(2, "embed m s.atlas --out r.csv --force");
    says(&other, &["r.csv is not an output of this command"]);
}

#[test]
fn force_replaces_no_folder_into_which_a_user_put_something() {
    let home = Home::with_model(HOLD_OUT);
    home.json("predict m s.atlas --out p");
    for (folder, line) in [
        ("p", "predict m s.atlas --to observed --out p --force".to_owned()),
        ("m", format!("train s.atlas --out m --epochs 1 {TINY} --force")),
        ("s.atlas", "ingest s.h5ad --out s.atlas --force".to_owned()),
    ] {
        let mine = home.path(folder).join("notes.txt");
        fs::write(&mine, "mine").unwrap();
        says(&home.refused(2, &line), &["notes.txt would be lost", "move it to another folder"]);
        fs::remove_file(mine).unwrap();
    }
    home.json("evaluate m s.atlas");
    home.json("predict m s.atlas --to observed --partition-by condition --out q");
    let partition = fs::read_dir(home.path("q")).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
    for (mine, line) in [
        (home.path("m/checkpoint/notes.txt"), format!("train s.atlas --out m --epochs 1 {TINY} --force")),
        (partition.unwrap().join("notes.txt"), "predict m s.atlas --to observed --out q --force".to_owned()),
    ] {
        fs::write(&mine, "mine").unwrap();
        says(&home.refused(2, &line), &["notes.txt would be lost", "move it to another folder"]);
        fs::remove_file(mine).unwrap();
        home.json(&line);
    }
}

#[test]
fn force_replaces_an_output_of_the_same_kind_and_nothing_else() {
    let home = Home::with_model(HOLD_OUT);
    home.json("predict m s.atlas --out p");
    home.json("predict m s.atlas --out p.parquet");
    home.json("predict m s.atlas --out p.h5ad");
    home.json("report m --out r.html");
    for line in [
        "predict m s.atlas --to observed --out p --force",
        "predict m s.atlas --to observed --out p.parquet --force",
        "predict m s.atlas --to observed --out p.h5ad --force",
        "embed m s.atlas --out p --force",
        "embed m s.atlas --out p.h5ad --force",
        "report m --out r.html --force",
        "ingest s.h5ad --out s.atlas --force --no-shuffle",
        "report m --out new.html --force",
    ] {
        home.json(line);
    }
    assert_eq!(home.json("inspect p")["rows"], 600, "latents took the place of means");
    let trained = home.json(&format!("train s.atlas --out m --force --epochs 1 {TINY}"));
    assert_eq!((&trained["model"], &home.json("inspect m")["epochs"]), (&"m".into(), &1.into()));
    assert_eq!(home.json("verify m p s.atlas")["damaged"], serde_json::json!([]));

    fs::create_dir(home.path("mine")).unwrap();
    fs::write(home.path("mine/notes.txt"), "mine").unwrap();
    fs::write(home.path("mine.html"), "<!doctype html>mine").unwrap();
    for line in [
        "predict m s.atlas --out mine --force",
        "predict m s.atlas --out s.h5ad --force",
        "predict m s.atlas --out m --force",
        "train s.atlas --out p --force",
        "ingest s.h5ad --out m --force",
        "report m --out mine.html --force",
    ] {
        says(&home.refused(2, line), &["--force does not replace it"]);
    }
    let hidden = home.listing().into_iter().filter(|(path, _)| path.to_string_lossy().contains(".new-"));
    assert_eq!(hidden.count(), 0, "nothing is left behind");
}

#[test]
fn an_output_stays_if_the_one_that_should_replace_it_fails() {
    let home = Home::with_model(HOLD_OUT);
    home.json("predict m s.atlas --out p");
    let _ = home.refused(65, "predict m s.atlas --to condition=none --out p --force");
    assert_eq!(home.json("verify p")["damaged"], serde_json::json!([]));
}

#[test]
fn an_output_that_another_process_replaces_is_called_by_its_name() {
    let home = Home::with_model(HOLD_OUT);
    home.json("predict m s.atlas --out p");
    for (name, line) in [("p", "predict m s.atlas --out p --force"), ("s.atlas", "ingest s.h5ad --out s.atlas --force")]
    {
        let replacement = home.path(&format!(".new-{name}"));
        fs::create_dir(&replacement).unwrap();
        let _lock = FolderLock::take(&replacement).unwrap();
        let message = home.refused(75, line);
        says(&message, &[&format!("another process is writing {name}\n"), "try again later"]);
    }
}

/// A command that writes slowly, once it has begun to write what will replace `name`.
fn replacing(home: &Home, name: &str, line: &str) -> Child {
    let mut command = home.command(line);
    command.env("PERTURBINE_FAULT", "slow@100").stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let (hidden, start) = (format!(".new-{name}"), Instant::now());
    let has_begun = || {
        fs::read_dir(home.path("")).unwrap().any(|entry| entry.unwrap().file_name().to_str().unwrap().contains(&hidden))
    };
    while !has_begun() {
        assert!(start.elapsed() < Duration::from_secs(120), "nothing is written");
        thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn what_is_put_into_an_output_while_it_is_replaced_is_not_lost() {
    let home = Home::with_model(HOLD_OUT);
    for (name, line) in [
        ("s.atlas", "ingest s.h5ad --out s.atlas --force".to_owned()),
        ("m", format!("train s.atlas --out m --epochs 1 {TINY} --force")),
    ] {
        let child = replacing(&home, name, &line);
        let mine = home.path(name).join("notes.txt");
        fs::write(&mine, "mine").unwrap();
        let ran = child.wait_with_output().unwrap();
        let message = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(2), "{message}");
        says(&message, &["notes.txt would be lost", &format!("the new output is complete in .new-{name}")]);
        assert_eq!(fs::read(&mine).unwrap(), b"mine");
        fs::remove_file(mine).unwrap();
        home.json(&line);
    }
}

#[test]
fn a_split_waits_until_its_atlas_is_replaced() {
    let home = Home::with_model(HOLD_OUT);
    std::os::unix::fs::symlink("s.atlas", home.path("link")).unwrap();
    for (atlas, name) in [("s.atlas", "first"), ("link", "second")] {
        let child = replacing(&home, "s.atlas", "ingest s.h5ad --out s.atlas --force");
        let second = home.run("ingest s.h5ad --out link --force");
        assert_eq!(second.code, 75, "{}", second.stderr);
        home.json(&format!("split {atlas} --name {name} --scheme random:0.2"));
        assert!(child.wait_with_output().unwrap().status.success());
        assert!(home.json("inspect s.atlas")["splits"][name]["ood"].as_u64() > Some(0), "{name} is lost");
        home.json(&format!("split s.atlas --remove {name}"));
    }
}

#[test]
fn latents_are_in_obsm() {
    let home = Home::with_model(HOLD_OUT);
    home.json("embed m s.atlas --out x.h5ad");
    let file = home.json("inspect x.h5ad");
    let members = file["members"].as_array().unwrap();
    let latent = members.iter().find(|member| member["name"] == "obsm/X_cpa").unwrap();
    assert_eq!(latent["shape"], serde_json::json!([600, 8]));
    assert!(members.iter().any(|member| member["name"] == "obsm/X_cpa_after"), "{members:?}");
    assert_eq!(file["cells"], 600);
}
