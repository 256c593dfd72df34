"""Simulated atlases to train on and predict from."""

import time
from dataclasses import dataclass
from pathlib import Path

from .aims import CONDITIONS, GENES
from .results import say


@dataclass
class Atlas:
    path: Path
    cells: int
    genes: int
    seconds: float

    def read_once(self):
        """Brings every byte into the page cache."""
        for file in sorted(self.path.rglob("*")):
            if file.is_file():
                with open(file, "rb", buffering=0) as stream:
                    while stream.read(1 << 24):
                        pass


def make(machine, name, cells, budget, genes=GENES, conditions=CONDITIONS):
    """Simulates and ingests an atlas. It has one batch, so that every cell can be chosen by it."""
    source, atlas = machine.data / f"{name}.h5ad", machine.data / f"{name}.atlas"
    started = time.monotonic()
    try:
        machine.perturbine("simulate", "--cells", cells, "--genes", genes, "--conditions", conditions, "--density", "0.1",
                           "--cell-types", 3, "--batches", 1, "--out", source, budget=budget)
        simulated = time.monotonic() - started
        machine.perturbine("ingest", source, "--out", atlas, "--batch", "batch", budget=budget)
    finally:
        source.unlink(missing_ok=True)
        source.with_suffix(".truth.parquet").unlink(missing_ok=True)
    seconds = time.monotonic() - started
    say(f"        simulated {cells:,} cells × {genes:,} genes in {simulated:.1f} s, ingested them in {seconds - simulated:.1f} s")
    made = Atlas(atlas, cells, genes, seconds)
    made.read_once()
    return made


def cells_that_fit(wanted, small, seconds):
    """As many cells as can be simulated and ingested in that time, as long as a small atlas took; a tenth is left in reserve."""
    return max(small.cells, min(wanted, int(0.9 * seconds * small.cells / small.seconds)))
