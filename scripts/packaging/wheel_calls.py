"""Tries an installed wheel for check.py; with `train`, also the calls that need libtorch."""

import sys

import perturbine as pb

if sys.argv[1:] == ["train"]:
    model = pb.train("screen.atlas", "screen.model", split="pairs", epochs=1)
    written = model.predict("screen.atlas", to="ood", out="predictions.parquet")
    assert written.summary["rows"] > 0, written
else:
    pb.simulate("screen.h5ad", cells=400, genes=50, conditions=6, combos=2, cell_types=2)
    atlas = pb.ingest("screen.h5ad", out="screen.atlas")
    pb.split(atlas, name="pairs", scheme="combos:0.5")
    assert pb.inspect(atlas)["cells"] == 400
    loader = pb.open("screen.atlas").loader(batch_size=64, split="pairs", part="train", seed=0)
    cells = sum(len(batch) for batch in loader)
    assert cells == pb.inspect(atlas)["splits"]["pairs"]["train"], cells
