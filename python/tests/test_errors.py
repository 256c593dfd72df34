"""Errors have the program's message, hint and code, and are the exceptions that Python's users expect."""

from __future__ import annotations

import errno
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import perturbine as pb
import pytest
from perturbine._errors import error_of


@pytest.mark.parametrize(
    ("code", "kind", "expected"),
    [
        (2, "usage", ValueError),
        (28, "no_space", OSError),
        (65, "data", ValueError),
        (66, "missing_input", FileNotFoundError),
        (70, "bug", RuntimeError),
        (73, "cant_create", OSError),
        (74, "io", OSError),
        (75, "stopped", pb.Stopped),
        (137, "ended", RuntimeError),
    ],
)
def test_each_code_is_an_exception_that_survives_pickling(code: int, kind: str, expected: type) -> None:
    error = error_of(code, "what happened", "what to do", ["why"])
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert isinstance(one, expected) and isinstance(one, pb.Error)
        assert (one.code, one.kind, one.message, one.hint, one.because) == (
            code,
            kind,
            "what happened",
            "what to do",
            ("why",),
        )
        assert str(one) == "what happened\n  because: why\n  hint: what to do"


def test_errors_of_the_system_have_its_numbers() -> None:
    full, missing = error_of(28, "full"), error_of(66, "missing")
    assert isinstance(full, OSError) and full.errno == errno.ENOSPC
    assert isinstance(missing, OSError) and missing.errno == errno.ENOENT


def test_the_programs_errors_are_raised(screen: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown split `pears`; the nearest known: pairs") as raised:
        pb.train(screen.atlas, tmp_path / "x.model", split="pears")
    assert isinstance(raised.value, pb.DataError) and raised.value.code == 65 and raised.value.hint
    with pytest.raises(FileNotFoundError, match="missing.atlas"):
        pb.split(tmp_path / "missing.atlas", name="x", scheme="random:0.2")
    with pytest.raises(pb.UsageError, match="already exists"):
        pb.train(screen.atlas, screen.model, split="pairs")
    with pytest.raises(pb.DataError, match="unknown perturbation"):
        screen.model.predict(screen.atlas, to={"condition": "missing"})
    with pytest.raises(FileNotFoundError, match="is not a complete model"):
        pb.Model(tmp_path / "missing.model")


def test_a_program_that_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERTURBINE_PROGRAM", str(tmp_path / "nothing"))
    with pytest.raises(pb.MissingInputError, match="which is not a program"):
        pb.presets()


def test_a_program_that_ends_without_a_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERTURBINE_PROGRAM", stand_in(tmp_path, "print('last words', file=sys.stderr); os.abort()"))
    with pytest.raises(pb.BugError, match="ended by SIGABRT") as raised:
        pb.presets()
    assert raised.value.code == 134 and raised.value.because == ("last words",)
    monkeypatch.setenv("PERTURBINE_PROGRAM", stand_in(tmp_path, "sys.exit(70)"))
    with pytest.raises(pb.BugError, match="code 70 and without a message"):
        pb.presets()


def stand_in(folder: Path, code: str) -> str:
    """A program that does this instead."""
    path = folder / "stand-in"
    path.write_text(f"#!{sys.executable}\nimport os, sys\n{code}\n")
    path.chmod(0o755)
    return str(path)
