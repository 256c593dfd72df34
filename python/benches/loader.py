"""How fast batches come out of the loader, by turns with the loader of Rust.

    python benches/loader.py ATLAS --rust target/release/deps/loader-HASH [--seconds 3] [--rounds 5]

`cargo bench --bench loader --no-run` builds the program of `--rust`. Every measurement is a process of its own, in batches of 512, over
whole epochs. A line has the medians of the rounds: cells per second, and per second of processor time, which other work on the machine
disturbs less. The ratios are medians too, each of one round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

SETTINGS = {
    "packed": {"format": "packed"},
    "csr": {"format": "csr"},
    "dense": {"format": "dense"},
    "dense, log1p_cp10k": {"format": "dense", "normalize": "log1p_cp10k"},
}
OF_RUST = {"Rust csr": "csr", "Rust dense": "dense"}
RATIOS = [
    ("packed", "Rust csr"),
    ("csr", "Rust csr"),
    ("dense", "Rust dense"),
    ("dense, log1p_cp10k", "dense"),
]


def measure(name: str, atlas: str, seconds: float, output: str) -> dict[str, float]:
    """Whole epochs until the time is over, with `batch.x` and the labels taken as a training loop would."""
    if output == "torch":
        import torch

        torch.set_num_threads(1)
    import perturbine

    before = anonymous_memory()
    loader = perturbine.open(atlas).loader(512, output=output, **SETTINGS[name])
    cells, started, processor = 0, time.perf_counter(), time.process_time()
    while cells == 0 or time.perf_counter() - started < seconds:
        for batch in loader:
            batch.x, batch.condition  # noqa: B018
            cells += len(batch)
    wall, used = time.perf_counter() - started, time.process_time() - processor
    return {"cells_s": cells / wall, "cells_cpu_s": cells / used, "anon_mb": anonymous_memory() - before}


def anonymous_memory() -> float:
    """Anonymous memory of this process, in MB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024


def ran(command: list[str]) -> dict[str, float]:
    """The result of a measurement in a process of its own."""
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("atlas")
    parser.add_argument("--rust", help="the program of the Rust benchmark; without it, only Python is measured")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", choices=["torch", "numpy"], default="torch")
    parser.add_argument("--only", choices=SETTINGS, help="one measurement, in this process")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments.only, arguments.atlas, arguments.seconds, arguments.output)))
        return
    options = ["--seconds", str(arguments.seconds), "--output", arguments.output]
    commands = {name: [sys.executable, __file__, arguments.atlas, "--only", name, *options] for name in SETTINGS}
    if arguments.rust:
        for name, mode in OF_RUST.items():
            commands[name] = [arguments.rust, mode, arguments.atlas, str(arguments.seconds)]
    rounds = [{name: ran(command) for name, command in commands.items()} for _ in range(arguments.rounds)]
    for name in commands:
        results = [one[name] for one in rounds]
        wall, used = (statistics.median(result[key] for result in results) for key in ("cells_s", "cells_cpu_s"))
        memory = f", {max(result['anon_mb'] for result in results):.0f} MB of anonymous memory" if "anon_mb" in results[0] else ""
        print(f"{name:20} {wall:12,.0f} cells/s {used:12,.0f} cells per processor second{memory}")
    for name, other in RATIOS:
        if name in commands and other in commands:
            ratio = {key: statistics.median(one[name][key] / one[other][key] for one in rounds) for key in ("cells_s", "cells_cpu_s")}
            print(f"{name} over {other}: {ratio['cells_s']:.2f}, per processor second {ratio['cells_cpu_s']:.2f}")


if __name__ == "__main__":
    main()
