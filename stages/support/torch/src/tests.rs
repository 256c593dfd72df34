use tch::{Device, Kind};

use super::*;

#[test]
fn what_is_missing_is_told_with_what_was_tried() {
    let error = load("libno_driver.so.1", &[]).expect_err("there is no such library");
    assert!(error.starts_with("there is no NVIDIA driver (libno_driver.so.1: "), "{error}");
    let places = ["libno_cuda.so", "elsewhere/libno_cuda.so"].map(PathBuf::from);
    let error = load("libc.so.6", &places).expect_err("there is no such library");
    assert!(error.contains("libno_cuda.so: ") && error.contains("elsewhere/libno_cuda.so: "), "{error}");
}

#[test]
fn the_library_is_looked_for_beside_the_part_for_the_cpu_at_last() {
    tch::manual_seed(0);
    let places = places();
    assert!(places.contains(&PathBuf::from(CUDA_LIBRARY)));
    assert!(places.last().is_some_and(|last| last.is_absolute() && last.ends_with(CUDA_LIBRARY)), "{places:?}");
}

#[test]
fn without_a_device_its_functions_say_so() {
    if tch::Cuda::is_available() {
        return;
    }
    assert!(initialise(0).is_err() && CudaStream::of_pool(0).is_err() && device_memory(0).is_err());
    assert!(lacks_graphs().is_some());
}

#[test]
fn pinned_memory_is_copied_from() {
    let from = pinned(3).expect("memory");
    from.shallow_clone().copy_(&Tensor::from_slice(&[1_u8, 2, 3]));
    let mut to = Tensor::zeros([3], (Kind::Uint8, Device::Cpu));
    copy(&mut to, &from).expect("of one size");
    assert_eq!(Vec::<u8>::try_from(&to).expect("numbers"), [1, 2, 3]);
}
