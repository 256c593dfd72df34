"""Where the benches find cpa-tools, and cells that both read; what a command took."""

import os
import pathlib
import resource
import shutil
import subprocess
import sys
import threading
import time

KEYS = ["--perturbation", "condition", "--dose", "dose_value", "--covariates", "cell_type", "--control", "ctrl"]


def run(command):
    """Processor seconds and the largest RssAnon, in MB, of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    peak = 0

    def watch():
        nonlocal peak
        while process.poll() is None:
            try:
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                return
            peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))])
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if process.wait() != 0:
        sys.exit(f"{command} failed")
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, peak / 1024


def original():
    """The interpreter that has cpa-tools, the script that runs it, and 20,000 cells × 2,000 genes; set up where they are not.

    PEERS_HOME says where they are kept; several GB.
    """
    peers = pathlib.Path(os.environ.get("PERTURBINE_SHARED", "../shared")).resolve() / "peers"
    home = pathlib.Path(os.environ.get("PEERS_HOME", pathlib.Path.home() / ".cache/perturbine-peers"))
    if not (peers / "setup.sh").exists():
        sys.exit(f"SKIPPED: there are no peers in {peers}; `make bench-train` and `make bench-predict` measure ours alone")
    python, folder = home / "venvs/cpa/bin/python", home / "cpa"
    if not python.exists():
        subprocess.run(["bash", peers / "setup.sh", "cpa"], env={**os.environ, "PEERS_HOME": str(home)}, check=True)
    if not folder.exists():
        shutil.copytree(peers / "cpa", folder)
    data = home / "data/syn20k.h5ad"
    if not data.exists():
        data.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([python, folder / "gen_data.py", "20000", "2000", data], check=True, stdout=subprocess.DEVNULL)
    return python, folder / "baseline.py", data
