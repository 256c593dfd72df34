#!/usr/bin/env python3
"""Turns a model that cpa-tools 0.8.8 saved into a folder that `perturbine predict` reads.

    python3 scripts/import_cpa.py SAVED OUT [--obs OBS.csv --split-key split --train train]

SAVED is the folder that `model.save(...)` wrote: `model.pt` and `CPA_info.json`. OUT must not exist. Needs torch (any version that
reads the file), safetensors and xxhash: `pip install torch safetensors xxhash`. `model.pt` is a pickle, so open only files you trust.

What was trained on does not stand in the saved model. With --obs, the `obs` table that it was set up with (as `adata.obs.to_csv` writes
it), it is read from there: `predict` then tells how far each prediction extrapolates, and which doses a condition was trained at.
Without, every prediction is called a `covariate` extrapolation, and a dose that is left out means 1.

The model keeps the original's habits (`compat = "cpa-tools-0.8.8"`), so that it predicts what the original predicts. To predict from
cells, ingest them with the same perturbation, control, covariates and batch: their order must be the model's, batch last.
"""

import argparse
import csv
import json
from collections import Counter
from pathlib import Path

import torch
import xxhash
from safetensors.torch import save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("saved", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--obs", type=Path, help="the table of cells, as CSV")
    parser.add_argument("--split-key", help="its column with the split [default: all cells are training cells]")
    parser.add_argument("--train", default="train", help="the value of training cells")
    args = parser.parse_args()

    saved = torch.load(args.saved / "model.pt", map_location="cpu")
    info = json.loads((args.saved / "CPA_info.json").read_text())
    weights = {f"module.{name}": tensor.float().contiguous() for name, tensor in saved["model_state_dict"].items()
               if not name.endswith("num_batches_tracked")}
    attributes = saved["attr_dict"]
    setup = attributes["registry_"]["setup_args"]
    fields = attributes["registry_"]["field_registries"]
    genes = [str(name) for name in saved["var_names"]]
    settings = model_settings(attributes["init_params_"], weights)
    width = give_control_its_embedding(weights)
    perturbations = [name for name, _ in sorted(info["pert_encoder"].items(), key=lambda entry: entry[1])]
    covariates = [{"name": name, "values": [value for value, _ in sorted(codes.items(), key=lambda entry: entry[1])]}
                  for name, codes in info["covars_encoder"].items()]
    combinations = [str(name) for name in fields[setup["perturbation_key"]]["state_registry"]["categorical_mapping"]]
    trained = trained_groups(args, setup, info, covariates) if args.obs else []

    args.out.mkdir()
    save_file(weights, args.out / "model.safetensors")
    card = {
        "format": 1,
        "written_by": "import_cpa.py",
        "config": settings,
        "vocabulary": {
            "perturbations": perturbations,
            "combinations": combinations,
            "combination_cells": [1] * len(combinations),
            "covariates": covariates,
            "batch": setup.get("batch_key"),
            "doses_as_written": True,
            "embedding_width": width,
            "trained": trained,
        },
        "rules": {"delimiter": "+", "controls": [setup["control_group"]]},
        "genes": genes,
        "values": "continuous" if settings["model"]["recon_loss"] == "gauss" else "counts",
        "atlas": "",
        "split": "",
        "epochs": 0,
        "best": None,
        "weights": xxhash.xxh3_64_hexdigest((args.out / "model.safetensors").read_bytes()),
    }
    (args.out / "genes.txt").write_text("".join(f"{gene}\n" for gene in genes))
    # The card last: a folder without it is not a model.
    (args.out / "model.json").write_text(json.dumps(card, indent=2))
    print(f"{args.out}: {len(genes)} genes, {len(perturbations) - 2} perturbations, {len(trained)} trained groups")


def model_settings(init: dict, weights: dict) -> dict:
    """The network's settings: sizes from the weights, what leaves no trace in them from the arguments of `CPA(...)`."""
    given = dict(init.get("non_kwargs", {}))
    for nested in [init.get("kwargs", {}), *init.get("kwargs", {}).values()]:
        if isinstance(nested, dict):
            given.update(nested)
    variational = "module.encoder.mean_encoder.weight" in weights
    gauss = "module.decoder.mean_encoder.weight" in weights
    stems = {
        "encoder": "module.encoder.encoder" if variational else "module.encoder.network",
        "decoder": "module.decoder.encoder" if gauss else "module.decoder.px_decoder",
    }
    settings = {
        "n_latent": weights["module.covars_embeddings." + next(covariate_names(weights)) + ".weight"].shape[1]
        if any(covariate_names(weights)) else weights[f"{stems['decoder']}.fc_layers.Layer 0.0.weight"].shape[1],
        "recon_loss": given.get("recon_loss", "gauss" if gauss else "nb"),
        "variational": variational,
        "doser_type": given.get("doser_type", "logsigm"),
    }
    for part, stem in stems.items():
        layers = {name for name in weights if name.startswith(f"{stem}.fc_layers.") and name.endswith(".0.weight")}
        batch = f"{stem}.fc_layers.Layer 0.1.weight" in weights
        layer = bool(given.get(f"use_layer_norm_{part}", False))
        settings[f"n_hidden_{part}"] = weights[f"{stem}.fc_layers.Layer 0.0.weight"].shape[0]
        settings[f"n_layers_{part}"] = len(layers)
        settings[f"norm_{part}"] = {(0, 0): "none", (1, 0): "batch", (0, 1): "layer", (1, 1): "batch+layer"}[batch, layer]
        settings[f"dropout_rate_{part}"] = given.get(f"dropout_rate_{part}", 0.0)
    return {"compat": "cpa-tools-0.8.8", "seed": given.get("seed", 0), "model": settings}


def covariate_names(weights: dict):
    prefix, suffix = "module.covars_embeddings.", ".weight"
    return (name[len(prefix):-len(suffix)] for name in weights if name.startswith(prefix))


def give_control_its_embedding(weights: dict):
    """With fingerprints the original projects control's as well; here control has an embedding of its own."""
    projection = "module.pert_network.pert_transformation"
    if f"{projection}.weight" not in weights:
        return None
    rows = weights["module.pert_network.pert_embedding.weight"]
    control = rows[1:2] @ weights[f"{projection}.weight"].T + weights[f"{projection}.bias"]
    weights["module.pert_network.control_embedding.weight"] = control.contiguous()
    return rows.shape[1]


def trained_groups(args: argparse.Namespace, setup: dict, info: dict, covariates: list) -> list:
    """Condition, doses and covariates of the cells that trained, as the original pairs doses with perturbations."""
    codes, control, dosage = info["pert_encoder"], setup["control_group"], setup.get("dosage_key")
    groups = Counter()
    with args.obs.open(newline="") as table:
        for row in csv.DictReader(table):
            if args.split_key and row[args.split_key] != args.train:
                continue
            condition = row[setup["perturbation_key"]]
            parts = tuple(sorted({codes[part] for part in condition.split("+")})) if condition != control else ()
            doses = row[dosage] if dosage else "+".join(["1"] * len(parts))
            doses = tuple(float(dose) for dose in doses.split("+")[:len(parts)]) if parts else ()
            groups[parts, doses, tuple(row[covariate["name"]] for covariate in covariates)] += 1
    return [{"perturbations": list(parts), "doses": list(doses), "covariates": list(values), "cells": cells}
            for (parts, doses, values), cells in groups.items()]


if __name__ == "__main__":
    main()
