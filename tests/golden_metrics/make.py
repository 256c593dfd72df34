"""Makes cases.json: small data, and what other packages say of them.

    pip install scikit-learn==1.9.1 scipy==1.17.1 pertpy==1.0.3 cell-eval==0.8.2 pdex==0.3.0 scanpy==1.11.5 statsmodels==0.14.5 filelock
    python tests/golden_metrics/make.py

tests/predictions/golden_metrics.rs asks for the same numbers.
"""

import json
from importlib.metadata import version
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import polars as pl
import scanpy as sc
from cell_eval._types import PerturbationAnndataPair, initialize_de_comparison
from cell_eval.metrics._anndata import discrimination_score, mae_delta, mse_delta, pearson_delta
from cell_eval.metrics._de import (
    DEDirectionMatch,
    DENsigCounts,
    DESigGenesRecall,
    DESpearmanLFC,
    DESpearmanSignificant,
    compute_pr_auc,
    compute_roc_auc,
    de_overlap_metric,
)
from pdex import pdex
from pertpy.tools._distances._distances import MMD, Edistance
from scipy.sparse import csr_matrix
from scipy.spatial.distance import cdist, pdist
from scipy.stats import false_discovery_control, mannwhitneyu, pearsonr, ttest_ind
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from sklearn.metrics.pairwise import rbf_kernel

random = np.random.default_rng(20)

# Number of genes, the first ones, whose correlations are compared.
DEPENDENT_GENES = 15


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
        "mae_delta": mean_absolute_error(real_change, change),
    }
    noise_of_means = truth.var(axis=0, ddof=1) / len(truth) + reference.var(axis=0, ddof=1) / len(reference)
    expected["mse_beyond_noise"] = expected["mse_delta"] - noise_of_means.mean()
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
    expected["de_overlap_n"] = de_overlap_metric(compared, k=None)["A"]
    expected["de_direction"] = DEDirectionMatch()(compared)["A"]
    expected["de_spearman_lfc"] = DESpearmanLFC()(compared)["A"]
    found = fdr < 0.05
    expected["de_lfc_error"] = mean_absolute_error(real_change[found], change[found])

    pairs = np.tril_indices(DEPENDENT_GENES, -1)
    correlations = lambda cells: np.corrcoef(cells[:, :DEPENDENT_GENES], rowvar=False)[pairs]
    real, predicted = correlations(truth), correlations(reference)
    dependence = {
        "similarity": float(pearsonr(real, predicted).statistic),
        "error": float(np.sqrt(mean_squared_error(real, predicted))),
    }
    return {
        "truth": lists(truth),
        "reference": lists(reference),
        "source": lists(source),
        "mean": lists(mean),
        "variance": lists(variance),
        "expected": {name: float(value) for name, value in expected.items()},
        "differential": np.flatnonzero(fdr < 0.05).tolist(),
        "dependence": dependence,
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
    found = {"pearson_delta": pearson_delta(pair), "mse_delta": mse_delta(pair), "mae_delta": mae_delta(pair)}
    for metric in ["l1", "l2", "cosine"]:
        found[f"discrimination_score_{metric}"] = discrimination_score(pair, metric=metric)
    # Systema's centroid accuracy: how many of the other real centroids are farther from the prediction than its own.
    centroid = lambda data: np.stack([data[data.obs["target"] == name].X.mean(axis=0) for name in conditions])
    distances = cdist(centroid(predicted), centroid(real))
    farther = (distances > np.diag(distances)[:, None]).sum(axis=1) / (len(conditions) - 1)
    found["centroid_accuracy"] = dict(zip(conditions, farther))
    return {
        "genes": genes,
        "real": means(real),
        "predicted": means(predicted),
        "expected": {score: {name: float(value) for name, value in by.items()} for score, by in found.items()},
    }


def context():
    """Counts of the conditions of a context, and a prediction of one of them."""
    genes, cells = 40, {"A": 30, "B": 14, "C": 18, "D": 12}
    level = random.gamma(2.0, 1.5, genes)
    effects = {name: np.exp(np.where(random.random(genes) < 0.3, random.normal(0.0, 0.8, genes), 0.0)) for name in cells}
    counts = {name: random.poisson(level * effects[name], (count, genes)) for name, count in cells.items()}
    prediction = np.round(np.log1p(level * effects["A"] ** 0.6) + random.normal(0.0, 0.1, genes), 4)

    logs = np.log1p(np.concatenate(list(counts.values())).astype(float))
    obs = pd.DataFrame({"condition": pd.Categorical(np.repeat(list(cells), list(cells.values())))})
    obs.index = obs.index.astype(str)
    data = anndata.AnnData(logs, obs=obs, var=pd.DataFrame(index=[str(gene) for gene in range(genes)]))
    sc.tl.rank_genes_groups(data, "condition", method="t-test_overestim_var", reference="rest")
    ranked = sc.get.rank_genes_groups_df(data, "A").set_index("names").loc[data.var_names]
    statistic = ranked["scores"].to_numpy(dtype=float)
    size = np.abs(statistic)
    weights = ((size - size.min()) / (size.max() - size.min())) ** 2

    means = {name: np.log1p(counts[name].astype(float)).mean(axis=0) for name in cells}
    perturbed = np.mean([means[name] for name in "BCD"], axis=0)
    real_change, change = means["A"] - perturbed, prediction - perturbed
    return {
        "counts": {name: values.tolist() for name, values in counts.items()},
        "prediction": lists(prediction),
        "statistic": lists(statistic),
        "adjusted_p": lists(ranked["pvals_adj"]),
        "expected": {
            "pearson_perturbed": float(pearsonr(real_change, change).statistic),
            "mse_weighted": float(mean_squared_error(means["A"], prediction, sample_weight=weights)),
            "r2_delta_weighted": float(r2_score(real_change, change, sample_weight=weights)),
        },
    }


def tables():
    """Counts of real and predicted cells of some conditions, their differential genes, and the scores of these."""
    genes, conditions = 30, ["P1", "P2", "P3", "P4", "P5"]
    level = random.gamma(1.5, 1.0, genes) + 1.0
    strengths = dict(zip(conditions, [0.0, 0.4, 0.8, 1.2, 1.6]))
    effects = {name: np.clip(strengths[name] * random.normal(0.0, 0.8, genes), -1.5, 1.5) for name in conditions}

    def cells(share):
        counts = {"ctrl": random.poisson(level, (24, genes))}
        for name in conditions:
            change = share * effects[name] + (1.0 - share) * random.normal(0.0, 0.6, genes)
            counts[name] = random.poisson(level * np.exp(np.maximum(change, -1.5)), (18, genes))
        return counts

    real, predicted = cells(1.0), cells(0.7)

    def table(counts):
        labels = np.repeat(list(counts), [len(values) for values in counts.values()])
        obs = pd.DataFrame({"target": labels}, index=[str(row) for row in range(len(labels))])
        logs = csr_matrix(np.log1p(np.concatenate(list(counts.values())).astype(float)))
        var = pd.DataFrame(index=[f"gene_{gene}" for gene in range(genes)])
        data = anndata.AnnData(logs, obs=obs, var=var)
        found = pdex(data, groupby="target", mode="ref", reference="ctrl", is_log1p=True, epsilon=0.0)
        for name in conditions:
            of_scipy = mannwhitneyu(counts[name], counts["ctrl"], method="asymptotic").pvalue
            assert np.allclose(found.filter(pl.col("target") == name)["p_value"].to_numpy(), of_scipy, rtol=1e-9)
        return found

    real_table, predicted_table = table(real), table(predicted)
    compared = initialize_de_comparison(real_table, predicted_table)
    scores = {
        "overlap_at_N": de_overlap_metric(compared, k=None),
        "overlap_at_5": de_overlap_metric(compared, k=5),
        "precision_at_N": de_overlap_metric(compared, k=None, metric="precision"),
        "precision_at_5": de_overlap_metric(compared, k=5, metric="precision"),
        "de_direction_match": DEDirectionMatch()(compared),
        "de_sig_genes_recall": DESigGenesRecall()(compared),
        "de_spearman_lfc_sig": DESpearmanLFC()(compared),
        "pr_auc": compute_pr_auc(compared),
        "roc_auc": compute_roc_auc(compared),
    }
    columns = ["log2_fold_change", "p_value", "statistic", "fdr"]
    by_condition = lambda table: {
        name: {column: lists(table.filter(pl.col("target") == name)[column].to_numpy()) for column in columns}
        for name in conditions
    }
    return {
        "counts": {
            "real": {name: values.tolist() for name, values in real.items()},
            "predicted": {name: values.tolist() for name, values in predicted.items()},
        },
        "tables": {"real": by_condition(real_table), "predicted": by_condition(predicted_table)},
        "expected": {
            score: {name: float(value) for name, value in by.items() if value is not None and np.isfinite(value)}
            for score, by in scores.items()
        },
        "counts_found": DENsigCounts()(compared),
        "de_spearman_sig": DESpearmanSignificant()(compared),
    }


packages = ["numpy", "scipy", "scikit-learn", "pertpy", "cell-eval", "pdex", "scanpy"]
cases = {
    "packages": {package: version(package) for package in packages},
    "profiles": profiles(),
    "clouds": clouds(),
    "discrimination": discrimination(),
    "context": context(),
    "tables": tables(),
}
Path(__file__).with_name("cases.json").write_text(json.dumps(cases, allow_nan=False, separators=(",", ":")) + "\n")
