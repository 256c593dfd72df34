//! The stand-in itself: it refuses and finds what it has to, and numbers that it computes are right.

use std::{
    path::Path,
    process::{Command, Output},
};

use stages::torch::{CudaGraph, CudaStream, copy, pinned, synchronise};
use tch::{Device, Kind, Tensor};

use crate::{
    gpu::{Counter, Gpu, inside},
    stand_in,
};

const GPU: Device = Device::Cuda(0);

fn off(found: &Tensor, expected: &Tensor) -> f64 {
    let found = found.to_device(Device::Cpu).to_kind(Kind::Double);
    (found - expected.to_kind(Kind::Double)).abs().max().double_value(&[])
}

#[test]
fn copies_fills_and_products_are_computed() {
    let Some(_counters) = inside("rules::copies_fills_and_products_are_computed", &[("VALUES", "1")]) else { return };
    for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::Double, 1e-12), (Kind::BFloat16, 0.1)] {
        let numbers = |rows: i64, columns: i64| {
            Tensor::arange(rows * columns, (Kind::Float, Device::Cpu)).sin().view([rows, columns]).to_kind(kind)
        };
        let (a, b, bias) = (numbers(7, 5), numbers(5, 9), numbers(1, 9).view([9]));
        let [on_gpu_a, on_gpu_b, on_gpu_bias] = [&a, &b, &bias].map(|tensor| tensor.to_device(GPU));
        assert_eq!(off(&on_gpu_a, &a), 0.0, "{kind:?}: copies");
        assert_eq!(
            off(&Tensor::full([3, 5], 2.5, (kind, GPU)), &Tensor::full([3, 5], 2.5, (kind, Device::Cpu))),
            0.0,
            "{kind:?}: fills"
        );
        for (name, found, expected) in [
            ("a product", on_gpu_a.matmul(&on_gpu_b), a.matmul(&b)),
            ("of a transposed matrix", on_gpu_a.tr().matmul(&on_gpu_a), a.tr().matmul(&a)),
            ("by a transposed matrix", on_gpu_b.tr().matmul(&on_gpu_a.tr()), b.tr().matmul(&a.tr())),
            ("with a bias", on_gpu_a.linear(&on_gpu_b.tr(), Some(&on_gpu_bias)), a.linear(&b.tr(), Some(&bias))),
        ] {
            let off = off(&found, &expected);
            assert!(off <= tolerance, "{kind:?}: {name} is off by {off}");
        }
    }
}

#[test]
fn what_waits_for_the_device_is_refused_in_a_capture() {
    let Some(counters) = inside("rules::what_waits_for_the_device_is_refused_in_a_capture", &[]) else { return };
    let _before = CudaStream::of_pool(0).expect("a device").enter().expect("a device");
    let mut a = Tensor::zeros([8], (Kind::Float, GPU));
    let (graph, ()) = CudaGraph::note(None, || {
        let _ = a.g_add_scalar_(1.0);
        Ok(())
    })
    .expect("an addition can be recorded");
    assert_eq!(counters.get(Counter::Captures), 1);
    let before = counters.get(Counter::ReplayedNodes);
    graph.replay().expect("a device");
    assert_eq!(counters.get(Counter::ReplayedNodes), before + 1, "one addition is one node");
    assert_eq!(counters.get(Counter::Forbidden), 0);
    let refused = CudaGraph::note(None, || Ok(a.sum(Kind::Float).double_value(&[])));
    assert!(refused.is_err(), "a number was read while nothing ran");
    assert_eq!(counters.get(Counter::Forbidden), 1);
}

#[test]
fn pinned_bytes_that_change_before_they_are_copied_are_found() {
    let Some(counters) = inside("rules::pinned_bytes_that_change_before_they_are_copied_are_found", &[("LAZY", "1")])
    else {
        return;
    };
    let mut from = pinned(64).expect("memory");
    let mut to = Tensor::zeros([64], (Kind::Uint8, GPU));
    for (changes, races) in [(false, 0), (true, 1)] {
        let _ = from.fill_(1);
        copy(&mut to, &from).expect("of one size");
        if changes {
            let _ = from.fill_(2);
        }
        synchronise(0).expect("a device");
        assert_eq!(counters.get(Counter::Races), races);
    }
}

#[test]
fn a_training_changes_no_pinned_bytes_before_they_are_copied() {
    let Some(mut gpu) = Gpu::with_atlas() else { return };
    gpu.set(&[("LAZY", "1")]);
    for preset in ["cpa", "residual", "norman"] {
        let (_, observed) = gpu.json(&format!(
            "train s.atlas --out {preset} --preset {preset} --epochs 4 --batch-size 64 --device cuda:0"
        ));
        assert!(observed.counter("copies_to_device") > 0, "{preset}");
    }
}

#[test]
fn a_kernel_of_our_own_runs_on_the_host_in_its_turn() {
    let Ok(libraries) = stand_in::folder() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda/own_kernel");
    let scratch = tempfile::tempdir().unwrap();
    let (kernels, program) = (scratch.path().join("kernels.so"), scratch.path().join("program"));
    let runtime = libraries.join("../../nvidia/cu13/lib");
    let headers = Path::new(env!("CARGO_MANIFEST_DIR")).join(".libtorch/nvidia/cu13/include");
    let built = |command: &mut Command| {
        let Output { status, stderr, .. } = command.output().unwrap();
        assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    };
    built(stand_in::compiler().args(["-shared", "-fPIC", "-o"]).arg(&kernels).arg(folder.join("kernels.c")));
    built(
        stand_in::compiler()
            .args(["-Wall", "-o"])
            .arg(&program)
            .arg(folder.join("program.c"))
            .arg("-I")
            .arg(headers)
            .arg("-L")
            .arg(&runtime)
            .args(["-l:libcudart.so.13", "-Wl,--allow-shlib-undefined"]),
    );
    for lazy in ["0", "1"] {
        let mut command = Command::new(&program);
        command.env("LD_LIBRARY_PATH", &runtime).env("PERTURBINE_STANDIN_KERNELS", &kernels);
        built(command.env("PERTURBINE_STANDIN_VALUES", "1").env("PERTURBINE_STANDIN_LAZY", lazy));
    }
}
