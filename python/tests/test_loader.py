"""Batches are what a naive computation from the same file gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import perturbine as pb
import pytest
import scipy.sparse
from perturbine._batch import Packed
from perturbine._atlas import open as open_atlas
from screens import CONDITIONS, DOSES, Screen, counts, folder, log1p_cp10k, logarithms, run

ORDER = Path(__file__).parent / "order.json"


def dense(x: Any) -> np.ndarray:
    """The rows of a batch in any format."""
    if isinstance(x, Packed):
        return x.dense()
    return x.toarray() if scipy.sparse.issparse(x) else x


def cells_of(loader: Any) -> np.ndarray:
    """The cells of an epoch, in order."""
    return np.concatenate([batch.cell.copy() for batch in loader])


@pytest.mark.parametrize("access", ["map", "read"])
@pytest.mark.parametrize("normalize", [None, "log1p_cp10k"])
@pytest.mark.parametrize("genes", [None, [3, 4, 11, 60], [60, 2, 11]])
@pytest.mark.parametrize("format", ["dense", "csr", "packed"])
def test_rows_are_those_of_the_file(format: str, genes: list[int] | None, normalize: str | None, access: str) -> None:
    screen = counts()
    loader = screen.open(access).loader(128, format=format, genes=genes, normalize=normalize, output="numpy")
    assert loader.genes == [screen.genes[place] for place in (range(70) if genes is None else genes)]
    seen = 0
    for batch in loader:
        rows = screen.x[batch.cell].toarray()
        expected = log1p_cp10k(rows) if normalize else rows
        expected = expected if genes is None else expected[:, genes]
        found = dense(batch.x)
        assert found.dtype == np.float32 and batch.shape == found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=3e-7 if normalize else 0, atol=0)
        seen += len(batch)
    assert seen == 1500


def test_formats_have_the_types_that_others_take() -> None:
    atlas = counts().open()
    csr = next(iter(atlas.loader(64, format="csr", output="numpy"))).x
    assert isinstance(csr, scipy.sparse.csr_matrix) and csr.has_sorted_indices
    assert (csr.indptr.dtype, csr.indices.dtype, csr.data.dtype) == (np.int32, np.int32, np.float32)
    packed = [batch.x for batch in atlas.loader(32, format="packed", output="numpy")]
    assert {x.genes.dtype for x in packed} == {np.dtype("uint16")}
    # A batch is as wide as its largest count, and no wider.
    for x in packed:
        largest = x.values.max()
        assert x.values.dtype == (np.uint8 if largest < 256 else np.uint16 if largest < 65536 else np.uint32)
    assert {str(x.values.dtype) for x in packed} == {"uint8", "uint16", "uint32"}


def test_continuous_values_come_as_they_are() -> None:
    screen = logarithms()
    for format in ("dense", "csr", "packed"):
        for batch in screen.open().loader(64, format=format, output="numpy"):
            np.testing.assert_array_equal(dense(batch.x), screen.x[batch.cell].toarray())
    with pytest.raises(pb.UsageError, match="below 0") as refused:
        screen.open().loader(normalize="log1p_cp10k")
    assert "ingest the counts" in str(refused.value)


def test_labels_and_columns_are_those_of_the_cells() -> None:
    screen = counts()
    columns = ["donor", "note", "total", "share", "is_late", "maybe", "condition"]
    loader = screen.open().loader(200, columns=columns, output="numpy")
    assert set(loader.categories) == {"donor", "note", "condition"}
    for batch in loader:
        obs = screen.obs.iloc[batch.cell]
        assert [loader.conditions[code] for code in batch.condition] == obs.condition.tolist()
        assert [loader.doses[code] for code in batch.condition] == obs.dose.tolist()
        for name in ("donor", "condition"):
            assert [loader.categories[name][code] for code in batch[name]] == obs[name].tolist()
        notes = [None if code < 0 else loader.categories["note"][code] for code in batch["note"]]
        assert notes == [None if pd.isna(note) else note for note in obs.note]
        np.testing.assert_array_equal(batch["total"], obs.total)
        np.testing.assert_array_equal(batch["share"], obs.share)
        np.testing.assert_array_equal(batch["is_late"], obs.is_late)
        np.testing.assert_array_equal(batch["maybe"], obs.maybe)
        assert [batch[name].dtype.name for name in columns] == [
            "int64", "int64", "int64", "float64", "bool", "float32", "int64",
        ]  # fmt: skip
        with pytest.raises(KeyError, match=r"no column 'plate'; it has donor.*columns=\["):
            batch["plate"]


def test_perturbations_are_lists_with_doses() -> None:
    screen = counts()
    loader = screen.open().loader(300, output="numpy")
    for batch in loader:
        offsets, codes, doses = batch.perturbations
        for row, cell in enumerate(batch.cell):
            condition, dose = screen.obs.condition.iloc[cell], screen.obs.dose.iloc[cell]
            part = slice(offsets[row], offsets[row + 1])
            names = [loader.perturbations[code] for code in codes[part]]
            parts = [] if condition == "ctrl" else list(zip(condition.split("+"), map(float, dose.split("+"))))
            assert list(zip(names, doses[part].tolist())) == parts
            shared = {dose for _, dose in parts}
            expected = 0 if not parts else shared.pop() if len(shared) == 1 else np.nan
            np.testing.assert_equal(batch.dose[row], np.float32(expected))


@pytest.mark.parametrize("genes", [["g3", "g60", "g1"], np.array(["g3", "g60", "g1"]), np.array([3, 60, 1]), pd.Index(["g3", "g60", "g1"])])
def test_genes_are_given_in_many_ways(genes: Any) -> None:
    assert counts().open().loader(genes=genes).genes == ["g3", "g60", "g1"]
    mask = np.isin(counts().genes, ["g3", "g60", "g1"])
    assert counts().open().loader(genes=mask).genes == ["g1", "g3", "g60"]


def test_parts_of_a_split_have_their_cells() -> None:
    atlas = counts().open()
    found: list[int] = []
    for part, cells in atlas.splits["half"].items():
        if cells == 0:
            with pytest.raises(pb.UsageError, match=f"no such cell in part `{part}`"):
                atlas.loader(split="half", part=part)
            continue
        loader = atlas.loader(100, split="half", part=part, output="numpy")
        seen = cells_of(loader)
        assert len(seen) == cells and len(loader) == -(-cells // 100)
        assert (part == "train") == (not np.array_equal(seen, np.sort(seen))) or part != "train"
        found += seen.tolist()
    assert sorted(found) == list(range(1500))
    assert sorted(cells_of(atlas.loader(output="numpy"))) == list(range(1500)), "without a split, all cells"
    train = cells_of(atlas.loader(split="half", output="numpy"))
    assert len(train) == atlas.splits["half"]["train"], "`train` is the default"


def test_cells_are_shuffled_if_they_are_asked_to_be() -> None:
    atlas = counts().open()
    stored = cells_of(atlas.loader(64, split="half", shuffle=False, output="numpy"))
    shuffled = cells_of(atlas.loader(64, split="half", output="numpy"))
    assert sorted(stored) == sorted(shuffled) and stored.tolist() != shuffled.tolist()
    again = cells_of(atlas.loader(64, split="half", shuffle=False, seed=5, output="numpy"))
    assert stored.tolist() == again.tolist(), "the order of the atlas depends on no seed"
    valid = cells_of(atlas.loader(64, split="half", part="valid", output="numpy"))
    other = cells_of(atlas.loader(64, split="half", part="valid", shuffle=True, output="numpy"))
    assert sorted(valid) == sorted(other) and valid.tolist() != other.tolist()


def test_a_smaller_last_batch_can_be_left_out() -> None:
    atlas = counts().open()
    for shuffle in (True, False):
        loader = atlas.loader(64, shuffle=shuffle, drop_last=True, output="numpy")
        assert [len(batch) for batch in loader] == [64] * len(loader) == [64] * (1500 // 64)


def test_pairs_are_perturbed_cells_with_controls_of_the_same_donor() -> None:
    screen = counts()
    loader = screen.open().loader(50, split="half", sampling="paired", match_keys=["donor"], output="numpy")
    perturbed: list[int] = []
    for batch in loader:
        obs = screen.obs.iloc[batch.cell]
        first, second = obs.iloc[::2], obs.iloc[1::2]
        assert (first.condition != "ctrl").all() and (second.condition == "ctrl").all()
        assert first.donor.tolist() == second.donor.tolist()
        perturbed += batch.cell[::2].tolist()
    assert len(set(perturbed)) == len(perturbed)


def test_conditions_are_drawn_by_weight() -> None:
    screen = counts()
    atlas = screen.open()
    drawn = np.concatenate([screen.obs.condition.iloc[batch.cell] for batch in atlas.loader(500, sampling="balanced", output="numpy")])
    # Conditions with different doses are different conditions.
    shares = pd.Series(drawn).value_counts(normalize=True) / pd.Series({name: len(DOSES[name]) for name in CONDITIONS})
    assert set(shares.index) == set(CONDITIONS) and shares.between(0.09, 0.16).all()
    weights = {name: 0.0 for name in CONDITIONS if name not in ("A", "B")} | {"A": 3.0}
    loader = atlas.loader(500, sampling="weighted", condition_weights=weights, output="numpy")
    drawn = np.concatenate([screen.obs.condition.iloc[batch.cell] for batch in loader])
    assert set(drawn) == {"A", "B"} and 0.83 < (drawn == "A").mean() < 0.88


def test_kept_batches_never_change() -> None:
    """A buffer is used again only when its last view is gone, whichever view that is."""
    screen = counts()
    for format in ("dense", "csr", "packed"):
        kept = []
        loader = screen.open().loader(16, format=format, columns=["donor"], output="numpy")
        for _ in range(3):
            for batch in loader:
                x = batch.x
                view = x[2:5, 1:] if format == "dense" else x
                kept.append((view, batch.cell, batch["donor"]))
        for view, cell, donor in kept:
            rows = screen.x[cell].toarray()
            np.testing.assert_array_equal(dense(view), rows[2:5, 1:] if format == "dense" else rows)
            assert screen.open().covariates["donor"] and len(donor) == len(cell)


def test_buffers_are_used_again_and_may_be_written() -> None:
    screen = counts()
    loader = screen.open().loader(32, output="numpy", threads=1)
    addresses = []
    for batch in loader:
        np.testing.assert_array_equal(batch.x, screen.x[batch.cell].toarray())
        addresses.append(batch.x.__array_interface__["data"][0])
        batch.x[:] = -1
        del batch
    assert len(set(addresses)) < len(addresses) / 2


def test_the_order_is_that_of_training() -> None:
    """`tests/atlas/loader_order.rs` checks the same numbers against the order from which networks are trained."""
    kept = json.loads(ORDER.read_text())
    screen = _simulated(kept["simulate"])
    loader = screen.loader(kept["batch_size"], seed=kept["seed"], window=kept["window"], output="numpy")
    for epoch, batches in enumerate(kept["first_batches_of_epochs"]):
        loader.set_epoch(epoch)
        found = [batch.cell.tolist() for batch, _ in zip(loader, batches)]
        assert found == batches


def _simulated(settings: dict[str, int]) -> Any:
    file, atlas = folder() / "simulated.h5ad", folder() / "simulated.atlas"
    run("simulate", "--out", file, *(part for name, value in settings.items() for part in (f"--{name}", value)))
    run("ingest", file, "--out", atlas)
    return open_atlas(atlas)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ({"split": "haf"}, 65, "unknown split `haf`; the nearest known: half"),
        ({"split": "half", "part": "test"}, 65, "unknown part of a split `test`; the nearest known: "),
        ({"part": "valid"}, 2, 'part="valid" is a part of a split, but there is none\n  hint: write split=NAME'),
        ({"columns": ["doner"]}, 65, "unknown obs column `doner`; the nearest known: donor"),
        ({"genes": ["g1", "h1"]}, 65, "unknown gene `h1`; the nearest known: g1"),
        ({"genes": ["g1", "g1"]}, 2, "gene `g1` is given more often"),
        ({"genes": [70]}, 2, "there is no gene 70: the atlas has 70"),
        ({"genes": [-1]}, 2, "there is no gene -1: the atlas has 70"),
        ({"seed": -1}, 2, "seed=-1 is out of range"),
        ({"window": 1 << 40}, 2, "is out of range"),
        ({"genes": [1, 1]}, 2, "gene 1, `g1`, is given twice"),
        ({"genes": [True, False]}, 2, "the mask has 2 genes, the atlas 70"),
        ({"genes": "g1"}, 2, "write genes=['g1']"),
        ({"genes": ["g1", 2]}, 2, "mixes names, places"),
        ({"genes": []}, 2, "no gene is left"),
        ({"batch_size": 0}, 2, "0 is not a batch size"),
        ({"batch_size": -3}, 2, "-3 is not a batch size"),
        ({"format": "spares"}, 65, "unknown format `spares`; the nearest known: "),
        ({"normalize": "log1p"}, 65, "unknown normalisation `log1p`; the nearest known: log1p_cp10k"),
        ({"sampling": "pairs"}, 65, "unknown sampling `pairs`; the nearest known: paired"),
        ({"sampling": "paired", "match_keys": ["doner"]}, 65, "unknown covariate `doner`; the nearest known: donor"),
        ({"match_keys": ["donor"]}, 2, 'match_keys does nothing with sampling="uniform"'),
        ({"condition_weights": {"A": 2}}, 2, "condition_weights does nothing"),
        ({"sampling": "weighted", "condition_weights": {"Z": 2}}, 65, "unknown condition `Z`"),
        ({"sampling": "balanced", "split": "half", "part": "ood"}, 2, "draws from training cells"),
        ({"rank": 2, "world_size": 2}, 2, "rank 2 is not one of 2 processes\n  hint: ranks count from 0"),
        ({"rank": -1}, 2, "rank -1 is not one of 1 processes"),
        ({"output": "jax"}, 2, "output='jax' is not a kind of array"),
        ({"threads": 0}, 2, "0 threads make no batch"),
        ({"memory": 1000}, 2, "1000 bytes of memory are too few"),
    ],
)
def test_wrong_arguments_are_told_what_to_write(arguments: dict[str, Any], code: int, says: str) -> None:
    with pytest.raises(pb.Error) as refused:
        counts().open().loader(**arguments)
    assert refused.value.code == code and isinstance(refused.value, ValueError)
    assert says in str(refused.value)


def test_the_environment_says_which_rank_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert len(counts().open().loader(100)) == 5
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(pb.UsageError, match="the environment's RANK is 'one'"):
        counts().open().loader(100)


def test_the_loader_says_what_it_is() -> None:
    screen: Screen = counts()
    loader = screen.open().loader(100, split="half")
    assert repr(loader) == f"<Loader of {screen.atlas}: split 'half', part 'train', {len(loader)} batches of 100, dense>"
    batch = next(iter(loader))
    assert repr(batch) == "<Batch of 100 cells × 70 genes (dense): x, condition, cell>"
