"""The types are those of the code: mypy and stubtest find nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = Path(__file__).resolve().parents[1] / "pyproject.toml"
ALLOWED = SETTINGS.with_name("stubtest-allowlist.txt")

USE = """
import perturbine as pb
model = pb.train("a.atlas", "a.model", split="b", epochs=2, set={"train.lr": 5e-4}, progress=print)
reveal_type(model)
reveal_type(model.predict("a.atlas", to="ood", output="cells"))
reveal_type(model.evaluate("a.atlas").conditions)
model.predict("a.atlas", output="sells")
pb.train("a.atlas", "a.model", spilt="b")
"""


def mypy(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mypy")
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, cwd=cwd)


def test_the_package_is_typed_throughout(tmp_path: Path) -> None:
    ran = mypy("mypy", f"--config-file={SETTINGS}", cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout


def test_stubs_and_types_are_those_at_run_time(tmp_path: Path) -> None:
    settings = [f"--mypy-config-file={SETTINGS}", f"--allowlist={ALLOWED}", "--ignore-unused-allowlist"]
    ran = mypy("mypy.stubtest", *settings, "perturbine", cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout


def test_a_type_checker_sees_arguments_and_results(tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text(USE)
    said = mypy("mypy", f"--config-file={SETTINGS}", "use.py", cwd=tmp_path).stdout
    for expected in (
        'Revealed type is "perturbine._model.Model"',
        'Revealed type is "perturbine._prediction.Prediction"',
        'Revealed type is "perturbine._table.Table"',
        "use.py:7: error: No overload variant",
        'Unexpected keyword argument "spilt"',
    ):
        assert expected in said, said
    assert said.count("error:") == 2, said
