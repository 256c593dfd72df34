#!/usr/bin/env bash
# Our loader and its peers on the same 200,000 cells, in turn, in one run: a table on stdout.
# usage: bench_loaders.sh PERTURBINE BENCH    (the built command line and the built loader bench)
# PEERS_HOME says where peers and data are kept: several GB.
set -euo pipefail
perturbine=$1 bench=$2
peers=$(cd "${PERTURBINE_SHARED:-../shared}/peers" 2> /dev/null && pwd || echo ../shared/peers)
home=${PEERS_HOME:-$HOME/.cache/perturbine-peers}
rounds=${ROUNDS:-2} seconds=${SECS:-5}

if [ ! -x "$peers/setup.sh" ]; then
  echo "SKIPPED: there are no peers in $peers; our own figures come from a simulated atlas" >&2
  for mode in bare csr dense; do "$bench" "$mode"; done
  exit 0
fi
export PEERS_HOME=$home
mkdir -p "$home/data"
python=$home/venvs/loaders/bin/python
[ -x "$python" ] || bash "$peers/setup.sh" loaders
[ -d "$home/loaders" ] || cp -r "$peers/loaders" "$home/"
cd "$home/loaders"
export PYTHONPATH=. PYTHONWARNINGS=ignore SECS=$seconds QUIET_WAIT=${QUIET_WAIT:-5}
[ -f "$home/data/a200k.h5ad" ] || "$python" gen_atlas.py --cells 200000 --genes 5000

# The doses of this file stand in a column of one number a cell, so that combinations are taken as names.
ingest() { [ -d "$1" ] || "$perturbine" ingest "$home/data/a200k.h5ad" --out "$1" --perturbation perturbation --control control --delimiter '|' "${@:2}" >&2; }
ingest "$home/data/shuffled.atlas"
ingest "$home/data/raw.atlas" --storage raw
ingest "$home/data/sorted.atlas" --no-shuffle
ingest "$home/data/zstd.atlas" --compress
ingest "$home/data/in-place.atlas" --in-place

# Ours and the best known peer's conversion of the same file, by turns.
echo "conversion: seconds"
for _ in $(seq "$rounds"); do
  for file in a200k a200k.gz; do
    rm -rf "$home/data/timed.atlas"
    began=$(date +%s.%N)
    "$perturbine" --quiet ingest "$home/data/$file.h5ad" --out "$home/data/timed.atlas" --perturbation perturbation --control control --delimiter '|' > /dev/null
    echo "perturbine $file $(echo "$(date +%s.%N) - $began" | bc)"
    case $file in a200k) source=h5 ;; *) source=gz ;; esac
    rm -rf "$home/data/stores/a200k/annbatch_$source.zarr"
    "$python" p_annbatch.py --convert --src "$source" 2> /dev/null | sed -n "s/.*\"convert_s\": \([0-9.]*\).*/annbatch $file \1/p"
  done
  # These read the uncompressed file alone.
  for peer in loaders/scdl loaders_tdb/slaf; do
    rm -rf "$home/data/stores/a200k/${peer#*/}"*
    [ ! -x "$home/venvs/${peer%/*}/bin/python" ] || "$home/venvs/${peer%/*}/bin/python" "p_${peer#*/}.py" --convert 2> /dev/null |
      sed -n "s/.*\"convert_s\": \([0-9.]*\).*/${peer#*/} a200k \1/p"
  done
done

out=$home/loaders.jsonl
: > "$out"
for _ in $(seq "$rounds"); do
  "$bench" bare "$home/data/raw.atlas" "$seconds" >> "$out"
  for mode in csr dense cold; do
    "$bench" "$mode" "$home/data/shuffled.atlas" "$seconds" >> "$out" || echo "SKIPPED: $mode" >&2
    "$bench" "$mode" "$home/data/raw.atlas" "$seconds" | sed "s/\"settings\":\"$mode\"/\"settings\":\"$mode, raw\"/" >> "$out" || echo "SKIPPED: $mode, raw" >&2
  done
  "$bench" csr "$home/data/sorted.atlas" "$seconds" | sed 's/"settings":"csr"/"settings":"csr, sorted file"/' >> "$out"
  "$bench" csr "$home/data/zstd.atlas" "$seconds" | sed 's/"settings":"csr"/"settings":"csr, zstd"/' >> "$out"
  "$bench" cold "$home/data/zstd.atlas" "$seconds" | sed 's/"settings":"cold"/"settings":"cold, zstd"/' >> "$out" || echo "SKIPPED: cold" >&2
  "$bench" csr "$home/data/in-place.atlas" "$seconds" | sed 's/"settings":"csr"/"settings":"csr, .h5ad in place"/' >> "$out"
  for peer in "p_annbatch.py --dense sparse --chunk 512 --pre 128" "p_annbatch.py --dense scipy --chunk 512 --pre 128" \
    "p_annbatch.py --dense scipy --chunk 512 --pre 128 --cold" "p_mem.py --mode scipy"; do
    # Words of a command.
    # shellcheck disable=SC2086
    timeout 300 "$python" $peer 2> "$home/errors.txt" | grep '^{' >> "$out" || { echo "SKIPPED: $peer" >&2; tail -n 2 "$home/errors.txt" >&2; }
  done
done

"$python" - "$out" <<'TABLE'
import json, statistics, sys

rows = {}
for line in open(sys.argv[1]):
    row = json.loads(line)
    rows.setdefault((row["peer"], row.get("settings", ""), row["state"]), []).append(row)

def median(runs, pick):
    found = [value for value in map(pick, runs) if value is not None]
    return statistics.median(found) if found else float("nan")

def per_processor_second(run):
    return run.get("cells_cpu_s") or run["cells_s"] / max(run["own_cpu"], 1e-9)

def first_batch(run):
    return run.get("first_batch_ms", 1e3 * run.get("first_batch_s", 0))

print(f"{'loader':<20} {'settings':<70} {'state':<5} {'cells/s':>10} {'cells/cpu-s':>11} {'first ms':>8} {'H':>6} {'H iid':>6} {'MB':>5} {'anon MB':>7}")
for (peer, settings, state), runs in rows.items():
    print(f"{peer[:20]:<20} {settings[:70]:<70} {'cold' if 'drop' in state or state == 'cold' else 'warm':<5} "
          f"{median(runs, lambda r: r['cells_s']):>10.0f} {median(runs, per_processor_second):>11.0f} {median(runs, first_batch):>8.0f} "
          f"{median(runs, lambda r: r.get('H')):>6.2f} {median(runs, lambda r: r.get('H_iid')):>6.2f} "
          f"{median(runs, lambda r: r.get('store_bytes')) / 1e6:>5.0f} {median(runs, lambda r: r.get('peak_anon_mb')):>7.0f}")
TABLE
