#!/usr/bin/env python3
"""Tries the wheel and the tarball as a user would, without cargo, a compiler or a network.

    python3 scripts/packaging/check.py target/wheels target/tarballs

The wheel goes into a new environment, and has to import, simulate, ingest, inspect, open and load. The tarball runs with an empty
environment, and has to train. Programs that need libtorch find the wheel's in .libtorch/.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from dist import dist_name
from wheel import wheel_name

ROOT = Path(__file__).resolve().parents[2]
# The aimed size of a wheel, and the most that the package index takes.
AIM, MOST = 35_000_000, 100_000_000
CALLS = Path(__file__).resolve().parent / "wheel_calls.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", type=Path, help="the folder of the wheel")
    parser.add_argument("dist", type=Path, help="the folder of the tarball")
    options = parser.parse_args()
    wheel, tarball = options.wheels.resolve() / wheel_name(), options.dist.resolve() / f"{dist_name()}.tar.gz"
    for file in (wheel, tarball):
        check_checksum(file)
    size = wheel.stat().st_size
    if size > MOST:
        sys.exit(f"{wheel.name} has {size:,} bytes, more than {MOST:,}")
    if size > AIM:
        print(f"{wheel.name} has {size:,} bytes: more than the {AIM:,} aimed at")
    apart = without_network()
    with tempfile.TemporaryDirectory() as folder:
        check_wheel(wheel, Path(folder), apart)
        check_tarball(tarball, Path(folder), apart)


def check_checksum(file: Path) -> None:
    """Compares a file with the checksum beside it."""
    named = file.with_name(file.name + ".sha256").read_text().split()
    if named != [hashlib.sha256(file.read_bytes()).hexdigest(), file.name]:
        sys.exit(f"{file.name} does not have the checksum of {file.name}.sha256")


def without_network() -> list:
    """The prefix that runs a command without a network."""
    command = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
        return command
    print("the network could not be taken away: the checks run with it", file=sys.stderr)
    return []


def check_wheel(wheel: Path, folder: Path, apart: list) -> None:
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    variables = bare(environment / "bin", folder)
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", wheel]
    run([*apart, *install], folder, variables)
    run([*apart, python, CALLS], folder, variables)
    run([*apart, environment / "bin" / "perturbine", "inspect", "screen.atlas"], folder, variables)
    run([*apart, environment / "bin" / "perturbine", "--version"], folder, variables)
    run(
        [*apart, python, CALLS, "train"],
        folder,
        {**variables, "PERTURBINE_LIBTORCH": str(ROOT / ".libtorch" / "link" / "lib")},
    )
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB; imports, simulates, ingests, opens, loads, trains")


def bare(programs: Path, home: Path) -> dict:
    """An environment with the system's programs alone; cargo is in none of their folders."""
    path = f"{programs}:/usr/bin:/bin"
    if shutil.which("cargo", path=path):
        print("cargo is one of the system's programs: the checks run with it", file=sys.stderr)
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8"}


def check_tarball(tarball: Path, folder: Path, apart: list) -> None:
    with tarfile.open(tarball) as tar:
        tar.extractall(folder)
    program = next(folder.glob("perturbine-*/bin/perturbine"))
    for command in (
        "simulate --cells 400 --genes 50 --conditions 6 --combos 2 --cell-types 2 --out tar.h5ad",
        "ingest tar.h5ad --out tar.atlas",
        "train tar.atlas --out tar.model --epochs 1",
        "predict tar.model tar.atlas --out tar.parquet",
    ):
        run([*apart, program, *command.split()], folder, {})
    print(f"{tarball.name}: {tarball.stat().st_size / 1e6:.1f} MB; simulates, ingests, trains, predicts")


def run(command: list, folder: Path, environment: dict) -> None:
    ran = subprocess.run(
        [os.fspath(word) for word in command], cwd=folder, env=environment, capture_output=True, text=True
    )
    if ran.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {ran.returncode}:\n{ran.stdout}{ran.stderr}")


if __name__ == "__main__":
    main()
