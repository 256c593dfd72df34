"""A command in shards: what comes out is what a single run writes, whatever happens on the way."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import perturbine as pb
import pytest
from conftest import CELLS, files
from perturbine._program import program
from test_errors import stand_in

SHARDS = 3


def job(screen: SimpleNamespace, out: Path, **how: Any) -> pb.scale.Job[pb.Prediction]:
    return pb.predict(screen.model, screen.atlas, **CELLS, out=out, shards=SHARDS, **how)


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, partial(ProcessPoolExecutor, mp_context=get_context("spawn"))])
def test_executors_write_what_a_single_run_writes(
    screen: SimpleNamespace, tmp_path: Path, single: dict[str, bytes], pool: Callable[..., Any]
) -> None:
    shards = job(screen, tmp_path / "p")
    assert not list(tmp_path.iterdir()) and shards.status() == [False] * SHARDS
    with pool(2) as executor:
        written = shards.run(executor)
    assert files(tmp_path / "p") == single and written.to_arrow().num_rows == written.summary["rows"]
    assert [path.name for path in tmp_path.iterdir()] == ["p"] and shards.status() == [True] * SHARDS


def test_commands_run_in_any_shell(screen: SimpleNamespace, tmp_path: Path, single: dict[str, bytes]) -> None:
    shards = job(screen, tmp_path / "p")
    for at, command in enumerate(reversed(shards.commands())):
        words = shlex.split(command)
        assert words[0] == "perturbine"
        subprocess.run([program(), *words[1:]], check=True, capture_output=True)
        assert sum(shards.status()) == at + 1
    words = shlex.split(shards.commit_command())
    subprocess.run([program(), *words[1:]], check=True, capture_output=True)
    assert files(tmp_path / "p") == single


def test_shards_without_a_common_folder(screen: SimpleNamespace, tmp_path: Path, single: dict[str, bytes]) -> None:
    shards = [tmp_path / f"task-{shard}" / "shard" for shard in range(SHARDS)]
    for shard, folder in enumerate(shards):
        pb.predict(screen.model, screen.atlas, **CELLS, shard=f"{shard}/{SHARDS}", shard_out=folder)
    written = pb.predict(commit=tmp_path / "p", from_=shards)
    assert files(tmp_path / "p") == single and written.to_arrow().num_rows == written.summary["rows"]
    plan = pb.predict(screen.model, screen.atlas, **CELLS, plan_only=True)
    assert plan.summary["plan"] in single["_manifest.json"].decode()


def test_shards_come_back_through_an_executor_without_a_common_folder(
    screen: SimpleNamespace, tmp_path: Path, single: dict[str, bytes]
) -> None:
    shards = job(screen, tmp_path / "p", shard_out=tmp_path / "parts")
    assert not list(tmp_path.iterdir())
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        written = shards.run(pool)
    assert files(tmp_path / "p") == single and written.to_arrow().num_rows == written.summary["rows"]
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["shard-0", "shard-1", "shard-2"]

    again = job(screen, tmp_path / "again", shard_out=tmp_path / "others")
    for at, command in enumerate(again.commands()):
        words = shlex.split(command)
        assert not any(word.startswith("--out=") for word in words)
        subprocess.run([program(), *words[1:]], check=True, capture_output=True)
        assert again.status() == [shard <= at for shard in range(SHARDS)]
    subprocess.run([program(), *shlex.split(again.commit_command())[1:]], check=True, capture_output=True)
    assert files(tmp_path / "again") == single


def test_latents_and_folds_are_jobs_too(screen: SimpleNamespace, tmp_path: Path) -> None:
    network = {"model.n_latent": 8, "model.n_hidden_encoder": 16, "model.n_hidden_decoder": 16}
    folds = {"scheme": "random:0.5", "seeds": 2, "epochs": 1, "set": network, "device": "cpu"}
    with ThreadPoolExecutor(2) as executor:
        pb.embed(screen.model, screen.atlas, out=tmp_path / "e", file_size=1)
        embedded = pb.embed(screen.model, screen.atlas, out=tmp_path / "f", file_size=1, shards=2).run(executor)
        assert files(tmp_path / "f") == files(tmp_path / "e") and embedded.to_arrow().num_rows == 600
        whole = pb.crossval(screen.atlas, out=tmp_path / "cv", **folds)
        crossed = pb.crossval(screen.atlas, out=tmp_path / "cw", shards=4, **folds)
        assert crossed.plan()["units"] == 4 and "--shard=3/4" in crossed.commands()[3]
        assert crossed.run(executor).json == whole.json
        parts = pb.crossval(screen.atlas, out=tmp_path / "cx", shards=2, shard_out=tmp_path / "parts", **folds)
        assert parts.run(executor).json == whole.json
    assert set(files(tmp_path / "cw")) == set(files(tmp_path / "cv")) == set(files(tmp_path / "cx"))


def test_more_shards_than_units_are_warned_of(screen: SimpleNamespace, tmp_path: Path, single: dict[str, bytes]) -> None:
    shards = pb.predict(screen.model, screen.atlas, **CELLS, out=tmp_path / "p", shards=9)
    units = shards.plan()["units"]
    empty = f"9 shards, but {units} units: {9 - units} of them are empty"
    with ThreadPoolExecutor(2) as executor, pytest.warns(UserWarning, match=empty):
        shards.run(executor)
    assert files(tmp_path / "p") == single


def test_a_shard_that_was_killed_is_tried_again(
    screen: SimpleNamespace, tmp_path: Path, single: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "was-killed"
    code = f"""
if any(word == "--shard=1/3" for word in sys.argv) and not os.path.exists({str(first)!r}):
    open({str(first)!r}, "w").close()
    os.kill(os.getpid(), {signal.SIGKILL:d})
os.execv({program()!r}, [{program()!r}, *sys.argv[1:]])
"""
    monkeypatch.setenv("PERTURBINE_PROGRAM", stand_in(tmp_path, code))
    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(pb.Error, match="SIGKILL"):
            job(screen, tmp_path / "p").run(executor)
        assert job(screen, tmp_path / "p").status() == [True, False, False]
        first.unlink()
        job(screen, tmp_path / "p").run(executor, retries=1)
    assert first.exists() and files(tmp_path / "p") == single


def test_an_error_is_the_programs_and_nothing_is_published(screen: SimpleNamespace, tmp_path: Path) -> None:
    shards = pb.predict(screen.model, screen.atlas, to={"condition": "missing"}, out=tmp_path / "p", shards=2)
    with ThreadPoolExecutor(1) as executor, pytest.raises(pb.DataError, match="unknown perturbation"):
        shards.run(executor, retries=3)
    with pytest.raises(pb.Error):
        shards.commit()
    assert not (tmp_path / "p").exists()


def test_what_cannot_be_divided_is_refused(screen: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(pb.UsageError, match="written to a folder"):
        pb.predict(screen.model, screen.atlas, shards=2)
    with pytest.raises(pb.UsageError, match="0 shards"):
        pb.predict(screen.model, screen.atlas, out=tmp_path / "p", shards=0)
    for given in ({"progress": True}, {"shard": "0/2"}, {"plan_only": True}, {"dry_run": True}, {"commit": tmp_path / "q"}):
        with pytest.raises(pb.UsageError, match="neither `progress`"):
            job(screen, tmp_path / "p", **given)
    with pytest.raises(pb.UsageError, match="of the type str has no `submit`"):
        job(screen, tmp_path / "p").run("executor")
    with pytest.raises(pb.UsageError, match="a list of names"):
        job(screen, tmp_path / "p", genes=["G00001"])


def test_a_folder_that_a_worker_does_not_see_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"worker on {os.uname().nodename} does not see"):
        pb.scale.run_shard(str(tmp_path / "elsewhere"), [])


def test_a_shell_loop_whose_units_are_all_stopped_and_killed(
    screen: SimpleNamespace, tmp_path: Path, single: dict[str, bytes]
) -> None:
    log = tmp_path / "calls"
    environment = {**os.environ, "PERTURBINE_DISK_LOG": str(log)}
    words = [program(), *shlex.split(job(screen, tmp_path / "counted").commands()[0])[1:]]
    subprocess.run(words, check=True, capture_output=True, env=environment)
    calls = len(log.read_text().splitlines())
    assert calls > 8
    for call in range(1, calls + 1, 1 if os.environ.get("PERTURBINE_LONG_TESTS") else calls // 3):
        shards = job(screen, tmp_path / f"p{call}")
        for command in shards.commands():
            words = [program(), *shlex.split(command)[1:]]
            stopped = subprocess.run(words, capture_output=True, preexec_fn=stop_itself)
            assert stopped.returncode == 75, stopped.stderr
            killed = subprocess.run(words, capture_output=True, env={**os.environ, "PERTURBINE_FAULT": f"kill@{call}"})
            assert killed.returncode in (0, -signal.SIGKILL), killed.stderr
            subprocess.run(words, check=True, capture_output=True)
        shards.commit()
        assert files(tmp_path / f"p{call}") == single and not list(tmp_path.glob(f".p{call}*"))


def stop_itself() -> None:
    """Sends SIGTERM to this process, which gets it once it has become the program and can handle it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    os.kill(os.getpid(), signal.SIGTERM)
