"""Loaders in torch's hands: tensors, `DataLoader`, workers that are forked or spawned."""

from __future__ import annotations

import multiprocessing
import warnings
from typing import Any

import numpy as np
import perturbine as pb
import pytest
from screens import counts

torch = pytest.importorskip("torch", reason="without torch, tensors and DataLoader are not tested")
from torch.utils.data import DataLoader  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")


def loader(**arguments: Any) -> Any:
    return counts().open().loader(**{"batch_size": 100, "split": "half", **arguments})


def cells(batches: Any) -> list[list[int]]:
    return [batch.cell.tolist() for batch in batches]


def expected(batch: Any) -> Any:
    return torch.from_numpy(counts().x[batch.cell.numpy()].toarray())


def test_tensors_share_the_memory_of_arrays() -> None:
    batch = next(iter(loader(columns=["donor", "is_late", "share"])))
    assert batch.x.dtype == torch.float32 and torch.equal(batch.x, expected(batch))
    assert batch.condition.dtype == batch.cell.dtype == batch["donor"].dtype == torch.int64
    assert batch["is_late"].dtype == torch.bool and batch["share"].dtype == torch.float64
    assert batch.numpy().x.__array_interface__["data"][0] == batch.x.data_ptr()
    batch.x[0, 0] = 5
    assert batch.numpy().x[0, 0] == 5 and batch.numpy().torch().x[0, 0] == 5


def test_arrays_are_tensors_if_torch_is_there() -> None:
    assert isinstance(next(iter(loader())).x, torch.Tensor)
    assert isinstance(next(iter(loader(output="torch"))).x, torch.Tensor)
    assert isinstance(next(iter(loader(output="numpy"))).x, np.ndarray)


def test_csr_is_a_sparse_tensor() -> None:
    for batch in loader(format="csr", genes=["g9", "g1", "g40"]):
        assert batch.x.layout is torch.sparse_csr and batch.x.crow_indices().dtype == torch.int32
        whole = torch.sparse_csr_tensor(batch.x.crow_indices(), batch.x.col_indices(), batch.x.values(), batch.shape, check_invariants=True)
        assert torch.equal(whole.to_dense(), expected(batch)[:, [9, 1, 40]])
        assert (batch.numpy().x.toarray() == whole.to_dense().numpy()).all()


def test_packed_rows_become_dense_where_they_are_sent() -> None:
    for batch in loader(format="packed", columns=["donor"]):
        assert batch.x.genes.dtype == torch.uint16
        there = batch.to("cpu")
        assert torch.equal(there.x, expected(batch)) and torch.equal(there["donor"], batch["donor"])
        assert torch.equal(there.condition, batch.condition) and there.perturbations.doses.dtype == torch.float32
    dense = next(iter(loader()))
    assert torch.equal(dense.to("cpu").x, dense.x)


def test_bags_of_perturbations() -> None:
    """The lists are what an `EmbeddingBag` takes: here it sums one-hot codes times doses."""
    names = loader().perturbations
    bag = torch.nn.EmbeddingBag.from_pretrained(torch.eye(len(names)), mode="sum", include_last_offset=True)
    for batch in loader():
        offsets, codes, doses = batch.perturbations
        summed = bag(codes, offsets, per_sample_weights=doses)
        for row, cell in enumerate(batch.cell.tolist()):
            condition, dose = counts().obs.condition.iloc[cell], counts().obs.dose.iloc[cell]
            parts = {} if condition == "ctrl" else dict(zip(condition.split("+"), map(float, dose.split("+"))))
            assert summed[row].tolist() == [parts.get(name, 0.0) for name in names]


def test_a_data_loader_adds_nothing() -> None:
    mine = loader()
    assert isinstance(mine, torch.utils.data.IterableDataset)
    theirs = DataLoader(mine, batch_size=None)
    assert len(theirs) == len(mine)
    assert cells(theirs) == cells(loader())
    assert cells(theirs) != cells(loader()), "the next epoch"
    assert mine.state_dict()["epoch"] == 2


def test_a_batch_size_for_data_loader_is_refused() -> None:
    for arguments in ({}, {"batch_size": 32}):
        with pytest.raises(pb.UsageError, match=r"write DataLoader\(loader, batch_size=None\)"):
            next(iter(DataLoader(loader(), **arguments)))


@pytest.mark.parametrize("format", ["dense", "csr", "packed"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_yield_each_batch_once_and_in_order(method: str, format: str) -> None:
    mine = loader(format=format, columns=["donor"])
    # Threads are alive while processes are forked.
    running = iter(mine)
    next(running)
    mine.set_epoch(0)
    with warnings.catch_warnings():
        # Python warns of forks beside threads; ours are none that a child needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        found = list(DataLoader(mine, batch_size=None, num_workers=2, multiprocessing_context=method))
    assert cells(found) == cells(loader())
    for batch in found:
        x = batch.x if format == "dense" else batch.x.to_dense() if format == "csr" else batch.x.dense()
        assert torch.equal(x, expected(batch))
        assert [mine.categories["donor"][code] for code in batch["donor"]] == counts().obs.donor.iloc[batch.cell].tolist()
    assert cells(running) == cells(loader())[1:]


def test_workers_are_warned_of() -> None:
    script = (
        "import sys, torch; from perturbine._atlas import open; from torch.utils.data import DataLoader\n"
        "loader = open(sys.argv[1]).loader(300)\n"
        "assert len(list(DataLoader(loader, batch_size=None, num_workers=2))) == 5\n"
    )
    import subprocess
    import sys

    ran = subprocess.run([sys.executable, "-c", script, counts().atlas], capture_output=True, text=True, check=True, timeout=120)
    assert ran.stderr.count("is slower than num_workers=0") == 1


def test_what_is_left_is_shared_by_workers() -> None:
    mine = loader(batch_size=50)
    iterator = iter(mine)
    for _ in range(3):
        next(iterator)
    other = loader(batch_size=50)
    other.load_state_dict(mine.state_dict())
    found = cells(DataLoader(other, batch_size=None, num_workers=2))
    assert sorted(found) == sorted(cells(iterator))


def test_pinned_memory_needs_a_gpu() -> None:
    if torch.cuda.is_available():
        batch = next(iter(loader(pin_memory=True)))
        assert batch.x.is_pinned() and torch.equal(batch.to("cuda").x.cpu(), expected(batch))
    else:
        with pytest.warns(UserWarning, match="torch finds no GPU"):
            batch = next(iter(loader(pin_memory=True)))
        assert torch.equal(batch.x, expected(batch))


def test_kept_tensors_never_change() -> None:
    kept = [(batch.cell, batch.x[1:4]) for _ in range(2) for batch in loader(batch_size=20)]
    for cell, rows in kept:
        assert torch.equal(rows, torch.from_numpy(counts().x[cell.numpy()].toarray())[1:4])


def test_batches_travel_between_processes() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        batch = next(iter(loader(columns=["donor"])))
        assert pool.apply(_sum_of, (batch,)) == float(batch.x.sum())


def _sum_of(batch: Any) -> float:
    return float(batch.x.sum())
