"""Our predicted cells and cpa-tools' from the same 20,000 cells × 2,000 genes, by turns, in one run: lines of JSON on stdout.

usage: bench_prediction.py PERTURBINE [ROUNDS]

Both predict with the network of the Norman tutorial after an epoch of training, on one thread. Ours is the whole command
`predict --output cells`: starting, reading, decoding and writing Parquet. Theirs is `predict` alone, one sample a cell, without
starting, reading or writing. Rates are cells a second: of processor time for ours, and for theirs of wall time where their script
tells no other, so nothing else should run meanwhile. PEERS_HOME says where cpa-tools is kept; several GB.
"""

import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

from peers import KEYS, original, run

PREDICTED = 20_000


def ours(perturbine, scratch):
    out = scratch / "predictions"
    shutil.rmtree(out, ignore_errors=True)
    asked = ["--to", "observed", "--output", "cells", "--cells-per-condition", "1000", "--out", out]
    seconds, peak = run([perturbine, "--quiet", "--threads", "1", "predict", scratch / "model", scratch / "cells.atlas", *asked])
    rows = json.loads((out / "_manifest.json").read_text())["rows"]
    return {"who": "perturbine", "cells": rows, "cells_per_cpu_s": round(rows / seconds), "anonymous_mb": round(peak)}


def theirs(python, script, data):
    phases = ["--phases", "setup,train,predict", "--epochs", "1", "--pretrain", "0", "--advwarm", "1", "--val-every", "99"]
    sizes = ["--batch", "2048", "--pred-n", str(PREDICTED), "--n-samples", "1", "--pred-batch", "256"]
    ran = subprocess.run([python, script, data, *phases, *sizes], capture_output=True, text=True, check=True)
    found = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith("JSON"))[5:])
    phase = found["predict"]
    seconds = phase.get("cpu_sec", phase["sec"])
    return {"who": "cpa-tools 0.8.8", "cells": PREDICTED, "cells_per_cpu_s": round(PREDICTED / seconds), "phase": phase}


def main():
    perturbine, rounds = sys.argv[1], int(sys.argv[2]) if 2 < len(sys.argv) else 2
    python, script, data = original()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        subprocess.run([perturbine, "--quiet", "ingest", data, "--out", scratch / "cells.atlas", *KEYS], check=True)
        settings = ["--preset", "norman", "--device", "cpu", "--batch-size", "2048", "--epochs", "1"]
        run([perturbine, "--quiet", "train", scratch / "cells.atlas", "--out", scratch / "model", *settings])
        for _ in range(rounds):
            for line in (ours(perturbine, scratch), theirs(python, script, data)):
                print(json.dumps(line), flush=True)
                lines.append(line)
    median = lambda who: statistics.median(line["cells_per_cpu_s"] for line in lines if line["who"].startswith(who))
    print(f"cells: {median('perturbine') / median('cpa-tools'):.1f}× cpa-tools")


if __name__ == "__main__":
    main()
