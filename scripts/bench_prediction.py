"""Our predicted cells and cpa-tools' from the same 20,000 cells × 2,000 genes, by turns, in one run: lines of JSON on stdout.

usage: bench_prediction.py PERTURBINE [ROUNDS]

Both predict with the network of the Norman tutorial after an epoch of training, by turns on one thread each and on as many as there
are cores. Ours is the whole command `predict --output cells`: starting, reading, decoding and writing Parquet. Theirs is `predict`
alone, one sample a cell, without starting, reading or writing. Rates are cells a second of wall time, so nothing else should run
meanwhile, and of processor time for ours (their script tells none). PEERS_HOME says where cpa-tools is kept; several GB.
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from peers import KEYS, original, run

PREDICTED = 20_000


def ours(perturbine, scratch, threads):
    out = scratch / "predictions"
    shutil.rmtree(out, ignore_errors=True)
    # What was written before is on the disk before the clock starts.
    os.sync()
    asked = ["--to", "observed", "--output", "cells", "--cells-per-condition", "1000", "--out", out]
    started = time.perf_counter()
    seconds, peak = run([perturbine, "--quiet", "--threads", str(threads), "predict", scratch / "model", scratch / "cells.atlas", *asked])
    wall = time.perf_counter() - started
    rows = json.loads((out / "_manifest.json").read_text())["rows"]
    told = {"cells": rows, "cells_per_s": round(rows / wall), "cells_per_cpu_s": round(rows / seconds), "anonymous_mb": round(peak)}
    return {"who": "perturbine", "threads": threads, **told}


def theirs(python, script, data, threads):
    phases = ["--phases", "setup,train,predict", "--epochs", "1", "--pretrain", "0", "--advwarm", "1", "--val-every", "99"]
    sizes = ["--batch", "2048", "--pred-n", str(PREDICTED), "--n-samples", "1", "--pred-batch", "256"]
    environment = {**os.environ, "THREADS": str(threads)}
    ran = subprocess.run([python, script, data, *phases, *sizes], capture_output=True, text=True, check=True, env=environment)
    found = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith("JSON"))[5:])
    told = {"cells": PREDICTED, "cells_per_s": round(PREDICTED / found["predict"]["sec"])}
    return {"who": "cpa-tools 0.8.8", "threads": threads, **told}


def main():
    perturbine, rounds = sys.argv[1], int(sys.argv[2]) if 2 < len(sys.argv) else 3
    python, script, data = original()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        subprocess.run([perturbine, "--quiet", "ingest", data, "--out", scratch / "cells.atlas", *KEYS], check=True)
        settings = ["--preset", "norman", "--device", "cpu", "--batch-size", "2048", "--epochs", "1"]
        run([perturbine, "--quiet", "train", scratch / "cells.atlas", "--out", scratch / "model", *settings])
        for _ in range(rounds):
            for threads in sorted({1, os.cpu_count()}):
                for line in (ours(perturbine, scratch, threads), theirs(python, script, data, threads)):
                    print(json.dumps(line), flush=True)
                    lines.append(line)
    for threads in sorted({1, os.cpu_count()}):
        rate = lambda who, of: statistics.median(line[of] for line in lines if line["who"].startswith(who) and line["threads"] == threads)
        theirs_rate = rate("cpa-tools", "cells_per_s")
        # On one thread our stages still run next to each other: what they take together is compared.
        ours_rate = rate("perturbine", "cells_per_cpu_s" if threads == 1 else "cells_per_s")
        print(f"cells, {threads} thread(s): {ours_rate:.0f} to {theirs_rate:.0f} a second, {ours_rate / theirs_rate:.1f}× cpa-tools")


if __name__ == "__main__":
    main()
