"""Which program runs, with which libtorch, and the command that becomes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import perturbine as pb
import pytest
from perturbine import _program
from perturbine._program import LIBTORCH, PROGRAM, environment, program
from test_errors import stand_in


def test_the_program_is_that_of_the_variable_or_of_the_package_or_of_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chosen = stand_in(tmp_path, "pass")
    monkeypatch.setenv(PROGRAM, chosen)
    assert program() == chosen
    monkeypatch.delenv(PROGRAM)
    package = tmp_path / "package"
    monkeypatch.setattr(_program, "__file__", str(package / "_program.py"))
    scripts, programs = tmp_path / "scripts", tmp_path / "programs"
    for folder, content in ((scripts, b"#!/bin/sh\n"), (programs, b"\x7fELF")):
        folder.mkdir()
        (folder / "perturbine").write_bytes(content)
        (folder / "perturbine").chmod(0o755)
    monkeypatch.setenv("PATH", str(scripts))
    with pytest.raises(pb.MissingInputError, match="was not found") as raised:
        program()
    assert "wheel" in raised.value.hint
    monkeypatch.setenv("PATH", f"{scripts}{os.pathsep}{programs}")
    assert program() == str(programs / "perturbine"), "a script is this package's own command"
    (package / "bin").mkdir(parents=True)
    (package / "bin" / "perturbine").touch(0o755)
    assert program() == str(package / "bin" / "perturbine")


@pytest.mark.parametrize(
    ("version", "fits"), [("2.11.0", True), ("2.11.1+cu130", True), ("2.15.0", False), ("2.110.0", False)]
)
def test_torch_of_this_environment_is_used_if_its_release_fits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, fits: bool
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").write_text(f"from typing import Optional\n__version__ = '{version}'\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delenv(LIBTORCH, raising=False)
    assert environment().get(LIBTORCH) == (str(tmp_path / "torch" / "lib") if fits else None)
    monkeypatch.setenv(LIBTORCH, "chosen")
    assert environment()[LIBTORCH] == "chosen"


def test_the_command_is_the_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "perturbine"]
    ours = subprocess.run([*command, "presets", "--json"], capture_output=True)
    theirs = subprocess.run([program(), "presets", "--json"], capture_output=True)
    assert (ours.returncode, ours.stdout) == (0, theirs.stdout)
    assert subprocess.run([*command, "inspect", tmp_path / "missing"], capture_output=True).returncode == 66
    code = "os.kill(os.getpid(), signal.SIGTERM)"
    ended = {**os.environ, PROGRAM: stand_in(tmp_path, f"import signal\n{code}")}
    assert subprocess.run(command, env=ended).returncode == -signal.SIGTERM
    without = {**os.environ, PROGRAM: str(tmp_path / "nothing")}
    ran = subprocess.run(command, env=without, capture_output=True, text=True)
    assert ran.returncode == 66 and "which is not a program" in ran.stderr
