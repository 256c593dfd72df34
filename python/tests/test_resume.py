"""Epochs, states and ranks."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import perturbine as pb
import pytest
from screens import counts, logarithms


def loader(**arguments: Any) -> Any:
    return counts().open().loader(**{"batch_size": 100, "split": "half", "output": "numpy", **arguments})


def read(batches: Any) -> list[tuple[list[int], bytes]]:
    """Cells and values of batches."""
    return [(batch.cell.tolist(), np.ascontiguousarray(batch.x).tobytes()) for batch in batches]


@pytest.mark.parametrize("arguments", [{}, {"sampling": "paired"}, {"sampling": "balanced"}, {"part": "ood"}, {"drop_last": True}])
def test_a_resumed_epoch_is_the_rest_of_it(arguments: dict[str, Any]) -> None:
    whole = loader(**arguments)
    epochs = [read(whole) for _ in range(3)]
    assert len(epochs[1]) == len(whole) > 2
    for taken in range(len(whole) + 1):
        first = loader(**arguments)
        read(first)
        iterator = iter(first)
        assert read(next(iterator) for _ in range(taken)) == epochs[1][:taken]
        # Batches that were made ahead do not count as yielded.
        state = json.loads(json.dumps(first.state_dict()))
        assert (state["epoch"], state["batch"]) == (1, taken)
        second = loader(**arguments)
        second.load_state_dict(state)
        rest = epochs[1][taken:]
        assert read(second) == (rest or epochs[2])
        if rest:
            assert read(second) == epochs[2], "the next epoch is whole"


def test_every_iteration_is_another_epoch() -> None:
    all_cells = loader()
    first, second = read(all_cells), read(all_cells)
    assert first != second and sorted(sum((cells for cells, _ in first), [])) == sorted(sum((cells for cells, _ in second), []))
    all_cells.set_epoch(0)
    assert all_cells.epoch == 0 and read(all_cells) == first
    # An iteration that was broken off is over.
    next(iter(all_cells))
    assert all_cells.epoch == 1
    third = read(all_cells)
    assert all_cells.epoch == 3 and third not in (first, second)
    with pytest.raises(pb.UsageError, match="epochs count from 0"):
        all_cells.set_epoch(-1)


def test_the_seed_makes_another_order() -> None:
    assert read(loader(seed=1)) == read(loader(seed=1)) != read(loader(seed=2))
    assert read(loader(threads=1)) == read(loader(threads=3)) == read(loader(memory=1 << 20)), "and nothing else does"


@pytest.mark.parametrize(
    ("arguments", "differing"),
    [
        ({"seed": 1}, ["seed was 0, and is 1"]),
        ({"batch_size": 64}, ["batch_size was 100, and is 64"]),
        ({"part": "valid"}, ["cells was ", "part was 'train', and is 'valid'"]),
        ({"split": None}, ["split was 'half', and is None"]),
        ({"sampling": "balanced"}, ["sampling was 'uniform', and is 'balanced'"]),
        ({"drop_last": True, "window": 300}, ["drop_last was False, and is True; window was None, and is 300"]),
    ],
)
def test_a_state_of_another_loader_is_refused(arguments: dict[str, Any], differing: list[str]) -> None:
    other = loader(**arguments)
    with pytest.raises(pb.UsageError, match="the state is of another loader") as refused:
        other.load_state_dict(loader().state_dict())
    for one in differing:
        assert one in str(refused.value)
    assert other.state_dict()["batch"] == 0


def test_a_state_of_another_atlas_or_of_no_loader_is_refused() -> None:
    with pytest.raises(pb.UsageError, match="atlas was '[0-9a-f]{16}', and is '[0-9a-f]{16}'; cells was"):
        logarithms().open().loader(100, split="half").load_state_dict(loader().state_dict())
    for state in ({}, {"epoch": 1, "batch": 2}, None, 3):
        with pytest.raises(pb.UsageError, match="this is not a state of a loader"):
            loader().load_state_dict(state)


def test_what_batches_look_like_may_change_between_states() -> None:
    first = loader()
    iterator = iter(first)
    next(iterator)
    second = loader(format="csr", genes=["g3"], columns=["donor"], normalize="log1p_cp10k")
    second.load_state_dict(first.state_dict())
    assert next(iter(second)).cell.tolist() == next(iterator).cell.tolist()


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("arguments", [{}, {"part": "ood"}, {"drop_last": True}, {"sampling": "paired"}])
def test_ranks_share_an_epoch(ranks: int, arguments: dict[str, Any]) -> None:
    one = [batch.cell.tolist() for batch in loader(batch_size=40, **arguments)]
    shares = [loader(batch_size=40, rank=rank, world_size=ranks, **arguments) for rank in range(ranks)]
    read_by_rank = [[batch.cell.tolist() for batch in share] for share in shares]
    assert [len(share) for share in shares] == [len(batches) for batches in read_by_rank]
    for rank, batches in enumerate(read_by_rank):
        assert batches == one[rank::ranks][: len(batches)], "the order is that of one process"
    if arguments.get("part") == "ood":
        assert sum(map(len, read_by_rank)) == len(one), "no held-out cell is left out"
    else:
        assert {len(batches) for batches in read_by_rank} == {len(one) // ranks}, "all ranks take as many steps"


def test_a_state_is_the_same_for_every_rank() -> None:
    first = loader(batch_size=40, rank=0, world_size=2)
    iterator = iter(first)
    next(iterator), next(iterator)
    second = loader(batch_size=40, rank=1, world_size=2)
    second.load_state_dict(first.state_dict())
    assert read(second) == read(loader(batch_size=40, rank=1, world_size=2))[2:]


@pytest.mark.parametrize(("before", "now"), [(4, 2), (2, 4), (1, 2), (4, 1)])
def test_other_numbers_of_ranks_go_on_where_a_state_was_taken(before: int, now: int) -> None:
    """Every cell comes once: from the ranks before the state was taken, or from those after it."""
    one = [batch.cell.tolist() for batch in loader(batch_size=40)]
    ranks = [loader(batch_size=40, rank=rank, world_size=before) for rank in range(before)]
    passed = 4 // before
    for rank in ranks:
        iterator = iter(rank)
        first = [next(iterator).cell.tolist() for _ in range(passed)]
    assert first == one[before - 1 : 4 : before]
    for rank in range(now):
        other = loader(batch_size=40, rank=rank, world_size=now)
        other.load_state_dict(ranks[0].state_dict())
        assert [batch.cell.tolist() for batch in other] == one[4 + rank :: now][: len(other) - 4 // now]


def test_a_number_of_ranks_that_does_not_divide_what_was_yielded_is_refused() -> None:
    first = loader(batch_size=40, rank=0, world_size=2)
    iterator = iter(first)
    for _ in range(3):
        next(iterator)
    with pytest.raises(pb.UsageError, match="world_size was 2, and is 4: the 6 batches of the epoch") as refused:
        loader(batch_size=40, rank=0, world_size=4).load_state_dict(first.state_dict())
    assert refused.value.hint == "go on with a world size that divides them, such as 1, 2, 3, 6"


def test_pickled_loaders_go_on_where_they_were() -> None:
    first = loader(columns=["donor"], genes=["g5", "g2"])
    iterator = iter(first)
    next(iterator)
    second = pickle.loads(pickle.dumps(first))
    assert second.state_dict() == first.state_dict() and second.genes == ["g5", "g2"]
    second.load_state_dict(first.state_dict())
    assert read(second) == read(iterator)


def test_pickled_batches_are_copies() -> None:
    for format in ("dense", "csr", "packed"):
        batch = next(iter(loader(format=format, columns=["donor"])))
        again = pickle.loads(pickle.dumps(batch))
        assert again.shape == batch.shape and repr(again) == repr(batch)
        for name in ("cell", "condition", "dose"):
            np.testing.assert_array_equal(getattr(again, name), getattr(batch, name))
        np.testing.assert_array_equal(again["donor"], batch["donor"])
        np.testing.assert_array_equal(again.perturbations.doses, batch.perturbations.doses)
        if format == "dense":
            np.testing.assert_array_equal(again.x, batch.x)
        elif format == "csr":
            assert (again.x != batch.x).nnz == 0
        else:
            np.testing.assert_array_equal(again.x.dense(), batch.x.dense())
