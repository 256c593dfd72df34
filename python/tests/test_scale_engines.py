"""Shards on Dask and Ray, whose workers, nodes and processes are lost on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import perturbine as pb
import pytest
from conftest import CELLS, files, ordered
from perturbine._program import program
from test_errors import stand_in

FIRST = """
shard = next((word for word in sys.argv if word.startswith("--shard=")), "").removeprefix("--shard=").partition("/")[0]
def first(marks=__file__ + ".marks"):
    # Whether this is the first try of this shard.
    os.makedirs(marks, exist_ok=True)
    try:
        os.mkdir(os.path.join(marks, shard))
        return True
    except FileExistsError:
        return False
"""
"""The beginning of a stand-in for the program: which shard, and whether it is tried for the first time."""

GO = f"""
os.execv({program()!r}, [{program()!r}, *sys.argv[1:]])
"""


def first_tries(folder: Path, code: str) -> str:
    """A program whose shards do this in their first try, before they go on."""
    return stand_in(folder, FIRST + code + GO)


def test_dask_loses_a_worker_that_writes_and_tries_a_slow_shard_twice_at_once(
    screen: SimpleNamespace, tmp_path: Path, single: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed", reason="without dask, its client is not tested")
    # The program dies in mid-write, and then the worker that waits for it.
    code = f"""
import signal, subprocess
if shard == "1" and first():
    subprocess.run([{program()!r}, *sys.argv[1:]], env={{**os.environ, "PERTURBINE_FAULT": "kill@12"}})
    os.kill(os.getppid(), signal.SIGKILL)
if shard == "2":
    os.environ["PERTURBINE_FAULT"] = "slow@20"
"""
    monkeypatch.setenv("PERTURBINE_PROGRAM", first_tries(tmp_path, code))
    job = pb.predict(screen.model, screen.atlas, **CELLS, out=tmp_path / "p", shards=3)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with distributed.Client(cluster) as client:
            words = job._place.arguments(2)
            twice = [client.submit(pb.scale.run_shard, os.getcwd(), words, pure=False) for _ in range(2)]
            job.run(client)
            reports = client.gather(twice)
            with pytest.raises(pb.UsageError, match="dask sees no worker with GPU 1: the most is 0 on 2 workers"):
                pb.predict(screen.model, screen.atlas, out=tmp_path / "q", shards=2).run(client, resources={"GPU": 1})
    assert reports[0]["bytes"] == reports[1]["bytes"] and (tmp_path / "stand-in.marks" / "1").exists()
    assert files(tmp_path / "p") == single and not list(tmp_path.glob(".p*"))


RAY = """
import os, sys, threading
import perturbine as pb
import ray
from ray.cluster_utils import Cluster
model, atlas, folder = sys.argv[1:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
lost = cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
try:
    pb.predict(model, atlas, out=f"{folder}/q", shards=2).run(ray, num_gpus=1)
except pb.UsageError as error:
    print(error.message)
try:
    pb.predict(model, atlas, to={"condition": "missing"}, out=f"{folder}/q", shards=2).run(ray)
except pb.DataError as error:
    print(error.message)

def lose_a_node():
    # It opens once a shard is about to start, and lets it go on when the node is gone.
    with open(f"{folder}/gate", "w"):
        cluster.remove_node(lost)

losing = threading.Thread(target=lose_a_node)
losing.start()
job = pb.predict(model, atlas, to="all", output="cells", out=f"{folder}/p", file_size="16KiB", shards=16)
job.run(ray, num_cpus=1, max_retries=5, retries=1)
losing.join()
ray.shutdown()
cluster.shutdown()
"""


def test_ray_loses_processes_a_worker_and_a_node(screen: SimpleNamespace, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="without ray, it is not tested")
    os.mkfifo(tmp_path / "gate")
    # Three programs die in mid-write, a worker of ray is killed, and one shard waits until a node is gone.
    code = f"""
import signal
if shard in ("2", "5", "9") and first():
    os.environ["PERTURBINE_FAULT"] = "kill@12"
elif shard == "7" and first():
    os.kill(os.getppid(), signal.SIGKILL)
elif shard == "11" and first():
    open({str(tmp_path / "gate")!r}).read()
"""
    environment = {**os.environ, "PERTURBINE_PROGRAM": first_tries(tmp_path, code)}
    # In a process of its own: ray ends the one that it is in where it fails itself.
    command = [sys.executable, "-c", RAY, str(screen.model.path), str(screen.atlas), str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert "ray sees no worker with GPU 1" in ran.stdout and "unknown perturbation" in ran.stdout
    assert sorted(mark.name for mark in (tmp_path / "stand-in.marks").iterdir()) == ["11", "2", "5", "7", "9"]
    screen.model.predict(screen.atlas, to="all", output="cells", file_size="16KiB", out=tmp_path / "single")
    assert files(tmp_path / "p") == files(tmp_path / "single") and not list(tmp_path.glob(".p*"))


RAY_CELLS = """
import os, signal, sys
import perturbine as pb
import pyarrow, pyarrow.parquet
import ray
model, folder = sys.argv[1:]
cells = pyarrow.parquet.read_table(f"{folder}/cells.parquet")
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)

class Mortal(pb.Predictor):
    def __call__(self, table):
        rows = super().__call__(table)
        if table["cell"][0].as_py() == "cell_00000040" and not os.path.exists(f"{folder}/died"):
            open(f"{folder}/died", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return rows

def predicted(what, **how):
    data = ray.data.from_arrow([cells.slice(at, 40) for at in range(0, cells.num_rows, 40)])
    tables = data.map_batches(what, batch_format="pyarrow", batch_size=None, **how).to_arrow_refs()
    return pyarrow.concat_tables(table for table in ray.get(tables) if table.num_rows)

pyarrow.parquet.write_table(predicted(pb.Predictor(model)), f"{folder}/tasks.parquet")
actors = predicted(Mortal, fn_constructor_kwargs={"model": model}, compute=ray.data.ActorPoolStrategy(size=2))
pyarrow.parquet.write_table(actors, f"{folder}/actors.parquet")
try:
    predicted(pb.Predictor(model, to={"condition": "missing"}))
except Exception as error:
    print(error)
"""


def test_ray_predicts_cells_and_loses_an_actor(screen: SimpleNamespace, cells: Any, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="without ray, it is not tested")
    parquet = pytest.importorskip("pyarrow.parquet", reason="without pyarrow, tables are not predicted")
    parquet.write_table(cells, tmp_path / "cells.parquet")
    command = [sys.executable, "-c", RAY_CELLS, str(screen.model.path), str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "unknown perturbation `missing`" in ran.stdout and (tmp_path / "died").exists()
    trained = pb.Predictor(screen.model)(cells)["condition"].unique().to_pylist()
    whole = screen.model.predict(screen.atlas, to=[{"condition": name} for name in trained], output="cells").to_arrow()
    for name in ("tasks", "actors"):
        rows = parquet.read_table(tmp_path / f"{name}.parquet")
        assert ordered(rows).equals(ordered(whole))
