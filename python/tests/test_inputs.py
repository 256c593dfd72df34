"""Cells in memory become an atlas; nothing else is left behind."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import perturbine as pb
import pyarrow as pa
import pytest


def test_an_anndata_object_becomes_the_atlas_of_its_file(screen: SimpleNamespace, tmp_path: Path) -> None:
    adata = anndata.read_h5ad(screen.file)
    atlas = pb.ingest(adata, out=tmp_path / "memory.atlas")
    assert isinstance(atlas, pb.Atlas) and atlas.path == tmp_path / "memory.atlas"
    ours, theirs = pb.inspect(atlas), pb.inspect(screen.atlas)
    for name in ("cells", "genes", "nonzeros", "conditions", "covariates", "values"):
        assert ours[name] == theirs[name], name
    assert [path.name for path in tmp_path.iterdir()] == ["memory.atlas"], "the file between is removed"


def test_several_objects_and_files_are_joined(screen: SimpleNamespace, tmp_path: Path) -> None:
    adata = anndata.read_h5ad(screen.file)
    atlas = pb.ingest(adata[:200], [adata[200:].copy(), screen.file], out=tmp_path / "joined.atlas")
    assert len(atlas) == 2 * adata.n_obs


def test_an_arrow_table_becomes_an_atlas(screen: SimpleNamespace, tmp_path: Path) -> None:
    adata = anndata.read_h5ad(screen.file)
    genes = {name: column for name, column in zip(adata.var_names, np.asarray(adata.X.todense()).T)}
    labels = {name: pa.array(adata.obs[name].astype(str)) for name in ("condition", "cell_type")}
    table = pa.table({**labels, **genes})
    atlas = pb.ingest(table, out=tmp_path / "table.atlas", covariates=["cell_type"])
    assert pb.inspect(atlas)["nonzeros"] == pb.inspect(screen.atlas)["nonzeros"]
    assert [path.name for path in tmp_path.iterdir()] == ["table.atlas"]


def test_predictions_in_memory_are_judged_under_their_names(screen: SimpleNamespace, tmp_path: Path) -> None:
    def predict(**how: object) -> pb.Prediction:
        return screen.model.predict(screen.atlas, to="ood", **how)

    predict(out=tmp_path / "file.h5ad")
    judged = pb.judge(tmp_path / "file.h5ad", {"mine": predict().to_anndata()}, truth=screen.atlas)
    file, mine = (one["mean"]["pearson_delta"] for one in judged["predictions"])
    assert judged.scores["prediction"][:2] == ["file.h5ad", "mine.h5ad"] and file == pytest.approx(mine)
    with pytest.raises(pb.UsageError, match="cannot be the name of a file"):
        pb.judge({"a/b": tmp_path / "file.h5ad"}, truth=screen.atlas)
    with pytest.raises(pb.UsageError, match="needs the argument `predictions`"):
        pb.judge(truth=screen.atlas)


def test_columns_have_the_types_that_pandas_gives_them(screen: SimpleNamespace, tmp_path: Path) -> None:
    adata = anndata.read_h5ad(screen.file)
    at = np.arange(adata.n_obs)
    adata.obs = pd.DataFrame(
        {
            "condition": pd.Categorical(adata.obs["condition"]),
            "lane": (at % 4).astype(np.int32),
            "share": (at / 7).astype(np.float32),
            "late": at % 2 == 0,
            "score": pd.array(at % 5, dtype="Int64"),
            "note": [f"n{number % 3}" for number in at],
        },
        index=adata.obs_names,
    )
    adata.obs["note"] = adata.obs["note"].astype(object)
    adata.var["kind"] = pd.Categorical(["a"] * adata.n_vars)
    for name in ("types.h5ad", "types.zarr"):
        written = tmp_path / name
        (adata.write_h5ad if name.endswith("h5ad") else adata.write_zarr)(written)
        shown = pb.inspect(written)
        types = {column["name"]: column["dtype"] for column in shown["obs_columns"]}
        # anndata stores texts that come twice as categories.
        expected = {"condition": "category", "lane": "int32", "share": "float32", "late": "bool", "score": "Int64", "note": "category"}
        assert types == expected, name
        assert {"name": "kind", "dtype": "category"} in shown["var"], name


def test_a_model_of_logarithms_that_meets_counts_names_their_layer(screen: SimpleNamespace, tmp_path: Path) -> None:
    adata = anndata.read_h5ad(screen.file)
    logarithms = adata.copy()
    logarithms.X = adata.X.log1p()
    logarithms.write_h5ad(tmp_path / "logs.h5ad")
    model = pb.train(pb.ingest(tmp_path / "logs.h5ad", out=tmp_path / "logs.atlas"), tmp_path / "m", epochs=1)
    adata.layers["lognorm"] = logarithms.X
    adata.write_h5ad(tmp_path / "both.h5ad")
    counts = pb.ingest(tmp_path / "both.h5ad", out=tmp_path / "counts.atlas")
    with pytest.raises(pb.DataError) as raised:
        model.predict(counts, to="observed", out=tmp_path / "p")
    assert raised.value.hint == "both.h5ad also holds logarithms: ingest it again with --layer lognorm"


def test_what_has_no_cells_is_refused(screen: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(pb.UsageError, match="from an object of the type int"):
        pb.ingest(5, out=tmp_path / "x.atlas")
    adata = anndata.read_h5ad(screen.file)
    with pytest.raises(pb.UsageError, match="in_place"):
        pb.ingest(adata, out=tmp_path / "x.atlas", in_place=True)
    with pytest.raises(pb.OutputError, match="could not be written"):
        pb.ingest(adata, out=tmp_path / "missing" / "x.atlas")
    with pytest.raises(pb.DataError, match="labels"):
        pb.ingest(adata, out=tmp_path / "x.atlas", perturbation="labels")
    assert not list(tmp_path.iterdir()), "a failure leaves nothing"
