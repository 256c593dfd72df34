"""The examples of schedulers: each makes what a single run makes, or uses flags that there are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import perturbine as pb
import pytest
from conftest import files, ordered
from perturbine._program import program

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "scale"

SBATCH = """
import os, re, signal, subprocess, sys
range_, script = sys.argv[2:]
first, last = map(int, range_.removeprefix("--array=").split("-"))
asked = re.search(r"^#SBATCH --signal=B:(\\w+)@\\d+$", open(script).read(), re.M)[1]
print(JOB := 17)
for task in range(first, last + 1):
    # At the time limit, the signal that the script asks for; then SIGTERM, where the node is taken away; then nothing.
    for sent in ("SIG" + asked, "SIGTERM", ""):
        environment = {**os.environ, "SLURM_ARRAY_JOB_ID": str(JOB), "SLURM_ARRAY_TASK_ID": str(task), "SENT": sent}
        environment |= {"SLURM_ARRAY_TASK_COUNT": str(last + 1), "SLURM_CPUS_PER_TASK": "1"}
        ended = subprocess.run(["bash", script], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert ended.returncode == 0, (task, sent, ended)
        queued = os.path.exists("queued") and open("queued").read().split()
        assert bool(queued) == bool(sent) and queued in (False, [f"{JOB}_{task}"]), (task, sent, queued)
        if queued:
            os.remove("queued")
"""
"""Slurm, as far as an array needs it: one task after another, each stopped twice and run again because it asked for that."""

PROGRAM = f"""
import os, signal, sys
sent = os.environ.get("SENT")
if sent:
    # Slurm signals the script, which signals the program: it waits for that here, and gets it while it starts.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.kill(os.getppid(), getattr(signal, sent))
    signal.sigwait([signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)
os.execv({program()!r}, [{program()!r}, *sys.argv[1:]])
"""

SCONTROL = """
import sys
assert sys.argv[1] == "requeue"
open("queued", "a").write(sys.argv[2] + "\\n")
"""


def test_a_slurm_array_whose_tasks_are_stopped_and_queued_again(
    screen: SimpleNamespace, tmp_path: Path, single: dict[str, bytes]
) -> None:
    (tmp_path / "kang.model").symlink_to(screen.model.path)
    (tmp_path / "kang.atlas").symlink_to(screen.atlas)
    for name, code in (("sbatch", SBATCH), ("scontrol", SCONTROL), ("perturbine", PROGRAM)):
        (tmp_path / name).write_text(f"#!{sys.executable}\n{code}")
        (tmp_path / name).chmod(0o755)
    script = tmp_path / "array.sh"
    script.write_text((EXAMPLES / "array.sh").read_text().replace("--to pairs", "--to all --file-size 128KiB"))
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    command = ["sbatch", "--parsable", "--array=0-2", str(script)]
    ran = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert ran.returncode == 0 and ran.stdout.split() == ["17"], ran.stderr
    subprocess.run([program(), "predict", "--commit", "pairs"], cwd=tmp_path, check=True, capture_output=True)
    assert files(tmp_path / "pairs") == single


def test_the_example_of_executors_runs(screen: SimpleNamespace, tmp_path: Path) -> None:
    script = EXAMPLES / "executors.py"
    command = [sys.executable, str(script), "here", str(screen.model.path), str(screen.atlas), str(tmp_path / "p")]
    subprocess.run(command, check=True, capture_output=True)
    screen.model.predict(screen.atlas, to="all", output="cells", out=tmp_path / "single")
    assert files(tmp_path / "p") == files(tmp_path / "single")


def test_the_example_of_tables_runs(screen: SimpleNamespace, cells: Any, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="without ray, its example is not run")
    parquet = pytest.importorskip("pyarrow.parquet", reason="without pyarrow, tables are not predicted")
    parquet.write_table(cells, tmp_path / "cells.parquet")
    command = [sys.executable, str(EXAMPLES / "executors.py"), "tables"]
    ran = subprocess.run([*command, str(screen.model.path), "cells.parquet", "p"], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    predicted = parquet.read_table(tmp_path / "p")
    assert ordered(predicted).equals(ordered(pb.Predictor(screen.model)(cells)))


def test_snakemake_trains_folds(screen: SimpleNamespace, tmp_path: Path) -> None:
    pytest.importorskip("snakemake", reason="without snakemake, its example is not run")
    flags = "--epochs 1 --seeds 2 --set model.n_latent=8 --set model.n_hidden_encoder=16 --device cpu"
    (tmp_path / "perturbine").symlink_to(program())
    settings = [f"atlas={screen.atlas}", "scheme=random:0.5", f"flags={flags}", "shards=3"]
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(EXAMPLES / "Snakefile"), "--cores", "1"]
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HOME": str(tmp_path)}
    ran = subprocess.run([*command, "--config", *settings], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    subprocess.run(
        [program(), "crossval", str(screen.atlas), "--scheme=random:0.5", "--out=single", "--threads=1", *flags.split()],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    for name in ("crossval.json", "crossval.parquet", "crossval-plan.json"):
        assert (tmp_path / "cv" / name).read_bytes() == (tmp_path / "single" / name).read_bytes()


@pytest.mark.parametrize("name", ["array.sh", "predict.nf", "Snakefile"])
def test_the_flags_of_examples_are_those_of_the_program(name: str) -> None:
    text = re.sub(r"\\\n\s*|\"\n\s*\"", " ", (EXAMPLES / name).read_text())
    commands = re.findall(r"^[^#/\n]*?\bperturbine (predict|crossval) (.*)$", text, re.M)
    assert len(commands) == (1 if name == "array.sh" else 2)
    for command, line in commands:
        shown = subprocess.run([program(), command, "--help"], check=True, capture_output=True, text=True).stdout
        for flag in re.findall(r"(--[a-z][a-z-]*)", line):
            assert re.search(rf"^\s+(-\w, )?{flag}\b", shown, re.M), f"{command} has no {flag}"
