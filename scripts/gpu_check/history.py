"""Reads what a training run wrote about its epochs."""

import json
import math
from statistics import median


def epochs(folder):
    """The epochs of a model's history, in order."""
    lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def middle(epochs):
    """The epochs that count: graphs are captured in the first, and the last is validated."""
    if len(epochs) < 3:
        raise ValueError(f"a run of {len(epochs)} epochs has none in the middle")
    return epochs[1:-1]


def rate(epochs):
    """Training cells a second: the median of the middle epochs."""
    return median(epoch["cells_per_second"] for epoch in middle(epochs))


def cells(epochs):
    """The cells that an epoch trains on."""
    return round(epochs[0]["cells_per_second"] * epochs[0]["seconds"])


def batches(epochs, size):
    return math.ceil(cells(epochs) / size)


def loss(epoch):
    """The training loss of an epoch; NaN on a stand-in for CUDA, whose kernels measure nothing."""
    return epoch.get("train.recon", math.nan)
