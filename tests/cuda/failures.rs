//! Messages about a failing GPU: where, what, and how to fix it; never an internal error, a stack trace, or nothing at all.

use crate::{
    gpu::Gpu,
    support::{Ran, says},
};

/// A network that is not small, since libtorch asks for memory in pieces of 20 MB.
const TRAIN: &str = "train s.atlas --out m --device cuda:0 --preset cpa --epochs 6 --seed 1 --set train.n_epochs_pretrain_ae=1 \
    --set train.n_epochs_adv_warmup=2";

/// A run that failed as a user can understand.
#[track_caller]
fn failed(gpu: &Gpu, code: i32, line: &str) -> String {
    let (Ran { code: found, stdout, stderr }, _) = gpu.run(line);
    assert_eq!(found, code, "{line}\n{stderr}");
    for word in ["panicked", "internal error", "stack", "terminate", "frame #"] {
        assert!(!stderr.contains(word), "{line}: `{word}` is in\n{stderr}");
    }
    assert!(stderr.contains("hint: "), "{line}\n{stderr}");
    assert_eq!(stdout, "", "{line}: results of a command that failed");
    stderr
}

#[test]
fn kernels_that_are_compiled_at_run_time_find_their_compiler() {
    let Some(gpu) = Gpu::with_atlas() else { return };
    let (_, observed) = gpu.json(&format!("{TRAIN} --batch-size 64"));
    assert!(observed.note("compiled at run time") > 0, "no kernel was compiled at run time: nothing was tested");
}

#[test]
fn the_batch_size_is_found_by_the_memory_that_is_free() {
    let Some(mut gpu) = Gpu::with_simulated("--cells 400 --genes 3000 --conditions 4 --combos 1 --density 0.02") else {
        return;
    };
    let line = "train s.atlas --out m --device cuda:0 --preset cpa --epochs 1 --batch-size auto";
    let mut sizes = Vec::new();
    for bytes in [80_u64 << 30, 500 << 20] {
        gpu.set(&[("MEMORY", &bytes.to_string())]);
        let (ran, observed) = gpu.run(line);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        observed.is_clean(line);
        let (_, message) =
            ran.stderr.split_once("batches of ").unwrap_or_else(|| panic!("no size is in {}", ran.stderr));
        sizes.push(message.split(' ').next().unwrap().parse::<u32>().unwrap());
        std::fs::remove_dir_all(gpu.home().path("m")).unwrap();
    }
    assert!(sizes[0] == 8192 && (2..8192).contains(&sizes[1]), "{sizes:?}");
}

#[test]
fn a_step_that_can_not_be_captured_ends_the_run_and_plain_steps_are_named() {
    let Some(mut gpu) = Gpu::with_atlas() else { return };
    for capture in ["1", "2"] {
        gpu.set(&[("FAIL_CAPTURE", capture)]);
        let message = failed(&gpu, 74, &format!("{TRAIN} --batch-size 64"));
        says(&message, &["captured as a CUDA graph", "--set train.engine=plain"]);
        std::fs::remove_dir_all(gpu.home().path("m")).ok();
    }
    gpu.json(&format!("{TRAIN} --batch-size 64 --set train.engine=plain"));
}

#[test]
fn a_batch_that_does_not_fit_is_the_users_and_a_size_is_named_that_does() {
    let Some(mut gpu) = Gpu::with_simulated("--cells 3000 --genes 3000 --conditions 4 --combos 1 --density 0.02")
    else {
        return;
    };
    for megabytes in [100_u64, 150] {
        gpu.set(&[("MEMORY", &(megabytes << 20).to_string())]);
        let message = failed(&gpu, 65, &format!("{TRAIN} --batch-size 2048"));
        says(&message, &["out of memory on the GPU", "batches of 2048 cells do not fit", "Tried to allocate"]);
        assert!(!gpu.home().path("m").exists(), "a run without a checkpoint leaves nothing");
        if let Some((_, hint)) = message.split_once("use --batch-size ") {
            let size: u32 = hint.split(',').next().unwrap().parse().unwrap();
            assert!(size < 2048, "{message}");
        }
    }
    // If even the network does not fit, no batch size would.
    gpu.set(&[("MEMORY", "8000000")]);
    says(&failed(&gpu, 65, &format!("{TRAIN} --batch-size 2048")), &["more memory", "--device cpu"]);
}

#[test]
fn a_device_that_can_not_be_used_is_named() {
    let Some(mut gpu) = Gpu::with_atlas() else { return };
    gpu.set(&[("LOSE_AFTER", "0"), ("LOSE_WITH", "46")]);
    for size in ["64", "auto"] {
        let message = failed(&gpu, 74, &format!("{TRAIN} --batch-size {size}"));
        says(&message, &["the GPU failed", "busy or unavailable", "nvidia-smi"]);
    }
}

#[test]
fn a_device_that_is_lost_ends_every_command_whenever_that_is() {
    let Some(mut gpu) = Gpu::with_atlas() else { return };
    let train = format!("{TRAIN} --batch-size 64");
    let (_, observed) = gpu.json(&train);
    let of_training = observed.counter("launches") + observed.counter("graph_launches");
    let predict = "predict m s.atlas --to observed --device cuda:0 --out p";
    let (_, observed) = gpu.json(predict);
    let of_predicting = observed.counter("launches");
    std::fs::remove_dir_all(gpu.home().path("p")).unwrap();
    for (line, launches) in [(train.replace("--out m", "--out n"), of_training), (predict.to_owned(), of_predicting)] {
        for at in
            [1, launches / 50, launches / 10, launches / 5, launches / 3, launches / 2, launches * 3 / 4, launches - 1]
        {
            gpu.set(&[("LOSE_AFTER", &at.to_string())]);
            says(&failed(&gpu, 74, &line), &["the GPU failed", "CUDA error"]);
            std::fs::remove_dir_all(gpu.home().path("n")).ok();
        }
    }
}
