"""An atlas: cells, genes, conditions and splits on disk, of which nothing but labels is in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from . import _native
from ._errors import MissingInputError, error_of
from ._table import Table

if TYPE_CHECKING:
    from ._loader import Loader

Access = Literal["map", "read"]
Part = Literal["train", "valid", "ood", "reference"]
Format = Literal["dense", "csr", "packed"]
Sampling = Literal["uniform", "balanced", "weighted", "paired"]
Output = Literal["auto", "torch", "numpy"]

PARTS = ("train", "valid", "ood", "reference")


class Atlas(_native.Atlas):
    """An open atlas; `perturbine.open` opens one.

    Attributes:
        path: its folder.
        cells: the number of cells; also `len(atlas)`.
        nonzeros: the number of non-zero values.
        values: `counts` or `continuous`.
        access: how the matrix is read, `map` or `read`.
        checksum: by which models and predictions know the atlas.
    """

    @cached_property
    def genes(self) -> list[str]:
        """The names of the genes, in the order of columns."""
        return self.gene_names()

    @cached_property
    def conditions(self) -> Table:
        """The conditions, by their codes, with the number of cells of each; the first is control."""
        return Table(
            {
                "condition": [name for name, *_ in self._described],
                "dose": [dose for _, dose, *_ in self._described],
                "cells": [cells for *_, cells in self._described],
            }
        )

    @cached_property
    def _described(self) -> list[tuple[str, str, list[tuple[str, float]], int]]:
        return self.described_conditions()

    @cached_property
    def covariates(self) -> dict[str, list[str]]:
        """The values of each covariate, by their codes."""
        return dict(self.covariate_values())

    @property
    def splits(self) -> dict[str, dict[str, int]]:
        """The splits, each with the number of cells in its parts."""
        return {name: dict(zip(PARTS, self.split_counts(name))) for name in self.split_names()}

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of cells and genes."""
        return self.cells, len(self.genes)

    def loader(
        self,
        batch_size: int = 512,
        split: str | None = None,
        part: Part | None = None,
        seed: int = 0,
        format: Format = "dense",
        genes: Iterable[Any] | None = None,
        normalize: Literal["log1p_cp10k"] | None = None,
        sampling: Sampling = "uniform",
        match_keys: Sequence[str] = (),
        condition_weights: Mapping[str, float] | None = None,
        columns: Sequence[str] = (),
        shuffle: bool | None = None,
        drop_last: bool = False,
        window: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        output: Output = "auto",
        pin_memory: bool = False,
        threads: int | None = None,
        memory: int = 128 << 20,
    ) -> Loader:
        """Batches of the atlas's cells, in the order in which `perturbine train` would read them.

        Args:
            batch_size: cells of a batch.
            split: the split whose part is loaded; without one, all cells are.
            part: `train` (the default, if there is a split), `valid`, `ood` or `reference`.
            seed: the order is a function of seed and epoch.
            format: `dense` for float32 rows, `csr` for a sparse matrix, `packed` for what is stored.
            genes: names, places, or a mask over all genes; in this order. All, if left out.
            normalize: `log1p_cp10k` for ln(1 + 10,000 x / sum of x), with the sum over all genes of a cell.
            sampling: `uniform` has every cell once in an epoch, `balanced` draws all conditions equally often, `weighted` by
                `condition_weights`, and `paired` puts a control behind each perturbed cell.
            match_keys: covariates that a perturbed cell and its control share.
            condition_weights: the weight of conditions, by name; 1 for others.
            columns: columns of `obs` that batches have.
            shuffle: whether cells are shuffled; by default, if the part is `train` or all cells are loaded.
            drop_last: whether the last batch is left out if it has fewer cells than the others.
            window: cells that are shuffled together.
            rank, world_size: which part of each epoch this process gets; by default the environment's RANK and WORLD_SIZE, as torchrun
                sets them.
            output: whether batches have torch tensors or numpy arrays; `auto` means torch if the program has imported it.
            pin_memory: whether tensors are copied to pinned memory, from which GPUs copy faster.
            threads: threads that make batches; by default, one for each core.
            memory: bytes of batches and cached blocks in the pipeline.

        Raises:
            perturbine.Error: a name that the atlas lacks, or arguments that do not go together.
        """
        from ._loader import Loader, Options

        options = Options(
            batch_size=batch_size,
            split=split,
            part=part or ("train" if split is not None else None),
            seed=seed,
            format=format,
            genes=None if genes is None else self._places(genes),
            normalize=normalize,
            sampling=sampling,
            match_keys=list(match_keys),
            condition_weights=dict(condition_weights or {}),
            columns=list(columns),
            shuffle=shuffle,
            drop_last=drop_last,
            window=window,
            rank=_from_environment("RANK", 0) if rank is None else rank,
            world_size=_from_environment("WORLD_SIZE", 1) if world_size is None else world_size,
            output=output,
            pin_memory=pin_memory,
            threads=threads,
            memory=memory,
        )
        return Loader(self, options)

    def _places(self, genes: Iterable[Any]) -> list[int]:
        """The places of genes that are given by name, by place, or as a mask."""
        if isinstance(genes, str):
            raise error_of(2, f"genes={genes!r} is one name", f"write genes=[{genes!r}]")
        given = genes.tolist() if hasattr(genes, "tolist") else list(genes)
        if all(isinstance(gene, str) for gene in given):
            return self.gene_places(given)
        if all(isinstance(gene, bool) for gene in given):
            if len(given) != len(self.genes):
                raise error_of(2, f"the mask has {len(given)} genes, the atlas {len(self.genes)}", "give a value for each gene")
            return [place for place, is_wanted in enumerate(given) if is_wanted]
        if all(isinstance(gene, int) and not isinstance(gene, bool) for gene in given):
            beyond = [place for place in given if not 0 <= place < len(self.genes)]
            if beyond:
                raise error_of(2, f"there is no gene {beyond[0]}: the atlas has {len(self.genes)}", "genes count from 0")
            return given
        raise error_of(2, "genes= mixes names, places and truth values", "give a list of one kind")

    def __len__(self) -> int:
        return self.cells

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __repr__(self) -> str:
        shown = f"Atlas {self.path}: {self.cells:,} cells × {len(self.genes):,} genes, {len(self.conditions):,} conditions"
        return shown + (f", splits {', '.join(splits)}" if (splits := self.split_names()) else "")

    def __reduce__(self) -> tuple[object, ...]:
        return open, (os.fspath(self.path), self.access)


def open(path: str | os.PathLike[str], access: Access = "map") -> Atlas:
    """Opens an atlas, or an `.h5ad` in place.

    Args:
        path: a folder that `perturbine.ingest` has written, or an `.h5ad` whose matrix can be read where it is. Of a file every
            value is looked at once, and what is known of it is forgotten when the atlas is closed: ingest it to open it in
            milliseconds.
        access: `map` reads through a memory map; `read` by plain reads, for file systems on which maps are slow or unsafe.

    Raises:
        perturbine.Error: no such file, a folder that is not an atlas, a damaged one, or a file that has to be ingested.
    """
    path = os.path.expanduser(os.fspath(path))
    return Atlas(path, access, _hdf5_reader() if os.path.isfile(path) else None)


def _hdf5_reader() -> str | None:
    """The program that reads HDF5 files, so that a damaged one ends nothing but that program. Without one, this process reads them."""
    from ._program import program

    try:
        return program()
    except MissingInputError:
        return None


def _from_environment(name: str, otherwise: int) -> int:
    text = os.environ.get(name)
    if text is None:
        return otherwise
    try:
        return int(text)
    except ValueError:
        raise error_of(2, f"the environment's {name} is {text!r}, not a number", "unset it, or give rank= and world_size=") from None
