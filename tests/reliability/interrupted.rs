//! Runs that are killed at any moment, stopped while their disk is slow, or meet another one: what is done stays done, and who
//! may write is said.

use std::{
    fmt::Write as _,
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::{
    Home, TINY,
    faults::{in_the_making, same, tree},
    long_tests, says,
};

/// The longest that a run may take to end once it was asked to.
const SOON: Duration = Duration::from_secs(5);

fn signal(run: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &run.id().to_string()]).status().unwrap().success());
}

/// A command whose every write takes this many milliseconds more.
fn slow(home: &Home, line: &str, milliseconds: u32) -> Child {
    let mut command = home.command(line);
    command.env("PERTURBINE_FAULT", format!("slow@{milliseconds}"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[track_caller]
fn waits_for(run: &mut Child, what: &str, there: impl Fn() -> bool) {
    let started = Instant::now();
    while !there() {
        assert!(run.try_wait().unwrap().is_none(), "the run ended before there was {what}");
        assert!(started.elapsed() < Duration::from_secs(60), "there is no {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Stops a run, and gives back what it said.
#[track_caller]
fn stopped(run: Child, how: &str, about: &str) -> String {
    let requested_at = Instant::now();
    signal(&run, how);
    let output = run.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{about}: {message}");
    assert!(requested_at.elapsed() < SOON, "{about} took {:?} to stop", requested_at.elapsed());
    says(&message, &["stopped on request", "hint: "]);
    message
}

fn hidden(home: &Home, start: &str) -> bool {
    home.listing().iter().any(|(path, _)| path.to_string_lossy().starts_with(start))
}

#[test]
fn runs_that_are_killed_at_random_moments_are_mended_by_the_next_try() {
    let home = Home::new();
    home.json("simulate --cells 3000 --genes 60 --conditions 6 --combos 2 --out s.h5ad");
    home.json("ingest s.h5ad --out s.atlas");
    let train = format!("train s.atlas --epochs 3 {TINY}");
    home.json(&format!("{train} --out t"));
    let jobs = [
        ("ingest s.h5ad --out a.atlas".to_owned(), "a.atlas", ""),
        (format!("{train} --out m"), "m", " --resume"),
        ("predict t s.atlas --to observed --output cells --file-size 256KiB --out p".to_owned(), "p", ""),
    ];
    let mut random = ChaCha8Rng::seed_from_u64(8);
    for (line, out, resume) in jobs {
        let started = Instant::now();
        home.json(&line);
        let whole = started.elapsed();
        let expected = tree(&home.path(out));
        for kill in 0..if long_tests() { 50 } else { 4 } {
            fs::remove_dir_all(home.path(out)).unwrap();
            let mut run = home.command(&line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(whole.mul_f64(random.random_range(0.0..1.0)));
            run.kill().unwrap();
            run.wait().unwrap();
            let about = format!("{line}, kill {kill}");
            let there = home.path(out).exists();
            if there && resume.is_empty() {
                same(&tree(&home.path(out)), &expected, &about);
            } else {
                home.json(&format!("{line}{}", if there { resume } else { "" }));
            }
            same(&tree(&home.path(out)), &expected, &format!("{about}, again"));
            assert_eq!(in_the_making(&home), Vec::<std::path::PathBuf>::new(), "{about}");
        }
    }
}

#[test]
fn a_slow_disk_holds_up_neither_the_end_nor_the_memory() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    let cells = "predict m s.atlas --to observed --output cells --file-size 32KiB";
    let whole = home.json(&format!("{cells} --out whole"));
    for (how, shard) in [("-TERM", ""), ("-INT", " --shard 0/1")] {
        let line = format!("{cells} --out p{shard}");
        let mut run = slow(&home, &line, 100);
        waits_for(&mut run, "a file in the making", || hidden(&home, ".p."));
        std::thread::sleep(Duration::from_millis(300));
        stopped(run, how, &line);
        assert!(!home.path("p").exists(), "{line}: nothing is visible");
    }
    home.json(&format!("{cells} --out p --shard 0/1"));
    home.json("predict --commit p");
    same(&tree(&home.path("p")), &tree(&home.path("whole")), "after two stops");

    // To its end, and no more of it waits than on a quick disk.
    let output = slow(&home, &format!("--json {cells} --out slow"), 20).wait_with_output().unwrap();
    assert!(output.status.success());
    same(&tree(&home.path("slow")), &tree(&home.path("whole")), "a slow disk");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let bytes = |result: &serde_json::Value| result["peak_memory_bytes"].as_u64().unwrap();
    assert!(bytes(&result) < bytes(&whole) + (64 << 20), "{} and {}", bytes(&result), bytes(&whole));
}

#[test]
fn a_commit_of_portable_shards_on_a_slow_disk_stops_soon() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    let cells = "predict m s.atlas --to observed --output cells --file-size 32KiB";
    home.json(&format!("{cells} --out whole"));
    home.json(&format!("{cells} --shard 0/1 --shard-out shard"));
    let line = "predict --commit p --from shard";
    let mut run = slow(&home, line, 300);
    waits_for(&mut run, "a folder in the making", || hidden(&home, ".p.tmp-"));
    stopped(run, "-TERM", line);
    assert!(in_the_making(&home).is_empty() && !home.path("p").exists());
    home.json(line);
    same(&tree(&home.path("p")), &tree(&home.path("whole")), "after a stop");
}

#[test]
fn an_ingest_on_a_slow_disk_and_a_training_stop_soon() {
    let home = Home::with_atlas();
    let mut run = slow(&home, "ingest s.h5ad --out a.atlas", 300);
    waits_for(&mut run, "an atlas in the making", || hidden(&home, ".a.atlas.tmp-"));
    stopped(run, "-INT", "ingest");
    assert!(in_the_making(&home).is_empty());
    let line = format!("train s.atlas --out m --epochs 500 --set train.early_stopping_patience=0 {TINY}");
    let mut run = slow(&home, &line, 20);
    waits_for(&mut run, "a checkpoint", || home.path("m/checkpoint/000001-000000000").exists());
    let message = stopped(run, "-TERM", "train");
    assert!(message.contains("--resume"), "{message}");
    assert_eq!(home.run("verify m").code, 0, "the state that it goes on from is whole");
}

#[test]
fn a_run_that_is_stopped_while_the_program_is_being_loaded_ends_like_any_other() {
    if fs::read("/proc/self/environ").is_err() {
        return;
    }
    let home = Home::with_atlas();
    // The program restarts itself so that idle threads sleep soon.
    let mut command = home.command(&format!("train s.atlas --out m --epochs 500 {TINY}"));
    command.env_remove("GOMP_SPINCOUNT").env_remove("OMP_WAIT_POLICY");
    let mut run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let environment = format!("/proc/{}/environ", run.id());
    waits_for(&mut run, "a restarted program", || {
        fs::read(&environment).unwrap_or_default().windows(14).any(|name| name == b"GOMP_SPINCOUNT")
    });
    stopped(run, "-TERM", "the start");
}

#[test]
fn a_matrix_that_is_being_put_in_the_order_of_cells_is_stopped_too() {
    let home = Home::new();
    let mut text = String::from("%%MatrixMarket matrix coordinate integer general\n2000 400 400000\n");
    for entry in 0..400_000_u32 {
        writeln!(text, "{} {} 1", 1 + entry % 2000, 1 + entry / 2000 * 2 % 400).unwrap();
    }
    fs::write(home.path("m.mtx"), text).unwrap();
    let scratch = home.path("scratch");
    fs::create_dir(&scratch).unwrap();
    let mut command = home.command("ingest m.mtx --out a.atlas --no-perturbation");
    command.env("PERTURBINE_FAULT", "slow@400").env("TMPDIR", &scratch);
    let mut run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let log = || fs::read_dir(format!("/proc/{}/fd", run.id()));
    let open = log().is_ok();
    let run_id = run.id();
    waits_for(&mut run, "a scratch file", || {
        let files = fs::read_dir(format!("/proc/{run_id}/fd")).into_iter().flatten().flatten();
        !open || files.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| file.starts_with(&scratch))
    });
    stopped(run, "-INT", "the transposition");
    assert!(!home.path("a.atlas").exists());
    assert_eq!(fs::read_dir(scratch).unwrap().count(), 0, "scratch files go");
}

#[test]
fn of_two_writers_the_second_is_told_of_the_first() {
    let home = Home::with_atlas();
    let mut first = slow(&home, "ingest s.h5ad --out a.atlas", 200);
    waits_for(&mut first, "an atlas in the making", || hidden(&home, ".a.atlas.tmp-"));
    let second = home.run("ingest s.h5ad --out a.atlas");
    assert_eq!(second.code, 75, "{}", second.stderr);
    says(&second.stderr, &["another process is writing a.atlas", "try again later"]);
    assert!(first.try_wait().unwrap().is_none(), "the first goes on");
    first.kill().unwrap();
    first.wait().unwrap();
    home.json("ingest s.h5ad --out a.atlas");
    same(&tree(&home.path("a.atlas")), &tree(&home.path("s.atlas")), "after the first was killed");

    let line = format!("train s.atlas --out m --epochs 500 --set train.early_stopping_patience=0 {TINY}");
    let mut first = slow(&home, &line, 20);
    waits_for(&mut first, "a checkpoint", || home.path("m/checkpoint/000001-000000000").exists());
    for second in [&line, &format!("{line} --resume")] {
        let second = home.run(second);
        assert_eq!(second.code, 75, "{}", second.stderr);
        says(&second.stderr, &["another process is writing m", "try again later"]);
    }
    stopped(first, "-TERM", "the first training");
    says(&home.refused(2, &line), &["m already exists"]);
}

#[test]
fn a_second_process_with_the_same_output_is_asked_to_try_again() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    let crossval = format!(
        "crossval s.atlas --scheme random:0.5 --out c --epochs 500 --set train.early_stopping_patience=0 {TINY}"
    );
    let in_training = || {
        let folds = fs::read_dir(home.path("c")).into_iter().flatten().flatten();
        folds.into_iter().any(|fold| fold.path().join("seed-1/checkpoint").exists())
    };
    let lines: [(&str, u32, &str, &dyn Fn() -> bool); 5] = [
        (&crossval, 100, "c/fold-", &in_training),
        ("predict m s.atlas --out p --to all", 3000, "p", &|| hidden(&home, ".p.tmp-")),
        ("predict m s.atlas --out p.parquet --to all", 3000, "p.parquet", &|| hidden(&home, ".p.parquet.tmp-")),
        ("embed m s.atlas --out e.parquet", 3000, "e.parquet", &|| hidden(&home, ".e.parquet.tmp-")),
        // libhdf5 writes it, which is not slowed down.
        ("simulate --cells 100000 --genes 1000 --out x.h5ad", 1, "x.h5ad", &|| hidden(&home, ".x.h5ad.tmp-")),
    ];
    for (line, milliseconds, output, begun) in lines {
        let mut first = slow(&home, line, milliseconds);
        waits_for(&mut first, output, begun);
        let second = home.run(line);
        assert_eq!(second.code, 75, "{line}: {}", second.stderr);
        says(&second.stderr, &[&format!("another process is writing {output}"), "try again later"]);
        first.kill().unwrap();
        first.wait().unwrap();
    }
}

#[test]
fn many_readers_see_the_atlas_they_opened_while_it_is_made_anew() {
    let home = Home::new();
    home.json("simulate --cells 2000 --genes 60 --conditions 6 --combos 2 --out s.h5ad");
    home.json("ingest s.h5ad --out s.atlas");
    let atlases: Vec<_> = (0..8).map(|_| stages::reader::atlas::Atlas::open(home.path("s.atlas")).unwrap()).collect();
    fs::rename(home.path("s.atlas"), home.path("old.atlas")).unwrap();
    fs::remove_dir_all(home.path("old.atlas")).unwrap();
    home.json("ingest s.h5ad --out s.atlas --shuffle-seed 7");
    std::thread::scope(|scope| {
        for atlas in &atlases {
            scope.spawn(move || {
                for block in 0..u32::try_from(atlas.manifest().blocks()).unwrap() {
                    atlas.block(schemas::ids::BlockIndex(block)).unwrap();
                }
                let rows: usize = atlas.obs(&["cell"]).unwrap().map(|batch| batch.unwrap().num_rows()).sum();
                assert_eq!(rows, 2000);
                atlas.check_maps().unwrap();
            });
        }
    });
}
