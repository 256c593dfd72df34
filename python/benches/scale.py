#!/usr/bin/env python3
"""Seconds of a prediction as one process, in shards by a shell, and on each engine; start and memory of a shard.

    python3 python/benches/scale.py FOLDER [ROUNDS]        # PERTURBINE_PROGRAM, or the program of the package

FOLDER keeps the atlas and the model between runs. Dask and Ray are measured where they are installed.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import perturbine as pb
from perturbine._program import program

UNITS = 10
CELLS = {"to": "observed", "output": "cells", "file_size": "300MiB"}


def main() -> None:
    folder = Path(sys.argv[1])
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    prepare(folder)
    assert job(folder, 1).plan()["units"] == UNITS
    print(f"{UNITS} units, {os.cpu_count()} cores; rounds by turns: {rounds}, medians")
    ways = {"one process, two threads": one_process, "two processes of a thread": two_processes, "shell loop": shell_loop}
    ways["ThreadPoolExecutor(2)"] = pooled
    for name, run in (("distributed", on_dask), ("ray", on_ray)):
        try:
            __import__(name)
            ways[name] = run
        except ImportError:
            print(f"{name} is not installed")
    seconds: dict = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            shutil.rmtree(folder / "p", ignore_errors=True)
            # Else a run would also wait for what the run before it wrote.
            os.sync()
            seconds[name].append(run(folder))
    for name, found in seconds.items():
        print(f"{name}: {statistics.median(found):.1f} s ({', '.join(f'{one:.1f}' for one in found)})")
    median = {name: statistics.median(found) for name, found in seconds.items()}
    print(f"two processes over one: {median['one process, two threads'] / median['two processes of a thread']:.2f}")
    for name in list(ways)[3:]:
        print(f"{name} over the shell loop: {median['shell loop'] / median[name]:.2f}")
    starts_and_memory(folder)


def prepare(folder: Path) -> None:
    if not (folder / "s.model").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        pb.simulate(folder / "s.h5ad", cells=60000, genes=2000, conditions=30, combos=10, cell_types=2)
        pb.ingest(folder / "s.h5ad", out=folder / "s.atlas")
        pb.train(folder / "s.atlas", folder / "s.model", epochs=1)


def job(folder: Path, shards: int) -> "pb.scale.Job[pb.Prediction]":
    return pb.predict(folder / "s.model", folder / "s.atlas", **CELLS, out=folder / "p", threads=1, shards=shards)


def timed(run) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def words(lines: list) -> list:
    import shlex

    return [[program(), *shlex.split(line)[1:]] for line in lines]


def one_process(folder: Path) -> float:
    command = [word for word in words(job(folder, 1).commands())[0] if not word.startswith(("--shard", "--threads"))]
    return timed(lambda: subprocess.run([*command[:2], "--threads=2", *command[2:]], check=True, capture_output=True))


def two_processes(folder: Path) -> float:
    return looped(job(folder, 2))


def shell_loop(folder: Path) -> float:
    return looped(job(folder, UNITS))


def looped(shards) -> float:
    """The commands, two at a time, as `xargs -P2` runs them, and the commit."""
    def run() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda command: subprocess.run(command, check=True, capture_output=True), words(shards.commands())))
        subprocess.run(words([shards.commit_command()])[0], check=True, capture_output=True)

    return timed(run)


def pooled(folder: Path) -> float:
    with ThreadPoolExecutor(2) as pool:
        return timed(lambda: job(folder, UNITS).run(pool))


def warmed() -> None:
    """Starts a worker's process and imports what it needs, which happens once however many units there are."""
    import time

    from perturbine import _engine  # noqa: F401

    # So long that one process does not take both calls.
    time.sleep(1)


def on_dask(folder: Path) -> float:
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        client.run(warmed)
        return timed(lambda: job(folder, UNITS).run(client))


def on_ray(folder: Path) -> float:
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        ray.get([ray.remote(num_cpus=1)(warmed).remote() for _ in range(2)])
        return timed(lambda: job(folder, UNITS).run(ray, num_cpus=1))
    finally:
        ray.shutdown()


def starts_and_memory(folder: Path) -> None:
    shutil.rmtree(folder / "p", ignore_errors=True)
    # A shard beyond the units: program, model, atlas and plan, and nothing to predict.
    empty = words([job(folder, 1000).commands()[999]])[0]
    starts = []
    for _ in range(5):
        shutil.rmtree(folder / ".p.shards", ignore_errors=True)
        starts.append(timed(lambda: subprocess.run(empty, check=True, capture_output=True)))
    print(f"start of a unit: {statistics.median(starts):.2f} s ({', '.join(f'{one:.2f}' for one in starts)})")
    shutil.rmtree(folder / ".p.shards", ignore_errors=True)
    peaks = []
    for shards in (UNITS, 1):
        command = words(job(folder, shards).commands())[0]
        ran = subprocess.run([command[0], "--json", *command[1:]], check=True, capture_output=True, text=True)
        peaks.append(json.loads(ran.stdout)["peak_memory_bytes"])
        shutil.rmtree(folder / ".p.shards", ignore_errors=True)
    print(f"memory of a shard: {peaks[0] / 1e6:.0f} MB; of all in one: {peaks[1] / 1e6:.0f} MB; {peaks[0] / peaks[1]:.2f}")


if __name__ == "__main__":
    main()
