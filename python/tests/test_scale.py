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
from perturbine._program import program
from test_errors import stand_in

SHARDS = 3
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "scale"


def job(screen: SimpleNamespace, out: Path, **how: Any) -> pb.scale.Job[pb.Prediction]:
    return pb.predict(screen.model, screen.atlas, to="all", output="cells", out=out, shards=SHARDS, **how)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def single(screen: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a single run."""
    out = tmp_path_factory.mktemp("single") / "p"
    screen.model.predict(screen.atlas, to="all", output="cells", out=out)
    return files(out)


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
        pb.predict(screen.model, screen.atlas, to="all", output="cells", shard=f"{shard}/{SHARDS}", shard_out=folder)
    written = pb.predict(commit=tmp_path / "p", from_=shards)
    assert files(tmp_path / "p") == single and written.to_arrow().num_rows == written.summary["rows"]
    plan = pb.predict(screen.model, screen.atlas, to="all", output="cells", plan_only=True)
    assert plan.summary["plan"] in single["_manifest.json"].decode()


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
    for given in ({"progress": True}, {"shard_out": tmp_path / "shard"}, {"plan_only": True}):
        with pytest.raises(pb.UsageError, match="neither `progress`"):
            job(screen, tmp_path / "p", **given)
    with pytest.raises(pb.UsageError, match="of the type str has no `submit`"):
        job(screen, tmp_path / "p").run("executor")
    with pytest.raises(pb.UsageError, match="a list of names"):
        job(screen, tmp_path / "p", genes=["G00001"])


def test_a_folder_that_a_worker_does_not_see_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"worker on {os.uname().nodename} does not see"):
        pb.scale.run_shard(str(tmp_path / "elsewhere"), [])


def test_a_slurm_array_whose_tasks_are_stopped_and_queued_again(
    screen: SimpleNamespace, tmp_path: Path, single: dict[str, bytes]
) -> None:
    (tmp_path / "kang.model").symlink_to(screen.model.path)
    (tmp_path / "kang.atlas").symlink_to(screen.atlas)
    (tmp_path / "perturbine").symlink_to(program())
    script = (EXAMPLES / "array.sh").read_text().replace("--to pairs", "--to all")
    slurm = {"SLURM_CPUS_PER_TASK": "1", "SLURM_ARRAY_TASK_COUNT": str(SHARDS)}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"

    def task(shard: int) -> subprocess.Popen[bytes]:
        variables = {**os.environ, **slurm, "PATH": path, "SLURM_ARRAY_TASK_ID": str(shard)}
        return subprocess.Popen(["bash", "-c", script], cwd=tmp_path, env=variables, stderr=subprocess.DEVNULL)

    for shard in range(SHARDS):
        # As Slurm does before a time limit; a task that was quicker is complete, and ends at once when it is queued again.
        stopped = task(shard)
        stopped.terminate()
        assert stopped.wait() in (0, 75, -signal.SIGTERM)
        assert task(shard).wait() == 0
    subprocess.run([program(), "predict", "--commit", "pairs"], cwd=tmp_path, check=True, capture_output=True)
    assert files(tmp_path / "pairs") == single


def test_the_example_of_executors_runs(screen: SimpleNamespace, tmp_path: Path, single: dict[str, bytes]) -> None:
    script = EXAMPLES / "executors.py"
    command = [sys.executable, str(script), "here", str(screen.model.path), str(screen.atlas), str(tmp_path / "p")]
    subprocess.run(command, check=True, capture_output=True)
    assert files(tmp_path / "p") == single


def test_dask_runs_shards_and_loses_a_worker(screen: SimpleNamespace, tmp_path: Path, single: dict[str, bytes]) -> None:
    distributed = pytest.importorskip("distributed", reason="without dask, its client is not tested")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with distributed.Client(cluster) as client:
            workers = [worker["nanny"] for worker in client.scheduler_info()["workers"].values()]
            assert len(workers) == 2
            future = client.submit(kill_once, str(tmp_path / "killed"), pure=False)
            job(screen, tmp_path / "p").run(client)
            future.result()
    assert (tmp_path / "killed").exists() and files(tmp_path / "p") == single


def kill_once(mark: str) -> None:
    """Ends the worker that runs it, the first time."""
    if not os.path.exists(mark):
        open(mark, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)


RAY = """
import sys
import perturbine as pb
import ray
model, atlas, folder = sys.argv[1:]
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
pb.predict(model, atlas, to="all", output="cells", out=f"{folder}/p", shards=3).run(ray, num_cpus=1, max_retries=5)
try:
    pb.predict(model, atlas, to={"condition": "missing"}, out=f"{folder}/q", shards=2).run(ray)
except pb.DataError as error:
    print(error.message)
"""


def test_ray_runs_shards(screen: SimpleNamespace, tmp_path: Path, single: dict[str, bytes]) -> None:
    pytest.importorskip("ray", reason="without ray, it is not tested")
    # In a process of its own: ray ends the one that it is in where it fails itself.
    command = [sys.executable, "-c", RAY, str(screen.model.path), str(screen.atlas), str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "unknown perturbation" in ran.stdout and files(tmp_path / "p") == single
