"""Lets scripts/setup.py resolve what torch needs with CUDA, offline. pip is shown empty wheels under the names of the real ones.

    setup_resolves.py SETUP SCRATCH     prints the wheels that were taken
"""

import importlib.util
import os
import sys
import zipfile
from pathlib import Path

# What torch 2.11's wheel needs on Linux, and the wheels that the package index has of it (November 2026).
NEEDS = [
    "nvidia-cublas==13.1.0.3",
    "nvidia-cuda-cupti==13.0.85",
    "nvidia-cuda-nvrtc==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cudnn-cu13==9.19.0.56",
    "nvidia-cufft==12.0.0.61",
    "nvidia-cufile==1.15.1.6",
    "nvidia-curand==10.4.0.35",
    "nvidia-cusolver==12.0.4.66",
    "nvidia-cusparse==12.6.3.3",
    "nvidia-cusparselt-cu13==0.8.0",
    "nvidia-nccl-cu13==2.28.9",
    "nvidia-nvjitlink==13.0.88",
    "nvidia-nvshmem-cu13==3.4.5",
    "nvidia-nvtx==13.0.85",
    "triton==3.6.0",
]
WHEELS = """
torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl
nvidia_cublas-13.1.0.3-py3-none-manylinux_2_27_x86_64.whl
nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl
nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl
nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl
nvidia_cudnn_cu13-9.19.0.56-py3-none-manylinux_2_27_x86_64.whl
nvidia_cufft-12.0.0.61-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl
nvidia_cufile-1.15.1.6-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl
nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl
nvidia_cusolver-12.0.4.66-py3-none-manylinux_2_27_x86_64.whl
nvidia_cusparse-12.6.3.3-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl
nvidia_cusparselt_cu13-0.8.0-py3-none-manylinux2014_x86_64.whl
nvidia_nccl_cu13-2.28.9-py3-none-manylinux_2_18_x86_64.whl
nvidia_nvjitlink-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl
nvidia_nvshmem_cu13-3.4.5-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl
nvidia_nvtx-13.0.85-py3-none-manylinux1_x86_64.manylinux_2_5_x86_64.whl
triton-3.6.0-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl
""".split()


def make(folder: Path, wheel: str) -> None:
    name, version, *tags = wheel.removesuffix(".whl").split("-")
    needs = NEEDS if name == "torch" else []
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {need}" for need in needs)]
    with zipfile.ZipFile(folder / wheel, "w") as archive:
        archive.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(metadata) + "\n")
        archive.writestr(f"{name}-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{name}-{version}.dist-info/RECORD", "")


def main() -> None:
    specification = importlib.util.spec_from_file_location("setup", sys.argv[1])
    setup = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(setup)
    shown, taken = Path(sys.argv[2]) / "shown", Path(sys.argv[2]) / "taken"
    shown.mkdir()
    taken.mkdir()
    for wheel in WHEELS:
        make(shown, wheel)
    os.environ.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(shown), PIP_CONFIG_FILE=os.devnull)
    setup.download(taken, [f"torch=={setup.TORCH}"], with_needs=True)
    print("\n".join(sorted(wheel.name for wheel in taken.iterdir())))


main()
