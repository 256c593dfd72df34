"""Builds the folder that is carried to a machine with a GPU."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from .machine import PROGRAMS
from .results import say

# What a machine is sent: this folder, and the tree of the repository next to it.
LARGEST = 64 << 20
# The carried name of each target, by cargo's name and kind.
TARGETS = {
    ("perturbine", "bin"): "perturbine",
    ("perturbine-torch", "bin"): "perturbine-torch",
    ("network", "test"): "network-tests",
    ("gpu", "bench"): "gpu-bench",
}


def build(root: Path, folder: Path, profile: str) -> None:
    programs = built(root, profile)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pack(programs, folder / PROGRAMS)
    scripts = root / "scripts"
    shutil.copy(scripts / "gpu-check", folder)
    shutil.copy(scripts / "original_step.py", folder)
    shutil.copytree(scripts / "gpu_check", folder / "gpu_check", ignore=shutil.ignore_patterns("__pycache__", "tests"))
    described = git(root, "describe", "--always", "--dirty") or "unknown"
    (folder / "commit").write_text(described + "\n", encoding="utf-8")
    (folder / "libtorch").write_text(libtorch(root) + "\n", encoding="utf-8")
    carried, tree = bytes_of(path for path in folder.rglob("*") if path.is_file()), tree_bytes(root)
    say(f"{folder}: {carried / 1e6:.1f} MB to be carried, {(carried + tree) / 1e6:.1f} MB with the tree of the repository")
    if LARGEST < carried + tree and profile == "release":
        sys.exit(f"gpu-check: that is more than {LARGEST >> 20} MiB")


def built(root, profile):
    """Has cargo build the programs; returns their paths by carried name."""
    say(f"building the program, the GPU tests and the bench ({profile})")
    command = ["cargo", "build", "--profile", profile, "--locked", "--message-format", "json-render-diagnostics",
               "--bin", "perturbine", "--bin", "perturbine-torch",
               "--test", "network", "--bench", "gpu"]
    ran = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        sys.exit("gpu-check: cargo could not build; its message is above")
    found = {}
    for line in ran.stdout.splitlines():
        message = json.loads(line)
        target = message.get("target", {})
        name = TARGETS.get((target.get("name"), (target.get("kind") or [""])[0]))
        if name and message.get("executable"):
            found[name] = message["executable"]
    if missing := set(TARGETS.values()) - set(found):
        sys.exit(f"gpu-check: cargo did not say where it put {', '.join(sorted(missing))}")
    return found


def pack(programs, archive):
    """Strips and packs the programs."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch, tarfile.open(archive, "w:xz", preset=6) as packed:
        for name, path in sorted(programs.items()):
            stripped = Path(scratch) / name
            if subprocess.run(["strip", "-o", stripped, path]).returncode:
                shutil.copy(path, stripped)
            packed.add(stripped, name)


def libtorch(root):
    """Where the libtorch lies that the programs were linked with, for a run on this machine."""
    return os.environ["LIBTORCH"] + "/lib" if "LIBTORCH" in os.environ else str(root / ".libtorch/link/lib")


def git(root, *arguments):
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True).stdout.strip()


def tree_bytes(root):
    """Bytes of the files that git knows or does not ignore."""
    names = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return bytes_of(path for path in (root / name for name in names if name) if path.is_file())


def bytes_of(paths):
    return sum(path.stat().st_size for path in paths)
