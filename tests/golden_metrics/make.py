"""Makes cases.json: small data, and what other packages say of them.

    pip install scikit-learn==1.9.1 scipy==1.17.1 pertpy==1.0.3 cell-eval==0.8.2 statsmodels==0.14.5 filelock
    python tests/golden_metrics/make.py

tests/golden_metrics.rs asks for the same numbers.
"""

import json
from importlib.metadata import version
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import polars as pl
from cell_eval._types import PerturbationAnndataPair, initialize_de_comparison
from cell_eval.metrics._anndata import discrimination_score, mse_delta, pearson_delta
from cell_eval.metrics._de import DEDirectionMatch, de_overlap_metric
from pertpy.tools._distances._distances import MMD, Edistance
from scipy.spatial.distance import pdist
from scipy.stats import false_discovery_control, pearsonr, ttest_ind
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.metrics.pairwise import rbf_kernel

random = np.random.default_rng(20)


def lists(array):
    return np.asarray(array, dtype=float).tolist()


def profiles():
    """Cells of a condition and of two halves of controls, and a prediction of their mean and variance."""
    genes = 60
    level = random.gamma(2.0, 1.0, genes)
    effect = np.where(random.random(genes) < 0.4, random.normal(0.0, 1.0, genes), 0.0)
    draw = lambda cells, mean: np.round(np.log1p(random.poisson(np.maximum(mean, 0.05), (cells, genes))), 4)
    truth, reference, source = draw(70, level + effect), draw(60, level), draw(25, level)
    mean = np.round(source.mean(axis=0) + 0.7 * effect / (1.0 + level) + random.normal(0.0, 0.25, genes), 4)
    variance = np.round(truth.var(axis=0, ddof=1) * random.uniform(0.5, 1.5, genes), 4)

    real_change = truth.mean(axis=0) - reference.mean(axis=0)
    change = mean - source.mean(axis=0)
    noise = truth.var(axis=0) / len(truth) + reference.var(axis=0) / len(reference)
    order = np.argsort(-np.abs(real_change) / np.sqrt(noise + 1e-9), kind="stable")
    fdr = false_discovery_control(ttest_ind(truth, reference, equal_var=False).pvalue)
    expected = {
        "r2_mean": r2_score(truth.mean(axis=0), mean),
        "r2_var": r2_score(truth.var(axis=0, ddof=1), variance),
        "pearson_delta": pearsonr(real_change, change).statistic,
        "mse_delta": mean_squared_error(real_change, change),
    }
    for count in [10, 20, 50]:
        top = order[:count]
        expected[f"r2_mean_top{count}"] = r2_score(truth.mean(axis=0)[top], mean[top])
        expected[f"r2_var_top{count}"] = r2_score(truth.var(axis=0, ddof=1)[top], variance[top])

    # Every gene counts as found in the prediction, since means alone tell no p-values.
    table = lambda change, fdr: pl.DataFrame(
        {
            "target": ["A"] * genes,
            "feature": [f"gene_{gene}" for gene in range(genes)],
            "log2_fold_change": change,
            "p_value": fdr,
            "fdr": fdr,
        }
    )
    compared = initialize_de_comparison(table(real_change, fdr), table(change, np.zeros(genes)))
    for count in [20, 50]:
        expected[f"de_overlap_top{count}"] = de_overlap_metric(compared, k=count)["A"]
    expected["de_direction"] = DEDirectionMatch()(compared)["A"]
    return {
        "truth": lists(truth),
        "reference": lists(reference),
        "source": lists(source),
        "mean": lists(mean),
        "variance": lists(variance),
        "expected": {name: float(value) for name, value in expected.items()},
        "differential": np.flatnonzero(fdr < 0.05).tolist(),
    }


def clouds():
    """Two clouds of cells, of unequal numbers."""
    real = np.round(random.normal(0.0, 1.0, (14, 5)), 4)
    predicted = np.round(random.normal(0.4, 1.3, (11, 5)), 4)
    gamma = 1.0 / np.median(pdist(real, "sqeuclidean"))
    kernel = lambda a, b: rbf_kernel(a, b, gamma=gamma).mean()
    by_hand = kernel(real, real) + kernel(predicted, predicted) - 2.0 * kernel(real, predicted)
    mmd = MMD()(predicted, real, kernel="rbf", gamma=gamma)
    assert np.isclose(mmd, by_hand)
    return {
        "real": lists(real),
        "predicted": lists(predicted),
        "expected": {"gamma": float(gamma), "e_distance": float(Edistance()(predicted, real)), "mmd": float(mmd)},
    }


def discrimination():
    """Conditions of one context, some of which target a gene that is measured, and predictions of all of them."""
    genes = [f"gene_{gene}" for gene in range(25)]
    conditions = ["gene_3", "gene_7", "gene_11", "drug_a", "drug_b", "drug_c"]
    effects = {name: random.normal(0.0, 1.0, len(genes)) for name in conditions}
    for name in conditions[:3]:
        effects[name][genes.index(name)] = -6.0
    level = random.uniform(1.0, 4.0, len(genes))

    def cells(noise):
        rows, labels = [], []
        for name in ["ctrl", *conditions]:
            mean = level + effects.get(name, 0.0) + random.normal(0.0, noise, len(genes))
            rows.append(np.round(mean + random.normal(0.0, 0.3, (6, len(genes))), 4))
            labels += [name] * 6
        obs = pd.DataFrame({"target": labels}, index=[str(row) for row in range(len(labels))])
        return anndata.AnnData(np.concatenate(rows), obs=obs, var=pd.DataFrame(index=genes))

    real, predicted = cells(0.0), cells(4.0)
    pair = PerturbationAnndataPair(real=real, pred=predicted, pert_col="target", control_pert="ctrl")
    means = lambda data: {name: lists(data[data.obs["target"] == name].X.mean(axis=0)) for name in ["ctrl", *conditions]}
    told = {"rank": discrimination_score(pair), "pearson_delta": pearson_delta(pair), "mse_delta": mse_delta(pair)}
    return {
        "genes": genes,
        "real": means(real),
        "predicted": means(predicted),
        "expected": {score: {name: float(value) for name, value in by.items()} for score, by in told.items()},
    }


packages = ["numpy", "scipy", "scikit-learn", "pertpy", "cell-eval"]
cases = {
    "packages": {package: version(package) for package in packages},
    "profiles": profiles(),
    "clouds": clouds(),
    "discrimination": discrimination(),
}
Path(__file__).with_name("cases.json").write_text(json.dumps(cases, indent=None, separators=(",", ":")) + "\n")
