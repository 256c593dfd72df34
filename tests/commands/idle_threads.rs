//! Threads that have nothing to do sleep soon, whatever started the program.

use std::{fs, process::Stdio, thread, time::Duration};

use crate::support::{Home, TINY};

#[test]
fn a_training_that_nobody_prepared_has_an_environment_in_which_idle_threads_sleep_soon() {
    let home = Home::with_atlas();
    let line = format!("train s.atlas --out m --epochs 20 {TINY}");
    for (said, expected) in [(None, "GOMP_SPINCOUNT=10000"), (Some("active"), "OMP_WAIT_POLICY=active")] {
        let mut command = home.command(&line.replace("--out m", &format!("--out {}", expected.len())));
        command.env_remove("GOMP_SPINCOUNT").env_remove("OMP_WAIT_POLICY");
        command.envs(said.map(|policy| ("OMP_WAIT_POLICY", policy)));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut variables = Vec::new();
        while child.try_wait().unwrap().is_none() {
            // Nothing is read of a process that has ended in the meantime.
            let environment = fs::read(format!("/proc/{}/environ", child.id())).unwrap_or_default();
            if !environment.is_empty() {
                variables = environment
                    .split(|byte| *byte == 0)
                    .map(|entry| String::from_utf8_lossy(entry).into_owned())
                    .collect();
            }
            thread::sleep(Duration::from_millis(5));
        }
        assert!(child.wait().unwrap().success());
        assert!(variables.iter().any(|entry| entry == expected), "{variables:?}");
        assert_eq!(variables.iter().any(|entry| entry.starts_with("GOMP_SPINCOUNT")), said.is_none(), "{variables:?}");
    }
}
