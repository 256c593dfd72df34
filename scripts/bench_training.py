"""Our training and cpa-tools' on the same 20,000 cells × 2,000 genes, by turns, in one run: lines of JSON on stdout.

usage: bench_training.py PERTURBINE [ROUNDS]

Both train the network of the Norman tutorial on one thread, one batch for the autoencoder to two for the adversaries. Cells a
second of processor time are those of whole epochs with loader, losses, metrics and schedules: of cpa-tools the median epoch as
its process clock has it; of ours a run of many epochs less a run of few. Memory is the peak of anonymous pages above the floor:
for cpa-tools what it held before it trained, for ours what a network of no size takes. PEERS_HOME says where cpa-tools is
kept; several GB.
"""

import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

from peers import KEYS, original, run

EPOCHS = {2048: (2, 22), 128: (1, 5)}
PLAN = [
    "train.n_epochs_pretrain_ae=0", "train.n_epochs_adv_warmup=1", "train.mixup_alpha=0", "adversary.adv_steps=3",
    "train.check_val_every_n_epoch=1000",
]
NOTHING = [
    "model.n_latent=2", "model.n_hidden_encoder=2", "model.n_layers_encoder=1", "model.n_hidden_decoder=2",
    "model.n_layers_decoder=1", "adversary.n_hidden_adv=2", "adversary.n_layers_adv=1",
]


class Ours:
    def __init__(self, perturbine, data, scratch):
        self.perturbine, self.scratch, self.atlas = perturbine, scratch, scratch / "cells.atlas"
        subprocess.run([perturbine, "--quiet", "ingest", data, "--out", self.atlas, *KEYS], check=True)
        manifest = json.loads((self.atlas / "manifest.json").read_text())
        self.cells = manifest["cells"] * 0.85

    def train(self, engine, batch, epochs, settings=()):
        out = self.scratch / "model"
        shutil.rmtree(out, ignore_errors=True)
        settings = [part for setting in [*PLAN, f"train.engine={engine}", *settings] for part in ("--set", setting)]
        return run([
            self.perturbine, "--quiet", "train", self.atlas, "--out", out, "--preset", "norman", "--threads", "1", "--device",
            "cpu", "--batch-size", str(batch), "--epochs", str(epochs), *settings,
        ])

    def measure(self, engine, batch):
        few, many = EPOCHS[batch]
        short, _ = self.train(engine, batch, few)
        long, peak = self.train(engine, batch, many)
        _, floor = self.train(engine, 16, 1, NOTHING)
        return {
            "who": f"perturbine, {engine}", "batch": batch, "cells_per_cpu_s": round((many - few) * self.cells / (long - short)),
            "anonymous_mb_above_floor": round(peak - floor), "floor_mb": round(floor),
        }


def theirs(python, script, data, batch):
    phases = ["--phases", "setup,train", "--epochs", "4", "--pretrain", "0", "--advwarm", "1", "--val-every", "99"]
    ran = subprocess.run([python, script, data, *phases, "--batch", str(batch)], capture_output=True, text=True, check=True)
    found = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith("JSON"))[5:])
    return {
        "who": "cpa-tools 0.8.8", "batch": batch, "cells_per_cpu_s": found["train_cells_per_cpu_s"],
        "anonymous_mb_above_floor": found["train"]["peak_delta_mb"], "floor_mb": found["train"]["rss_start_mb"],
    }


def main():
    perturbine, rounds = sys.argv[1], int(sys.argv[2]) if 2 < len(sys.argv) else 2
    python, script, data = original()
    with tempfile.TemporaryDirectory() as scratch:
        ours, lines = Ours(perturbine, data, pathlib.Path(scratch)), []
        for _ in range(rounds):
            for batch in EPOCHS:
                for line in (ours.measure("fused", batch), ours.measure("plain", batch), theirs(python, script, data, batch)):
                    print(json.dumps(line), flush=True)
                    lines.append(line)
    for batch in EPOCHS:
        median = lambda who: statistics.median(line["cells_per_cpu_s"] for line in lines if line["batch"] == batch and line["who"].startswith(who))
        print(f"batch {batch}: fused {median('perturbine, fused') / median('cpa-tools'):.1f}×, plain {median('perturbine, plain') / median('cpa-tools'):.1f}× cpa-tools")


if __name__ == "__main__":
    main()
