"""Predicted means of a folder's models, beside those of the same models as PyTorch modules; prints the largest difference of each."""

import sys
from pathlib import Path

import anndata
import numpy as np
import pyarrow.parquet as pq
import torch

home, example = map(Path, sys.argv[1:3])
sys.path.insert(0, str(example))
from perturbine_torch import CPA  # noqa: E402

cells = anndata.read_h5ad(home / "s.h5ad")
counts = torch.tensor(cells.X.astype(np.float32).toarray())
for folder in sorted(card.parent for card in home.glob("*/model.json")):
    model = CPA.load(folder)
    genes = [list(cells.var_names).index(gene) for gene in model.genes]
    covariates, worst = [covariate["name"] for covariate in model.vocabulary["covariates"]], 0.0
    rows = pq.read_table(folder.with_suffix(".parquet")).to_pylist()
    assert rows, f"nothing was predicted by {folder}"
    for row in rows:
        source = cells.obs["condition"] == "ctrl"
        for name in covariates:
            source &= cells.obs[name] == row[name]
        condition = list(zip(row["condition"].split("+"), map(float, row["dose"].split("+"))))
        x = counts[np.flatnonzero(source)][:, genes]
        with torch.no_grad():
            labels = model.covariates([{name: row[name] for name in covariates}] * len(x))
            mean = model(x, model.perturbations([condition] * len(x)), labels).mean(0).numpy()
        told = np.array(row["mean"])
        worst = max(worst, float(np.abs(mean - told).max() / told.max()))
    print(folder.name, len(rows), worst)
