use std::process::Command;

use super::*;

arguments! {
    /// Adds a row to every row of a matrix, as `device_kernels::penalty::add_row` does.
    AddRow<'a>, "add_row" {
        matrix: Address<'a>,
        row: Address<'a>,
        rows: i64,
        width: i64,
    }
}

arguments! {
    /// [`AddRow`] without its last field.
    Shorter<'a>, "add_row" {
        matrix: Address<'a>,
        row: Address<'a>,
        rows: i64,
    }
}

arguments! {
    /// A kernel that does not exist.
    Unknown<'a>, "no_such_kernel" {
        numbers: Address<'a>,
    }
}

/// The arguments that add a row of ones to every row of a matrix, `[rows, width]`.
fn add_ones<'a>(matrix: &'a Tensor, ones: &'a Tensor) -> AddRow<'a> {
    let [rows, width] = matrix.size()[..] else { panic!("not a matrix") };
    AddRow { matrix: Address::from_tensor_mut(matrix), row: Address::from_tensor(ones), rows, width }
}

#[test]
fn several_threads_launch_at_once() {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let matrix = Tensor::zeros([20, 50], (Kind::Double, Device::Cpu));
                let ones = Tensor::ones([50], (Kind::Double, Device::Cpu));
                for _ in 0..100 {
                    launch(&add_ones(&matrix, &ones), Kind::Double, Device::Cpu, [20, 1], 64, 0).expect("a launch");
                }
                assert_eq!((&matrix - 100.0).abs().max().double_value(&[]), 0.0);
            });
        }
    });
}

#[test]
fn a_launch_that_can_not_be_right_is_an_error() {
    let matrix = Tensor::zeros([1, 2], (Kind::Double, Device::Cpu));
    let address = Address::from_tensor(&matrix);
    let message = |result: Result<()>| result.expect_err("it can't be right").to_string();
    let unknown = message(launch(&Unknown { numbers: address }, Kind::Double, Device::Cpu, [1, 1], 32, 0));
    assert!(unknown.contains("there is no kernel `no_such_kernel`"), "{unknown}");
    let shorter = Shorter { matrix: address, row: address, rows: 1 };
    let shorter = message(launch(&shorter, Kind::Double, Device::Cpu, [1, 1], 32, 0));
    assert!(shorter.contains("`add_row_f64` takes 32 bytes of arguments, not 24"), "{shorter}");
    let arguments = add_ones(&matrix, &matrix);
    let half = message(launch(&arguments, Kind::Half, Device::Cpu, [1, 1], 32, 0));
    assert!(half.contains("no kernel `add_row` for numbers of Half"), "{half}");
    if !tch::Cuda::is_available() {
        assert!(lacks_kernels(Device::Cuda(0)).is_some());
        let error = launch(&arguments, Kind::Double, Device::Cuda(0), [1, 1], 32, 0).expect_err("there is no device");
        assert_eq!(error.exit_code(), schemas::error::ExitCode::Usage, "{error}");
    }
}

#[test]
fn the_cpu_has_every_kernel() {
    assert_eq!(lacks_kernels(Device::Cpu), None);
    assert!(multiprocessors(Device::Cpu) > 1, "sums over blocks are exercised");
}

#[test]
fn no_blocks_are_no_work() {
    let arguments = AddRow { matrix: Address::none(), row: Address::none(), rows: 0, width: 2 };
    launch(&arguments, Kind::Float, Device::Cpu, [0, 1], 32, 0).expect("nothing to do");
}

#[test]
#[should_panic(expected = "kernels take contiguous tensors")]
fn a_transposed_tensor_has_no_address() {
    let transposed = Tensor::ones([2, 3], (Kind::Float, Device::Cpu)).tr();
    let _ = Address::from_tensor(&transposed);
}

#[test]
fn devices_get_the_code_that_they_run() {
    let old = code_for([7, 5]).expect_err("it is too old");
    assert!(old.contains("8.0 or later, and this one has 7.5"), "{old}");
    if env!("PERTURBINE_NVRTC").is_empty() {
        assert!(code_for([9, 0]).is_err_and(|why| why.contains("without NVRTC")));
        return;
    }
    assert_eq!(code_for([9, 0]).expect("a cubin")[..4], *b"\x7fELF");
    for capability in [[8, 0], [8, 9], [12, 0]] {
        let text = code_for(capability).expect("PTX");
        assert_eq!(text.last(), Some(&0));
        let text = String::from_utf8_lossy(text);
        for name in host_kernels().keys() {
            assert!(text.contains(&format!(".entry {name}(")), "{name} is missing");
        }
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn nvrtc_compiles_every_kernel_without_a_warning() {
    let nvrtc = env!("PERTURBINE_NVRTC");
    if nvrtc.is_empty() {
        eprintln!("skipped: this was built without NVRTC, which `make setup` brings");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    for target in ["sm_80", "sm_90", "compute_80"] {
        let out = folder.path().join(target);
        let ran = Command::new(concat!(env!("OUT_DIR"), "/nvrtc"))
            .args([nvrtc, concat!(env!("CARGO_MANIFEST_DIR"), "/cuda"), target])
            .arg(&out)
            .output()
            .expect("it runs");
        assert!(ran.status.success() && ran.stderr.is_empty(), "{target}: {}", String::from_utf8_lossy(&ran.stderr));
        assert!(std::fs::metadata(&out).expect("a file").len() > 0);
    }
}
