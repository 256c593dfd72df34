//! One binary for machines with and without a GPU: what it says of devices that are not there.

use stages::torch;

use crate::support::{Home, TINY, says};

/// No machine has so many GPUs.
const NOWHERE: &str = "--device cuda:4096";

fn on_gpu(line: &str) -> String {
    line.replace("--device cpu", NOWHERE)
}

#[test]
fn a_gpu_that_is_not_there_is_refused_before_anything_is_written() {
    let home = Home::with_atlas();
    let refused = home.refused(2, &format!("train s.atlas --out m {}", on_gpu(TINY)));
    says(&refused, &["cuda:4096 is not available: ", "hint"]);
    if torch::load_cuda().is_err() {
        says(&refused, &["libcuda.so.1", "--device cpu"]);
    }
    assert!(!home.path("m").exists());
    says(
        &home.refused(2, &format!("train s.atlas --out m {}", TINY.replace("cpu", "gpu"))),
        &["`gpu` is not a device"],
    );
}

#[test]
fn it_is_explained_all_the_same() {
    let home = Home::with_atlas();
    let explain = |flags: &str| home.json(&format!("explain train s.atlas --out m {flags}"));
    let (here, there) = (explain(TINY), explain(&on_gpu(TINY)));
    assert_eq!((&here["device"], &there["device"]), (&"cpu".into(), &"cuda:4096".into()));
    assert!(here.get("device_bytes").is_none(), "{here}");
    let bytes = |flags: &str| explain(&on_gpu(flags))["device_bytes"].as_u64().unwrap();
    assert!(there["peak_memory_bytes"].as_u64() < here["peak_memory_bytes"].as_u64(), "the network is elsewhere");
    let wide = format!("{TINY} --set train.average=ema");
    assert!(bytes(TINY) < bytes(&wide), "an average takes room");
    let large = TINY.replace("--batch-size 64", "--batch-size 512");
    assert!(bytes(TINY) < bytes(&large), "so do batches");
    let text = home.run(&format!("explain train s.atlas --out m {}", on_gpu(TINY)));
    assert!(
        text.stdout.contains("\non cuda:4096, ") && text.stdout.contains("network and steps at most"),
        "{}",
        text.stdout
    );
    let unsized_batch = on_gpu(&TINY.replace("--batch-size 64", "--batch-size auto"));
    says(
        &home.refused(2, &format!("explain train s.atlas --out m {unsized_batch}")),
        &["does not have", "--batch-size"],
    );
}

#[test]
fn the_processor_is_told_where_it_computes() {
    let home = Home::with_atlas();
    let result = home.json(&format!("train s.atlas --out m --epochs 1 {TINY}"));
    assert_eq!(result["device"], "cpu");
    assert!(result.get("peak_device_bytes").is_none(), "{result}");
    // Steps made of kernels for a GPU train here too, and say if they can not be.
    home.json(&format!("train s.atlas --out n --epochs 2 {TINY} --set train.engine=replayed"));
    let refused =
        home.refused(2, &format!("train s.atlas --out o {TINY} --set train.engine=replayed --set train.accumulate=2"));
    says(&refused, &["train.engine = replayed is not possible", "accumulate"]);
}
