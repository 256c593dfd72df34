#!/usr/bin/env python3
"""Lays out what a build needs and no package manager of Rust's brings: libtorch and a new enough CMake.

    python3 scripts/setup.py [--cuda]                   in the repository
    python3 scripts/setup.py [--cuda] --into FOLDER     only the libraries that programs load; `perturbine setup` runs this

Everything comes as wheels through pip and lands in .libtorch/ beside this repository's Cargo.toml, or in the folder that is named:

    .libtorch/torch/{include,lib}       headers and libraries out of the torch wheel
    .libtorch/nvidia/...                the CUDA runtime that libtorch_cpu.so is linked against, CUDA's headers, and NVRTC, which compiles our kernels
    .libtorch/cuda-tests/torch/lib      what the same wheel has for CUDA: tests run it on a stand-in for CUDA (tests/cuda)
    .libtorch/link/{include,lib}        what the linker is shown (see `lay_out_link`)
    .libtorch/cmake/                    builds HDF5, which wants CMake 3.26 or newer
    .libtorch/complete                  names what is there; written last, so that a second run does nothing

The C++ libraries don't depend on a Python version, so one wheel serves every Python that runs this script.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

TORCH = "2.11.0"
RUNTIME = "nvidia-cuda-runtime==13.0.96"
BASE = [f"torch=={TORCH}", RUNTIME, "nvidia-cuda-cupti==13.0.85", "cmake==4.4.4"]
# What compiles the part of our own that needs CUDA, on machines without it: 2.4 MB.
HEADERS = [RUNTIME, "nvidia-cuda-crt==13.0.88"]
# Compiles CUDA kernels, on machines without a GPU too: 90 MB to download, 114 MB of it kept. The version that torch pins.
NVRTC = "nvidia-cuda-nvrtc==13.0.88"
# Each has wheels that pip takes only where their own tag is named: an older glibc's tags are not implied.
PLATFORMS = [
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_25_x86_64",
    "manylinux_2_18_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
]
CPU_LIBRARIES = {
    "torch/lib/libtorch_cpu.so",
    "torch/lib/libc10.so",
    "torch/lib/libgomp.so.1",
    "nvidia/cu13/lib/libcudart.so.13",
    "nvidia/cu13/lib/libcupti.so.13",
}
NVRTC_FILES = {
    "nvidia/cu13/include/nvrtc.h",
    "nvidia/cu13/lib/libnvrtc.so.13",
    "nvidia/cu13/lib/libnvrtc-builtins.so.13.0",
}
# Not beside libtorch_cpu.so, where the program would find them and then miss NVIDIA's libraries. They are in the wheel that is fetched
# anyway: nothing more to download, 457 MB on disk.
CUDA_TESTS = "cuda-tests/"
CUDA_TEST_LIBRARIES = {"torch/lib/libtorch_cuda.so", "torch/lib/libc10_cuda.so"}
HOME = Path(".libtorch")


def main() -> None:
    parser = argparse.ArgumentParser(description="Fetch libtorch and CMake into .libtorch/.")
    parser.add_argument("--cuda", action="store_true", help="also fetch the CUDA libraries (about 4 GB)")
    parser.add_argument("--into", metavar="FOLDER", type=Path, help="fetch only what programs load, into this folder")
    arguments = parser.parse_args()
    global HOME
    HOME = arguments.into or Path(__file__).resolve().parent.parent / ".libtorch"
    cuda = arguments.cuda
    marker, wanted = HOME / "complete", f"torch {TORCH} {'cuda' if cuda else 'cpu'}\n"
    is_complete = marker.exists() and marker.read_text() in (wanted, f"torch {TORCH} cuda\n")
    if arguments.into:
        if not is_complete:
            check_python()
            fetch_libraries(cuda)
            marker.write_text(wanted)
        return
    if not is_complete:
        check_host()
        fetch_libtorch(cuda)
        marker.write_text(wanted)
    # What a folder that was laid out earlier may lack is fetched alone.
    if lacks("nvidia/cu13/include/crt/host_defines.h"):
        check_host()
        fetch(HEADERS, with_needs=False, place=lambda name: name if name.startswith("nvidia/cu13/include/") else None)
    if any(lacks(name) for name in NVRTC_FILES):
        check_host()
        print("fetching NVRTC (90 MB)", file=sys.stderr, flush=True)
        fetch([NVRTC], with_needs=False, place=lambda name: name if name in NVRTC_FILES else None)
    if any(lacks(name) and lacks(CUDA_TESTS + name) for name in CUDA_TEST_LIBRARIES):
        check_host()
        print("fetching libtorch's libraries for CUDA, for tests (530 MB)", file=sys.stderr, flush=True)
        fetch([f"torch=={TORCH}"], with_needs=False, place=cuda_test_library)


def lacks(name: str) -> bool:
    return not (HOME / name).exists()


def fetch_libtorch(cuda: bool) -> None:
    print(f"fetching libtorch {TORCH}{' with CUDA' if cuda else ''} into {HOME.name}/ (once)", file=sys.stderr, flush=True)
    fetch(BASE, with_needs=False, place=lambda name: library(name, cuda) or cuda_test_library(name))
    if cuda:
        fetch([f"torch=={TORCH}"], with_needs=True, place=lambda name: library(name, cuda))
    lay_out_link()


def fetch_libraries(cuda: bool) -> None:
    """Only what programs load."""
    print(f"fetching libtorch {TORCH}{' with CUDA' if cuda else ''} into {HOME} (once)", file=sys.stderr, flush=True)

    def place(name: str):
        return name if ".so" in name and library(name, cuda) else None

    fetch([f"torch=={TORCH}"] if cuda else BASE[:3], with_needs=cuda, place=place)


def fetch(packages: list, with_needs: bool, place) -> None:
    """Downloads wheels and unpacks their files: `place` says where in the folder a file goes, or None for one that is left out."""
    HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME, prefix="wheels-") as wheels:
        download(Path(wheels), packages, with_needs)
        for wheel in sorted(Path(wheels).glob("*.whl")):
            unpack(wheel, place)


def check_python() -> None:
    if sys.version_info < (3, 9):
        sys.exit("setup: Python 3.9 or newer is needed; this is " + sys.version.split()[0])
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        sys.exit("setup: pip is missing; install it (Debian: apt install python3-pip) and run this again")


def check_host() -> None:
    check_python()
    if not any(shutil.which(tool) for tool in ("c++", "g++", "clang++")):
        sys.exit("setup: a C++ compiler is missing; install one (Debian: apt install g++) and run this again")
    if shutil.which("cargo") is None:
        sys.exit("setup: cargo is missing; install Rust 1.95 or newer from your distribution or rustup, and run this again")


def download(wheels: Path, packages: list, with_needs: bool) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    target = ["--python-version", "3.11", "--implementation", "cp"]
    for platform in PLATFORMS:
        target += ["--platform", platform]
    try:
        subprocess.run([*pip, *target, *([] if with_needs else ["--no-deps"]), "-d", str(wheels), *packages], check=True)
    except subprocess.CalledProcessError:
        sys.exit(f"setup: pip could not download {', '.join(packages)}; its message is above")


def unpack(wheel: Path, place) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            to = None if name.endswith("/") else place(name)
            if to is None:
                continue
            out = HOME / to
            out.parent.mkdir(parents=True, exist_ok=True)
            # Whether a file is there decides whether it is fetched again, so it appears when it is whole.
            part = out.with_name(out.name + ".part")
            with archive.open(name) as source, open(part, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            if "/bin/" in name:
                part.chmod(0o755)
            part.replace(out)


def library(name: str, cuda: bool):
    """Where a file of a wheel goes that programs need."""
    if name.startswith(("torch/include/", "cmake/data/")) or name in CPU_LIBRARIES:
        return name
    return name if cuda and name.startswith(("torch/lib/", "nvidia/")) and ".so" in name else None


def cuda_test_library(name: str):
    """Where a file of the torch wheel goes that only tests need; nowhere if programs have it already."""
    return CUDA_TESTS + name if name in CUDA_TEST_LIBRARIES and lacks(name) else None


def lay_out_link() -> None:
    """Shows the linker a libtorch without CUDA.

    The wheel's own libtorch.so needs libtorch_cuda.so, so a program linked against it would not start on a machine
    without CUDA. Linking against libtorch_cpu.so under that name gives one binary for both: CUDA is loaded at run time.
    """
    link = HOME / "link"
    (link / "lib").mkdir(parents=True, exist_ok=True)
    for name, target in {
        "libtorch.so": "libtorch_cpu.so",
        "libtorch_cpu.so": "libtorch_cpu.so",
        "libc10.so": "libc10.so",
        "libgomp.so.1": "libgomp.so.1",
    }.items():
        replace_link(link / "lib" / name, f"../../torch/lib/{target}")
    replace_link(link / "include", "../torch/include")
    (link / "build-version").write_text(TORCH + "\n")


def replace_link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


if __name__ == "__main__":
    main()
