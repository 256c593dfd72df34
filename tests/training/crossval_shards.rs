//! Cross-validations in shards: one process's tables and models, whichever process trains a fold.

use std::fs;

use serde_json::{Value, json};

use crate::support::{
    Home, TINY,
    faults::{same, tree},
    says,
};

/// Three folds with two seeds each.
fn line() -> String {
    format!("crossval s.atlas --scheme random:0.34 --seeds 2 --epochs 2 {TINY}")
}

#[test]
fn six_units_on_two_processes_of_which_one_is_killed_while_it_trains_equal_one_process() {
    let home = Home::with_atlas();
    let line = line();
    let single = home.json(&format!("{line} --out cv"));
    let whole = tree(&home.path("cv"));

    // Both at once; the second is killed in the middle of its disk calls, while it trains.
    let shard = |out: &str, index: usize| format!("{line} --out {out} --shard {index}/2");
    let calls = home.disk_calls(&shard("counted", 1));
    let middle = calls.iter().rposition(|call| call.contains("fold-2/seed-2/checkpoint/000001")).unwrap();
    let mut first = home.command(&shard("two", 0)).spawn().unwrap();
    let killed = home.run_with_fault(&shard("two", 1), &format!("kill@{middle}"));
    assert_eq!(killed.code, -1, "{}", killed.stderr);
    assert!(first.wait().unwrap().success());
    assert!(!home.path("two").exists(), "nothing is visible before it is committed");
    says(&home.refused(65, "crossval --commit two"), &["1 of its 2 shards missing: 1/2", "run the same crossval"]);
    let again = home.run(&shard("two", 1));
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(again.stderr.matches("already done").count(), 1, "{}", again.stderr);
    assert_eq!(home.json("crossval --commit two"), single);
    same(&tree(&home.path("two")), &whole, "two processes");
    let late = home.run(&shard("two", 1));
    assert!(late.code == 0 && late.stdout.contains("earlier: it is complete"), "{}", late.stderr);

    // Shards beyond the units are empty, one that is complete is not trained again, and folders may be moved.
    let mut folders = Vec::new();
    for index in 0..7 {
        let ran = home.run(&format!("{line} --shard {index}/7 --shard-out here"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(ran.stderr.contains("shard 6/7 is empty: there are 6 units"), index == 6, "{}", ran.stderr);
        let again = home.run(&format!("{line} --shard {index}/7 --shard-out here"));
        assert!(again.stdout.contains("earlier: it is complete") && !again.stderr.contains("training on"));
        fs::rename(home.path("here"), home.path(&format!("moved {index}").replace(' ', "-"))).unwrap();
        folders.push(format!("moved-{index}"));
    }
    assert_eq!(home.json(&format!("crossval --commit seven --from {}", folders.join(" "))), single);
    same(&tree(&home.path("seven")), &whole, "portable shards");
    assert_eq!(hidden(&home), [""; 0]);
}

/// Hidden names, of which complete runs leave none; the shard whose disk calls were counted is not published.
fn hidden(home: &Home) -> Vec<String> {
    let names = home.listing().into_iter().map(|(name, _)| name.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with('.') && !name.starts_with(".counted")).collect()
}

#[test]
fn two_tries_at_once_of_every_shard_make_one_whole_result_without_locks() {
    let home = Home::with_atlas();
    let line = line();
    let single = home.json(&format!("{line} --out cv"));
    for index in 0..2 {
        let shard = format!("{line} --out twice --shard {index}/2");
        let mut tries = [1, 2].map(|milliseconds| {
            let mut command = home.command(&shard);
            command.env("PERTURBINE_FAULT", format!("unlocked@{milliseconds}")).spawn().unwrap()
        });
        assert!(tries.iter_mut().all(|one| one.wait().unwrap().success()), "{shard}");
    }
    assert_eq!(home.json("crossval --commit twice"), single);
    same(&tree(&home.path("twice")), &tree(&home.path("cv")), "two tries at once");
    assert_eq!(home.json("verify twice")["damaged"], json!([]));
    assert!(!home.path(".twice.shards").exists());

    // Portable shards alike: the first try that is complete counts, and the other one leaves nothing.
    for index in 0..2 {
        let shard = format!("{line} --shard {index}/2 --shard-out part-{index}");
        let mut tries = [1, 2].map(|milliseconds| {
            let mut command = home.command(&shard);
            command.env("PERTURBINE_FAULT", format!("unlocked@{milliseconds}")).spawn().unwrap()
        });
        assert!(tries.iter_mut().all(|one| one.wait().unwrap().success()), "{shard}");
    }
    assert_eq!(hidden(&home), [""; 0]);
    assert_eq!(home.json("crossval --commit moved --from part-0 part-1"), single);
    same(&tree(&home.path("moved")), &tree(&home.path("cv")), "two tries at once of portable shards");
}

#[test]
fn a_portable_shard_that_was_killed_goes_on_where_it_was() {
    let home = Home::with_atlas();
    let line = format!("{} --shard 0/6 --shard-out part", line());
    let calls = home.disk_calls(&line.replace("part", "counted"));
    let middle = calls.iter().rposition(|call| call.contains("checkpoint/000001")).unwrap();
    assert_eq!(home.run_with_fault(&line, &format!("kill@{middle}")).code, -1);
    assert!(!home.path("part").exists() && home.path(".part.unfinished").exists());
    let ran = home.run(&format!("--json {line}"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let mut parts = [tree(&home.path("part")), tree(&home.path("counted"))];
    // Its record has checksums of times.
    parts.iter_mut().for_each(|part| _ = part.remove(std::path::Path::new("_shard.json")));
    same(&parts[0], &parts[1], "after it was killed");
    assert!(!home.path(".part.unfinished").exists());
}

#[test]
fn plans_are_shown_and_what_is_wrong_is_named() {
    let home = Home::with_atlas();
    let line = line();
    let plan = home.json(&format!("{line} --plan-only"));
    let shown = home.json(&format!("{line} --dry-run"));
    assert_eq!((&plan["units"], &shown["units"], &shown["folds"]), (&json!(6), &json!(6), &json!(["1", "2", "3"])));
    home.json(&format!("{line} --shard 5/6 --shard-out 5"));
    let record: Value = serde_json::from_slice(&fs::read(home.path("5/_shard.json")).unwrap()).unwrap();
    assert_eq!((&record["plan"], &record["made_from"]), (&plan["plan"], &plan["made_from"]));
    says(&home.refused(65, "crossval --commit cv --from 5"), &["5 of its 6 shards missing: 0/6, 1/6", "--shard 0/6"]);
    for (changed, parts) in [
        (line.replace("--epochs 2", "--epochs 1"), "the checksum of the settings is "),
        (line.replace("--seeds 2", "--seeds 3"), "the range of seeds is 1 to 2, not 1 to 3"),
        (
            format!("{line} --split-seed 9"),
            "the scheme is random:0.34 with the split seed 0, not random:0.34 with the split seed 9",
        ),
        (format!("{line} --readout raw"), "the form of the scores is "),
    ] {
        let message = home.refused(65, &format!("{changed} --shard 5/6 --shard-out 5"));
        says(&message, &["5: it is shard 5/6 of another plan", parts]);
    }
    // Another number of threads changes nothing, unless it is libtorch that divides a step among them.
    let on_two_threads = |line: &str| home.command(&format!("--threads 2 {line}")).env("OMP_NUM_THREADS", "2").output();
    assert!(on_two_threads(&format!("{line} --shard 5/6 --shard-out 5")).unwrap().status.success());
    let plain = format!("{line} --set train.engine=plain --shard 5/6 --shard-out plain");
    home.json(&plain);
    let ran = on_two_threads(&plain).unwrap();
    assert_eq!(ran.status.code(), Some(65));
    says(&String::from_utf8(ran.stderr).unwrap(), &["the number of libtorch's threads is 1, not 2"]);
    home.json(&format!("{line} --out cv --shard 5/6"));
    let message = home.refused(65, &format!("{line} --readout raw --out cv --shard 4/6"));
    says(&message, &["shard 4/6 is not of the plan of shard 5/6: the form of the scores", "remove .cv.shards"]);
    says(&home.refused(2, &format!("{line} --out cv")), &["shards of cv are in .cv.shards", "--commit"]);
    says(&home.refused(65, "embed --commit cv"), &["of `crossval`, not of `embed`", "perturbine crossval --commit cv"]);
    for (line, parts) in [
        (format!("{line} --shard 0/2"), "--out is missing"),
        (format!("{line} --out cv --shard 2/2"), "shard 2/2 does not exist"),
        (format!("{line} --out cv --shard 0/2").replace("--batch-size 64", "--batch-size auto"), "--batch-size auto"),
        (format!("{line} 5 --out cv"), "unexpected argument '5'"),
        ("crossval --commit cv s.atlas".to_owned(), "--commit takes no model or atlas"),
    ] {
        says(&home.refused(2, &line), &[parts]);
    }
}
