//! Output that can't be written completely is refused or stopped with the documented exit code, and leaves nothing behind.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{Home, TINY, says, skipped};

#[test]
fn an_output_that_is_there_already() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    fs::write(home.path("p.parquet"), "mine").unwrap();
    fs::create_dir(home.path("p")).unwrap();
    for line in [
        "ingest s.h5ad --out s.atlas",
        "train s.atlas --out m",
        "predict m s.atlas --out p",
        "predict m s.atlas --out p.parquet",
    ] {
        says(&home.refused(2, line), &["already exists", "hint"]);
    }
}

#[test]
fn a_file_where_a_model_should_go() {
    let home = Home::with_atlas();
    let _ = home.refused(2, "train s.atlas --out s.h5ad");
}

#[test]
fn a_folder_that_can_not_be_written_to() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    fs::write(home.path("file"), "no folder").unwrap();
    let refused = |parent: &str| {
        for line in [
            "simulate --cells 100 --genes 20 --conditions 2 --out PARENT/n.h5ad",
            "ingest s.h5ad --out PARENT/n.atlas",
            "train s.atlas --out PARENT/n",
            "predict m s.atlas --out PARENT/n",
            "predict m s.atlas --out PARENT/n.parquet",
            "report m --out PARENT/n.html",
        ] {
            says(&home.refused(73, &line.replace("PARENT", parent)), &[parent]);
        }
    };
    refused("file");
    let closed = home.path("closed");
    fs::create_dir(&closed).unwrap();
    let mut permissions = fs::metadata(&closed).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&closed, permissions).unwrap();
    if fs::write(closed.join("probe"), "").is_ok() {
        fs::remove_file(closed.join("probe")).unwrap();
        return skipped("this user may write into a read-only folder");
    }
    refused("closed");
}

/// Runs a command in a folder `full` that holds 64 KiB; its exit code, what it said, and what it left in the folder.
fn on_a_full_disk(home: &Home, line: &str) -> (i32, String, String) {
    let program = env!("CARGO_BIN_EXE_perturbine");
    let script = format!("mount -t tmpfs -o size=64k none full && {program} {line}; code=$?; ls -A full; exit $code");
    let mut unshare = Command::new("unshare");
    unshare.args(["--map-root-user", "--mount", "sh", "-c", &script]).current_dir(home.path(""));
    let output = unshare.env("OMP_NUM_THREADS", "1").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stderr), text(output.stdout))
}

/// Runs commands on a full disk; each fails with its own exit code and leaves nothing there.
fn refused_on_a_full_disk(home: &Home, lines: &[&str]) {
    fs::create_dir(home.path("full")).unwrap();
    let mut probe = Command::new("unshare");
    probe.args(["--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs none full"]).current_dir(home.path(""));
    if !probe.output().is_ok_and(|output| output.status.success()) {
        return skipped("this user may not mount a small file system");
    }
    for line in lines {
        let (code, message, left) = on_a_full_disk(home, line);
        assert_eq!(code, 28, "{line}: {message}");
        says(&message, &["full/", "hint: free some space"]);
        assert!(!message.contains("panicked"), "{message}");
        assert_eq!(left, "", "{line} left something behind");
    }
}

#[test]
fn a_disk_that_is_full() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    home.json("simulate --cells 4000 --genes 60 --conditions 6 --density 0.4 --out big.h5ad");
    refused_on_a_full_disk(
        &home,
        &[
            "simulate --cells 600 --genes 60 --conditions 6 --out full/n.h5ad",
            "ingest big.h5ad --out full/n.atlas",
            "ingest big.h5ad --out full/n.atlas --compress",
            "predict m s.atlas --out full/n --to observed --output cells",
            "predict m s.atlas --out full/n.parquet --to observed --output cells",
        ],
    );
}

#[test]
fn a_disk_that_is_full_when_a_model_is_kept() {
    let home = Home::with_atlas();
    let line = format!("train s.atlas --out full/n --epochs 1 {TINY} --set model.n_hidden_encoder=256");
    refused_on_a_full_disk(&home, &[&line]);
}

#[test]
fn a_command_that_is_stopped_leaves_nothing_behind() {
    let home = Home::new();
    home.json("simulate --cells 100000 --genes 300 --conditions 6 --out big.h5ad");
    for (line, hidden) in [
        ("simulate --cells 9000000 --genes 300 --conditions 6 --out more.h5ad", ".more.h5ad.tmp-"),
        ("--threads 1 ingest big.h5ad --out a.atlas", ".a.atlas.tmp-"),
    ] {
        let before = home.listing();
        let mut run = home.command(line).stderr(Stdio::piped()).spawn().unwrap();
        let begun = || home.listing().iter().any(|(path, _)| path.to_string_lossy().starts_with(hidden));
        while !begun() {
            assert!(run.try_wait().unwrap().is_none(), "{line} ended before it could be stopped");
        }
        assert!(Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap().success());
        let requested_at = Instant::now();
        let output = run.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(75), "{line}");
        assert!(requested_at.elapsed() < Duration::from_secs(5), "{line} took {:?} to stop", requested_at.elapsed());
        says(&String::from_utf8(output.stderr).unwrap(), &["stopped on request", "hint: "]);
        assert_eq!(home.listing(), before, "{line}");
    }
}

#[test]
fn a_link_that_leads_nowhere() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    std::os::unix::fs::symlink("nowhere", home.path("link")).unwrap();
    for line in ["ingest s.h5ad --out link", "predict m s.atlas --out link"] {
        says(&home.refused(2, line), &["link is a link to nowhere, which does not exist"]);
    }
}

#[test]
fn what_another_user_left_in_a_shared_folder() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    let home = Home::new();
    home.json("simulate --cells 100 --genes 20 --conditions 2 --out s.h5ad");
    let mode = |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let (shared, leftover) = (home.path("shared"), home.path("shared/.n.atlas.tmp-1-0"));
    fs::create_dir_all(&leftover).unwrap();
    fs::write(leftover.join("matrix.bin"), "half").unwrap();
    let mut command = home.command("ingest s.h5ad --out shared/n.atlas");
    if rustix::process::geteuid().is_root() {
        // Root may remove anything; nobody may not remove what is root's.
        command.uid(65_534).gid(65_534);
        mode(&home.path("."), 0o755);
        mode(&shared, 0o1777);
    } else {
        mode(&leftover, 0o500);
    }
    let ran = command.output().unwrap();
    mode(&leftover, 0o700);
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(home.path("shared/n.atlas/manifest.json").exists() && leftover.exists());
}
