//! Latents in shards: the same bytes as those of a single run, in one folder or in folders of their own.

use std::fs;

use serde_json::{Value, json};

use crate::support::{
    Home,
    faults::{same, tree},
    says,
};

/// Latents in three files: a batch of 256 cells is the smallest part.
const EMBED: &str = "embed m s.atlas --file-size 1KiB";

fn home() -> Home {
    Home::with_model("condition=G00034,dose=0.5")
}

#[test]
fn shards_make_the_single_runs_tree() {
    let home = home();
    let single = home.json(&format!("--threads 1 {EMBED} --out e"));
    assert_eq!((&single["files"], &single["rows"]), (&json!(3), &json!(600)));
    let whole = tree(&home.path("e"));
    home.json(&format!("--threads 4 {EMBED} --out threads"));
    same(&tree(&home.path("threads")), &whole, "four threads");
    for of in [1, 2, 5] {
        let (out, mut folders) = (format!("e-{of}"), Vec::new());
        for shard in (0..of).rev().chain([0]) {
            home.json(&format!("{EMBED} --out {out} --shard {shard}/{of}"));
            assert!(!home.path(&out).exists(), "nothing is visible before it is committed");
        }
        assert_eq!(home.json(&format!("embed --commit {out}"))["rows"], 600);
        same(&tree(&home.path(&out)), &whole, &out);
        for shard in 0..of {
            home.json(&format!("{EMBED} --shard {shard}/{of} --shard-out here"));
            fs::rename(home.path("here"), home.path(&format!("{of}-moved-{shard}"))).unwrap();
            folders.insert(0, format!("{of}-moved-{shard}"));
        }
        home.json(&format!("embed --commit {out}-portable --from {}", folders.join(" ")));
        same(&tree(&home.path(&format!("{out}-portable"))), &whole, "portable shards");
    }
    let left: Vec<_> = home.listing().into_iter().filter(|(name, _)| name.to_string_lossy().starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(home.json("verify e-5-portable")["damaged"], json!([]));
}

#[test]
fn two_tries_at_once_of_every_shard_make_one_whole_result_without_locks() {
    let home = home();
    home.json(&format!("{EMBED} --out e"));
    for (index, place) in [(0, "--out twice"), (1, "--out twice"), (0, "--shard-out part-0"), (1, "--shard-out part-1")]
    {
        let shard = format!("{EMBED} {place} --shard {index}/2");
        let mut tries = [1, 5].map(|milliseconds| {
            let mut command = home.command(&shard);
            command.env("PERTURBINE_FAULT", format!("unlocked@{milliseconds}")).spawn().unwrap()
        });
        assert!(tries.iter_mut().all(|one| one.wait().unwrap().success()), "{shard}");
    }
    home.json("embed --commit twice");
    same(&tree(&home.path("twice")), &tree(&home.path("e")), "two tries at once");
    home.json("embed --commit moved --from part-0 part-1");
    same(&tree(&home.path("moved")), &tree(&home.path("e")), "two tries at once of portable shards");
    let left: Vec<_> = home.listing().into_iter().filter(|(name, _)| name.to_string_lossy().starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_shard_that_is_complete_is_not_written_again() {
    let home = home();
    let line = format!("{EMBED} --out e --shard 0/2");
    let first = home.json(&line);
    let record = || {
        let plan = fs::read_dir(home.path(".e.shards")).unwrap().next().unwrap().unwrap().path();
        (fs::metadata(plan.join("shards/0-of-2.json")).unwrap().modified().unwrap(), plan)
    };
    let (written, plan) = record();
    assert!(home.run(&line).stdout.contains("earlier: it is complete"));
    assert_eq!(record().0, written);
    // One that was damaged is.
    let whole = fs::read(plan.join("data/part-00000.parquet")).unwrap();
    fs::write(plan.join("data/part-00000.parquet"), "half").unwrap();
    assert_eq!(home.json(&line), first);
    assert_eq!(fs::read(plan.join("data/part-00000.parquet")).unwrap(), whole);
    home.json(&format!("{EMBED} --out e --shard 1/2"));
    home.json("embed --commit e");
    // A late try of an engine, after the result was published.
    assert_eq!(home.json(&line), first);
    assert!(!home.path(".e.shards").exists());
}

#[test]
fn plans_are_shown_and_what_is_wrong_is_named() {
    let home = home();
    let plan = home.json(&format!("{EMBED} --plan-only"));
    assert_eq!((&plan["units"], home.json(&format!("{EMBED} --dry-run"))["units"].clone()), (&json!(3), json!(3)));
    home.json(&format!("{EMBED} --shard 0/2 --shard-out 0"));
    let record: Value = serde_json::from_slice(&fs::read(home.path("0/_shard.json")).unwrap()).unwrap();
    assert_eq!((&record["plan"], &record["made_from"]), (&plan["plan"], &plan["made_from"]));
    home.json("ingest s.h5ad --out other.atlas --min-cells 1 --shuffle-seed 7");
    home.json(&format!("{} --shard 1/2 --shard-out 1", EMBED.replace("s.atlas", "other.atlas")));
    says(&home.refused(65, "embed --commit e --from 0 1"), &["1: it is shard 1/2 of another plan: the atlas is "]);
    says(&home.refused(65, "embed --commit e --from 0"), &["1 of its 2 shards missing: 1/2", "run the same embed"]);
    says(
        &home.refused(65, "predict --commit e --from 0"),
        &["these are shards of `embed`, not of `predict`", "perturbine embed --commit e --from"],
    );
    home.json(&format!("{EMBED} --out e --shard 0/2"));
    says(&home.refused(65, "predict --commit e"), &["of `embed`, not of `predict`", "perturbine embed --commit e"]);
    // Another atlas is refused before it is computed with.
    let other = format!("{} --out e --shard 1/2", EMBED.replace("s.atlas", "other.atlas"));
    says(&home.refused(65, &other), &["shard 1/2 is not of the plan of shard 0/2: the atlas is ", ".e.shards"]);
    for (line, parts) in [
        ("embed m s.atlas", &["--out is missing"][..]),
        ("embed m s.atlas --out f.parquet --shard 0/2", &["f.parquet is one file"]),
        ("embed m s.atlas --out f.h5ad --shard 0/2", &["is one file, but shards write a folder"]),
        ("embed m s.atlas --out - --shard 0/2", &["is one stream"]),
        ("embed m s.atlas --out f --force --shard 0/2", &["--shard"]),
        ("embed m --of covariates --out f --shard 0/2", &["a model's table is one unit"]),
        ("embed m s.atlas --out f --from 0", &["--commit"]),
        ("embed --commit e m", &["--commit takes no model or atlas"]),
    ] {
        says(&home.refused(2, line), parts);
    }
}
