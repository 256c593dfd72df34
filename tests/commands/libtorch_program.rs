//! The program that users start is not linked to libtorch, and becomes the one that is.

use std::process::Command;

use crate::support::{Home, says};

/// The program alone in a folder, without the ones that lie beside it.
fn alone(home: &Home) -> Command {
    let program = home.path("perturbine");
    // Not by this process: a program that another test starts would have the file open, too, until it begins, and nothing runs a file
    // that is open for writing.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_perturbine")).arg(&program).status().unwrap();
    assert!(copied.success());
    let mut command = Command::new(program);
    command.current_dir(home.path("."));
    command
}

#[test]
fn the_program_that_users_start_needs_no_libtorch() {
    for (program, needs_it) in
        [(env!("CARGO_BIN_EXE_perturbine"), false), (env!("CARGO_BIN_EXE_perturbine-torch"), true)]
    {
        // The loader lists the libraries instead of starting the program.
        let listed = Command::new(program).env("LD_TRACE_LOADED_OBJECTS", "1").output().unwrap();
        let libraries = String::from_utf8(listed.stdout).unwrap();
        assert_eq!(libraries.contains("libtorch"), needs_it, "{program}: {libraries}");
        assert!(libraries.contains("libc.so"), "{program}: {libraries}");
    }
}

#[test]
fn commands_about_data_work_without_the_other_program_and_those_about_models_name_it() {
    let home = Home::with_model("cell_type=type_1");
    for arguments in
        [&["inspect", "s.atlas"][..], &["inspect", "m"], &["verify", "s.atlas"], &["train", "--help"], &["presets"]]
    {
        let ran = alone(&home).args(arguments).output().unwrap();
        assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }
    for arguments in
        [&["evaluate", "m", "s.atlas"][..], &["verify", "s.atlas", "m"], &["report", "m", "--out", "r.html"]]
    {
        let ran = alone(&home).args(arguments).output().unwrap();
        assert_eq!(ran.status.code(), Some(2), "{arguments:?}");
        says(&String::from_utf8_lossy(&ran.stderr), &["perturbine-torch is not there", "hint: "]);
    }
}

#[test]
fn a_folder_without_libtorch_is_refused_by_name() {
    let home = Home::with_model("cell_type=type_1");
    let ran = home.command("verify m").env("PERTURBINE_LIBTORCH", home.path("s.atlas")).output().unwrap();
    assert_eq!(ran.status.code(), Some(2));
    says(
        &String::from_utf8_lossy(&ran.stderr),
        &["PERTURBINE_LIBTORCH is ", "s.atlas", "no libtorch_cpu.so", "hint: "],
    );
    // One that has it is searched first.
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".libtorch/link/lib");
    let ran = home.command("verify m").env("PERTURBINE_LIBTORCH", folder).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
