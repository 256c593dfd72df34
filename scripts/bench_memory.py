#!/usr/bin/env python3
"""Measures what docs/memory.md says: memory, speed and results of every way to save memory, as tables on stdout.

usage: bench_memory.py PERTURBINE [FOLDER]     (the built command line; a folder for some hundred MB, kept if it is named)

Memory is anonymous memory of the process (RssAnon), the most of a phase as `--log-memory` tells it, less the floor: what a
process that trains a tiny network holds when it has set up. Speed is training cells a second of processor time; a run of one
epoch is taken off one of several, so that what is left is epochs alone. One thread of libtorch.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

CELLS, GENES, EPOCHS = 12_000, 2_000, 6
NETWORK = (
    "--preset norman --seed 1 --device cpu --set train.mixup_alpha=0 --set train.n_epochs_pretrain_ae=0 "
    "--set train.n_epochs_adv_warmup=0 --set train.early_stopping_patience=0 --set train.check_val_every_n_epoch=100"
)
# glibc's allocator gives back what is freed at once, rather than keeping it for the next tensor.
GIVES_BACK = "MALLOC_MMAP_THRESHOLD_=65536 MALLOC_TRIM_THRESHOLD_=131072"
TINY = "--epochs 1 --set model.n_hidden_encoder=8 --set model.n_hidden_decoder=8 --batch-size 64 --device cpu"


class Bench:
    def __init__(self, program, folder):
        self.program, self.folder = Path(program).resolve(), folder
        self.runs = 0

    def run(self, line):
        """What a command says, the peaks of its phases in MB, its processor seconds."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        words = line.split()
        allocator = dict(word.split("=") for word in words if word.startswith("MALLOC_"))
        ran = subprocess.run(
            [self.program, "--json", *(word for word in words if not word.startswith("MALLOC_"))],
            cwd=self.folder, capture_output=True, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **allocator},
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if ran.returncode:
            sys.exit(f"perturbine {line}\n{ran.stderr}")
        logged = [json.loads(text)["memory"] for text in ran.stderr.splitlines() if text.startswith('{"memory"')]
        peaks = {phase["phase"]: (phase["host_peak_bytes"] or 0) / 1e6 for phase in logged}
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return json.loads(ran.stdout) if ran.stdout else None, peaks, seconds

    def train(self, atlas, settings, epochs=EPOCHS):
        """Peaks of a run in MB, cells a second, losses, weights."""
        line = f"train {atlas} {NETWORK} {settings} --log-memory"
        took, trained = [], []
        for count in (1, epochs):
            self.runs += 1
            model = self.folder / f"model-{self.runs}"
            _, peaks, seconds = self.run(f"{line} --epochs {count} --out {model}")
            history = [json.loads(text) for text in (model / "history.jsonl").read_text().splitlines()]
            took.append(seconds)
            trained.append(sum(epoch["cells_per_second"] * epoch["seconds"] for epoch in history))
        rate = (trained[1] - trained[0]) / (took[1] - took[0])
        return peaks, rate, history[-1], (model / "model.safetensors").read_bytes()


def table(title, head, rows):
    print(f"\n**{title}**\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def change(value, reference):
    return f"{100 * (value / reference - 1):+.2f}%"


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as scratch:
        folder = Path(sys.argv[2] if 2 < len(sys.argv) else scratch).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(program, folder)
        if not (folder / "a.atlas").exists():
            like_norman = f"--genes {GENES} --conditions 100 --combos 50 --cell-types 2 --density 0.15"
            for name, cells in (("a", CELLS), ("twice", 2 * CELLS)):
                bench.run(f"simulate --cells {cells} {like_norman} --out {name}.h5ad")
                bench.run(f"ingest {name}.h5ad --out {name}.atlas")
            bench.run("simulate --cells 600 --genes 60 --conditions 4 --combos 0 --out tiny.h5ad")
            bench.run("ingest tiny.h5ad --out tiny.atlas")
        _, peaks, _ = bench.run(f"train tiny.atlas --out {folder}/tiny-{os.getpid()} {TINY} --log-memory")
        floor = peaks["setup"]
        print(f"floor: {floor:.0f} MB; {CELLS} cells × {GENES} genes, {EPOCHS} epochs")
        steps(bench, floor)
        results(bench)
        batches(bench, floor)
        roads(bench, floor)
        predictions(bench, floor)
        labels(folder)
        set_up(bench, floor)


def steps(bench, floor):
    """Settings of a step, each beside the same run without it."""
    def rows(base, variants):
        peaks, rate, last, weights = bench.train("a.atlas", base)
        yield [f"`{base}`", f"{peaks['epoch'] - floor:.0f} MB", f"{rate:,.0f}", f"{last['train.recon']:.2f}"]
        for variant in variants:
            other = bench.train("a.atlas", f"{base} {variant}")
            same = "identical" if other[3] == weights else change(other[2]["train.recon"], last["train.recon"])
            if other[3] != weights and "valid.recon" in other[2]:
                same += f" ({change(other[2]['valid.recon'], last['valid.recon'])})"
            yield [f"… `{variant}`", f"{other[0]['epoch'] - floor:.0f} MB", f"{other[1]:,.0f}", same]

    head = ["settings", "epoch above the floor", "cells per CPU second", "training loss (validation)"]
    plain = "--set train.engine=plain"
    table("Steps by libtorch's operations, batch 2048", head, rows(f"--batch-size 2048 {plain}", [
        GIVES_BACK,
        "--set train.checkpointing=true",
        "--set train.precision=bf16",
        f"--set train.precision=bf16 {GIVES_BACK}",
        "--set train.average=ema --set train.average_decay=0.99",
        "--set train.average=swa",
        "--set train.gradient_clip_value=1",
        "--set train.mixup_alpha=0.2",
        "--set train.decoder_on_every_batch=true",
        "--set train.check_val_every_n_epoch=1",
        "--set model.recon_loss=gauss",
        "--set model.recon_loss=zinb",
        "--set model.variational=true",
    ]))
    table("Steps by kernels, batch 2048", head, rows("--batch-size 2048 --set train.engine=fused", [
        GIVES_BACK,
        "--set train.average=ema --set train.average_decay=0.99",
        "--set train.mixup_alpha=0.2",
        "--set train.decoder_on_every_batch=true",
    ]))


def results(bench):
    """What is validated after a longer run of smaller batches, with and without what changes numbers."""
    def rows():
        base = "--preset cpa --seed 1 --device cpu --batch-size 128 --epochs 8 --set train.engine=plain"
        for settings in ("", "--seed 2", "--set train.precision=bf16", "--set train.average=ema --set train.average_decay=0.99",
                         "--set train.average=swa", "--set train.gradient_clip_value=0", "--set train.accumulate=4"):
            bench.runs += 1
            model = bench.folder / f"model-{bench.runs}"
            words = base.replace("--seed 1 ", "") if "--seed" in settings else base
            bench.run(f"train a.atlas {words} {settings} --out {model}")
            history = [json.loads(text) for text in (model / "history.jsonl").read_text().splitlines()]
            scores = [f"{history[-1][f'valid.{name}']:.4f}" for name in ("recon", "r2_mean", "pearson_delta")]
            yield [f"`{settings}`" if settings else "as it is", *scores]

    table("Scores after 8 epochs, batch 128", ["settings", "valid.recon", "valid.r2_mean", "valid.pearson_delta"], rows())


def batches(bench, floor):
    """A step on 2,048 cells in one batch and in several, without batch norm."""
    def rows():
        for engine in ("plain", "fused"):
            loss = None
            for size, count in ((2048, 1), (1024, 2), (512, 4), (128, 16)):
                settings = f"--batch-size {size} --set train.accumulate={count} --set train.engine={engine} "
                settings += "--set model.norm_encoder=layer --set adversary.norm_adv=layer "
                settings += "--set model.dropout_rate_encoder=0 --set adversary.dropout_rate_adv=0"
                peaks, rate, last, _ = bench.train("a.atlas", settings)
                loss = loss or last["valid.recon"]
                yield [f"{engine}, {size} × {count}", f"{peaks['epoch'] - floor:.0f} MB", f"{rate:,.0f}",
                       change(last["valid.recon"], loss)]

    table("2,048 cells a step, no batch norm, no dropout", ["engine, cells × batches", "epoch above the floor",
          "cells per CPU second", "validation loss"], rows())
    explained = []
    for memory in ("384MiB", "1GiB", "2GiB"):
        model = bench.folder / f"auto-{memory}-{os.getpid()}"
        line = f"--memory {memory} train a.atlas {NETWORK} --epochs 1 --batch-size auto --log-memory --out {model}"
        _, peaks, _ = bench.run(line)
        size = next(text for text in (model / "config.toml").read_text().splitlines() if text.startswith("batch_size"))
        explained.append([memory, size.split()[-1], f"{max(peaks.values()):.0f} MB"])
    table("`--batch-size auto`", ["`--memory`", "cells of a batch", "most that was held, floor and all"], explained)


def roads(bench, floor):
    """How cells come in."""
    def rows():
        weights = None
        for flags in ("", "--access read", "--threads 1", "--threads 4", "--memory 16MiB"):
            peaks, rate, last, own = bench.train("a.atlas", f"--batch-size 512 {flags}")
            weights = weights or own
            same = "identical" if own == weights else "differs"
            yield [f"`{flags}`" if flags else "as it is", f"{peaks['epoch'] - floor:.0f} MB", f"{rate:,.0f}",
                   f"{100 * last['wait.data']:.1f}%", same]

    table("Roads to the trainer, batch 512", ["flags", "epoch above the floor", "cells per CPU second",
          "waited for data", "weights"], rows())


def predictions(bench, floor):
    def rows():
        model = bench.folder / f"for-predictions-{os.getpid()}"
        bench.run(f"train twice.atlas {NETWORK} --batch-size 512 --epochs 1 --out {model}")
        for output, cells in (("means", 50), ("means", 800), ("cells", 25), ("cells", 100), ("latent", 100)):
            bench.runs += 1
            out = bench.folder / f"p-{bench.runs}"
            asked = f"--to observed --output {output} --cells-per-condition {cells} --log-memory --out {out}"
            told, peaks, _ = bench.run(f"predict {model} twice.atlas {asked}")
            yield [output, str(cells), f"{told['rows']:,}", f"{told['bytes'] / 1e6:.0f} MB",
                   f"{peaks['predicting'] - floor:.0f} MB"]

    head = ["output", "source cells of each covariate combination", "rows", "written", "above the floor"]
    table("Predictions", head, rows())

    def drawn():
        model = bench.folder / f"variational-{os.getpid()}"
        bench.run(f"train a.atlas {NETWORK} --set model.variational=true --batch-size 512 --epochs 2 --out {model}")
        for samples in ("", "--samples 5", "--samples 20"):
            bench.runs += 1
            out = bench.folder / f"p-{bench.runs}"
            asked = f"--to observed --cells-per-condition 200 {samples} --log-memory --out {out}"
            _, peaks, seconds = bench.run(f"predict {model} a.atlas {asked}")
            yield [f"`{samples}`" if samples else "at the mean", f"{seconds:.1f} s", f"{peaks['predicting'] - floor:.0f} MB"]

    table("Draws of a variational model, means from 200 cells", ["draws", "processor time", "above the floor"], drawn())


def labels(folder):
    """What labels take on disk, and so at most in memory."""
    atlas = folder / "a.atlas"
    size = {name: (atlas / name).stat().st_size for name in ("labels.bin", "statistics.parquet")}
    print(f"\nlabels: {size['labels.bin'] / CELLS:.1f} B a cell; statistics with differential genes of every group: "
          f"{size['statistics.parquet'] / 1e6:.1f} MB, on disk")


def set_up(bench, floor):
    """100,000 cells × 5,000 genes."""
    if not (bench.folder / "large.atlas").exists():
        bench.run("simulate --cells 100000 --genes 5000 --conditions 100 --combos 50 --cell-types 4 --density 0.05 "
                  "--out large.h5ad")
        bench.run("ingest large.h5ad --out large.atlas --log-memory")
    _, ingest, _ = bench.run(f"ingest large.h5ad --out again-{os.getpid()}.atlas --log-memory")
    model = bench.folder / f"large-{os.getpid()}"
    _, peaks, _ = bench.run(f"train large.atlas {NETWORK} --batch-size 128 --epochs 1 --out {model} --log-memory")
    rows = [["train", phase, f"{peak:.0f} MB", f"{peak - floor:.0f} MB"] for phase, peak in peaks.items()]
    rows += [["ingest", phase, f"{peak:.0f} MB", ""] for phase, peak in ingest.items()]
    table("100,000 cells × 5,000 genes, batch 128", ["command", "phase", "most that was held", "above the floor"], rows)


if __name__ == "__main__":
    main()
