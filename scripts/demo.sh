#!/usr/bin/env bash
# The main job on a simulated atlas, each step printed as the command that a user could type.
#
#   scripts/demo.sh PERTURBINE FOLDER
set -euo pipefail

perturbine=$1
folder=$2

run() {
    printf '\n$ perturbine %s\n' "$(printf '%q ' "$@")"
    "$perturbine" "$@"
}

rm -rf "$folder"
mkdir -p "$folder"

run simulate --cells 20000 --genes 2000 --conditions 40 --combos 12 --cell-types 3 --out "$folder/demo.h5ad"
run ingest "$folder/demo.h5ad" --out "$folder/demo.atlas" --batch batch
run split "$folder/demo.atlas" --name combos --scheme combos:0.25
run train "$folder/demo.atlas" --split combos --out "$folder/model" --epochs 30 --batch-size 256
run predict "$folder/model" "$folder/demo.atlas" --to ood --out "$folder/predictions"
run evaluate "$folder/model" "$folder/demo.atlas"
run report "$folder/model" --out "$folder/report.html"

printf '\nLook at %s in a browser; the predictions are Parquet files in %s.\n' "$folder/report.html" "$folder/predictions"
