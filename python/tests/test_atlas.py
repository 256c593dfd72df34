"""An atlas as a Python object."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import perturbine as pb
import pyarrow as pa
import pytest
from perturbine import _native
from perturbine._atlas import open as open_atlas
from screens import counts


def test_an_atlas_says_what_it_holds() -> None:
    screen = counts()
    atlas = screen.open()
    assert (atlas.cells, len(atlas), atlas.shape) == (1500, 1500, (1500, 70))
    assert atlas.genes == screen.genes and atlas.nonzeros == screen.x.nnz and atlas.values == "counts"
    assert atlas.covariates.keys() == {"donor"} and sorted(atlas.covariates["donor"]) == ["d1", "d2", "d3"]
    assert os.fspath(atlas) == str(screen.atlas) == str(atlas.path)
    assert repr(atlas).startswith(f"Atlas {screen.atlas}: 1,500 cells × 70 genes, ") and repr(atlas).endswith("splits half")
    assert sum(atlas.splits["half"].values()) == 1500 and len(atlas.checksum) == 16
    expected = screen.obs.groupby(["condition", "dose"]).size()
    found = {(row["condition"], row["dose"]): row["cells"] for row in atlas.conditions}
    assert found == expected.to_dict() and atlas.conditions["condition"][0] == "ctrl"


def test_obs_is_an_arrow_stream() -> None:
    screen = counts()
    atlas = screen.open()
    stream = atlas.obs()
    table = pa.table(stream)
    assert table.num_rows == 1500 and set(screen.obs.columns) <= set(table.column_names) == set(stream.columns)
    assert table["donor"].to_pylist() == screen.obs.donor.tolist()
    np.testing.assert_array_equal(table["share"].to_numpy(), screen.obs.share)
    again = pa.table(stream).drop(["maybe"])
    assert table.drop(["maybe"]).equals(again), "it can be taken again, and NaN equals nothing"
    some = pa.table(atlas.obs(["total", "donor"]))
    assert sorted(some.column_names) == ["donor", "total"]
    with pytest.raises(pb.DataError, match="unknown obs column `doner`; the nearest known: donor"):
        atlas.obs(["doner"])


def test_an_arrow_stream_becomes_a_file(tmp_path: Path) -> None:
    def parts():
        for start in (0, 3):
            yield pa.record_batch({"n": range(start, start + 3), "word": pa.array(list("aba")).dictionary_encode()})

    schema = next(parts()).schema
    out = tmp_path / "table.arrow"
    assert _native.write_table(pa.RecordBatchReader.from_batches(schema, parts()), out) == 6
    written = pa.ipc.open_file(out).read_all()
    assert written["n"].to_pylist() == list(range(6)) and written["word"].to_pylist() == list("abaaba")
    assert written.schema.field("word").type == pa.string()
    capsule = pa.RecordBatchReader.from_batches(schema, parts()).__arrow_c_stream__()
    taken = SimpleNamespace(__arrow_c_stream__=lambda: capsule)
    _native.write_table(taken, tmp_path / "once.arrow")
    with pytest.raises(pb.UsageError, match="a stream can be taken once: make it again"):
        _native.write_table(taken, tmp_path / "twice.arrow")

    def broken():
        yield next(parts())
        raise ValueError("the source is gone")

    with pytest.raises(pb.DataError, match="the source is gone"):
        _native.write_table(pa.RecordBatchReader.from_batches(schema, broken()), tmp_path / "broken.arrow")
    with pytest.raises(AttributeError, match="__arrow_c_stream__"):
        _native.write_table([1, 2], tmp_path / "list.arrow")


def test_a_file_is_read_in_place(tmp_path: Path) -> None:
    screen = counts()
    atlas = open_atlas(screen.file)
    scratch = atlas.path
    assert atlas.is_scratch and scratch.exists() and atlas.cells == 1500
    for batch in atlas.loader(100, shuffle=False, output="numpy"):
        np.testing.assert_array_equal(batch.x, screen.x[batch.cell].toarray())
    again = pickle.loads(pickle.dumps(atlas))
    assert again.path == scratch and not again.is_scratch
    del batch
    del atlas, again
    assert not scratch.exists(), "what is known of a file goes with the atlas"
    child = subprocess.run(
        [sys.executable, "-c", FORKED, str(screen.file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert child.stdout.split() == ["True"] and child.returncode == 0, child.stderr


FORKED = """
import os, sys
from perturbine._atlas import open
atlas = open(sys.argv[1])
if (child := os.fork()) == 0:
    del atlas
    os._exit(0)
os.waitpid(child, 0)
print(atlas.path.exists())
"""


def test_a_file_that_cannot_be_read_in_place_is_sent_to_ingest(tmp_path: Path) -> None:
    import anndata

    cells = anndata.read_h5ad(counts().file)
    cells.obs = cells.obs[["share"]]
    cells.write_h5ad(tmp_path / "unlabelled.h5ad")
    with pytest.raises(pb.Error, match=r"perturbine\.ingest\(file, out="):
        open_atlas(tmp_path / "unlabelled.h5ad")


@pytest.mark.parametrize(
    ("path", "exception", "says"),
    [
        ("nowhere.atlas", FileNotFoundError, "no such atlas"),
        (".", pb.DataError, "it is not an atlas"),
        ("text.h5ad", pb.Error, "text.h5ad"),
    ],
)
def test_what_is_not_an_atlas_is_refused(path: str, exception: type[Exception], says: str, tmp_path: Path) -> None:
    (tmp_path / "text.h5ad").write_text("no cells")
    with pytest.raises(exception, match=says) as refused:
        open_atlas(tmp_path / path)
    assert isinstance(refused.value, pb.Error)
    with pytest.raises(pb.UsageError, match='access="map" or access="read"'):
        open_atlas(counts().atlas, "mapped")


def test_a_damaged_block_is_an_error(tmp_path: Path) -> None:
    import shutil

    atlas = tmp_path / "damaged.atlas"
    shutil.copytree(counts().atlas, atlas)
    matrix = bytearray((atlas / "matrix.bin").read_bytes())
    matrix[len(matrix) // 2] ^= 1
    (atlas / "matrix.bin").write_bytes(matrix)
    for access in ("map", "read"):
        with pytest.raises(pb.DataError, match="checksum") as damaged:
            list(open_atlas(atlas, access).loader(64))
        assert "perturbine verify" in str(damaged.value)


def test_atlases_are_pickled_by_path() -> None:
    atlas = counts().open("read")
    again = pickle.loads(pickle.dumps(atlas))
    assert (again.path, again.access, again.checksum) == (atlas.path, "read", atlas.checksum)


def test_importing_takes_no_other_package() -> None:
    code = "import sys, perturbine; print({'torch', 'pandas', 'pyarrow', 'numpy', 'scipy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
