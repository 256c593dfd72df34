"""Prepares predictions and real cells as cell-eval wants them (log1p of counts scaled to 10,000 a cell), and runs it on them.

Arguments: predictions (an .h5ad with real controls), real cells, a folder to write to.
"""

import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import polars

predicted, real, out = anndata.read_h5ad(sys.argv[1]), anndata.read_h5ad(sys.argv[2]), Path(sys.argv[3])
out.mkdir()
same = predicted.obs["extrapolation"] == "observed"
assert same.any() and (predicted.obs["condition"][same] == "ctrl").all()
dense = anndata.AnnData(X=np.asarray(real.X.todense()), obs=real.obs.copy(), var=real.var.copy())
copied = dense[predicted.obs["cell"][same].to_list()].X
assert np.array_equal(np.asarray(predicted[same].X), copied), "controls are copied as they are"
dense = dense[dense.obs["condition"].isin(predicted.obs["condition"].unique())].copy()
for data, name in ((predicted, "predicted"), (dense, "real")):
    values = np.asarray(data.X, dtype=np.float32)
    data.X = np.log1p(values / values.sum(axis=1, keepdims=True) * 1e4)
    data.write_h5ad(out / f"{name}.h5ad")
command = [str(Path(sys.executable).parent / "cell-eval"), "run", "-ap", "predicted.h5ad", "-ar", "real.h5ad"]
command += ["--control-pert", "ctrl", "--pert-col", "condition", "--profile", "minimal", "-o", "scores", "--num-threads", "1"]
subprocess.run(command, cwd=out, check=True, stdout=sys.stderr)
scores = polars.read_csv(out / "scores" / "results.csv")
print(scores.select("perturbation", "pearson_delta", "mse").write_json())
