"""What takes too long for `make test`, on the release build: calls that the kernel fails or kills at (strace), small disks (tmpfs),
a cap on memory (cgroup), many cells. Run by `make test-long`; what a machine does not have is skipped, and said so.

    python3 scripts/test_long.py PERTURBINE [part ...]      parts: strace disks cap
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

PROGRAM = os.path.abspath(sys.argv[1])
PARTS = sys.argv[2:] or ["strace", "disks", "cap"]
TINY = (
    "--set model.n_latent=8 --set model.n_hidden_encoder=16 --set model.n_layers_encoder=1 --set model.n_hidden_decoder=16 "
    "--set model.n_layers_decoder=1 --set adversary.n_hidden_adv=8 --batch-size 64 --seed 1 --device cpu --epochs 3"
)
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}
THREADS = f"--threads {os.environ['THREADS']} " if "THREADS" in os.environ else ""
counts = {}


def count(what):
    counts[what] = counts.get(what, 0) + 1


def run(home, line, before=(), **options):
    command = [*before, PROGRAM, *(THREADS + line).split()]
    return subprocess.run(command, cwd=home, env=ENV, text=True, capture_output=True, check=False, **options)


def good(home, line):
    ran = run(home, line)
    assert ran.returncode == 0, f"{line}\n{ran.stderr}"
    return ran


def tree(path):
    """Names and checksums of all files, without what tells the time."""
    told = {}
    for file in sorted(path.rglob("*")):
        if file.is_file():
            data = file.read_bytes()
            if file.name in ("history.jsonl", "state.json", "pipeline.json"):
                data = b""
            told[str(file.relative_to(path))] = hashlib.sha256(data).hexdigest()
    return told


def remove(path):
    if path.exists():
        shutil.rmtree(path)


def jobs(home):
    good(home, "simulate --cells 5000 --genes 200 --conditions 6 --combos 2 --out s.h5ad")
    good(home, "ingest s.h5ad --out s.atlas")
    good(home, f"train s.atlas --out t {TINY}")
    return [
        ("ingest s.h5ad --out a.atlas", "a.atlas", ""),
        (f"train s.atlas --out m {TINY}", "m", " --resume"),
        ("predict t s.atlas --to observed --output cells --file-size 1MiB --out p", "p", ""),
    ]


def mended(home, line, out, resume, wanted, about):
    """Looks at what a run left, and tries again."""
    path = home / out
    if path.exists() and not resume:
        assert tree(path) == wanted, f"{about}: what is visible is wrong"
    else:
        good(home, line + (resume if path.exists() else ""))
    assert tree(path) == wanted, f"{about}: the next try ends otherwise"
    left = [file.name for file in home.rglob(".*") if ".tmp-" in file.name]
    assert not left, f"{about}: {left} stays"


def strace():
    """Every write, fsync and rename that the kernel sees, by whomever: libhdf5's and libtorch's too."""
    if not shutil.which("strace"):
        return print("SKIPPED: there is no strace")
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        for line, out, resume in jobs(home):
            good(home, line)
            wanted = tree(home / out)
            remove(home / out)
            for call in ("fsync", "rename", "pwrite64", "write", "mkdir", "ftruncate", "msync"):
                log = home / ".calls"
                traced = run(home, line, ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={call}"])
                assert traced.returncode == 0, traced.stderr
                calls = len(re.findall(rf"\b{call}\(", log.read_text()))
                log.unlink()
                remove(home / out)
                step = max(1, calls // 25)
                for fault in ("signal=KILL", "error=ENOSPC", "error=EIO"):
                    for at in range(1, calls + 1, step):
                        about = f"{line.split()[0]}, {fault} at {call} {at} of {calls}"
                        inject = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:{fault}:when={at}"]
                        ran = run(home, line, inject)
                        assert "panicked" not in ran.stderr, f"{about}: {ran.stderr}"
                        count(f"strace {fault} at {call}")
                        mended(home, line, out, resume, wanted, about)
                        remove(home / out)


def disks():
    """Disks of every size from too small to large enough."""
    probe = ["unshare", "--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs none /mnt"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        return print("SKIPPED: this user may not mount a small file system")
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        small = home / "small"
        small.mkdir()
        for line, out, _ in jobs(home):
            fitted = False
            for size in [32 << n for n in range(12)]:
                script = f"mount -t tmpfs -o size={size}k none small && {PROGRAM} {line.replace('--out ', '--out small/')}; code=$?; ls -A small; exit $code"
                ran = subprocess.run(
                    ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
                    cwd=home, env=ENV, text=True, capture_output=True, check=False,
                )
                count("disks of some size")
                if ran.returncode == 0:
                    fitted = True
                    break
                assert ran.returncode == 28, f"{line} on {size} KiB: {ran.returncode} {ran.stderr}"
                assert "small/" in ran.stderr and "hint: free some space" in ran.stderr, ran.stderr
                # A training that had come to a checkpoint keeps it.
                left = ran.stdout.split()
                assert left in ([], [out] if out == "m" else []), f"{line} on {size} KiB leaves {left}"
            assert fitted, f"{line}: no disk was large enough"


def limited(home, line, limit):
    """A command in a cgroup of so many bytes."""
    root = pathlib.Path("/sys/fs/cgroup")
    first = (root / "memory").is_dir()
    group = (root / "memory" if first else root) / f"perturbine-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(limit))
        procs = group / "cgroup.procs"
        enter = lambda: procs.write_text(str(os.getpid()))
        ran = run(home, line, preexec_fn=enter)
        peak = group / ("memory.max_usage_in_bytes" if first else "memory.peak")
        return ran, int(peak.read_text()) if peak.exists() else 0
    finally:
        for _ in range(50):
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.1)


def cap():
    """Ten million cells with --memory 512MiB, in a cgroup of as much and what libtorch takes before anything is read."""
    cells = int(os.environ.get("CELLS", 10_000_000))
    floor = 128 << 20
    limit = (512 << 20) + floor
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        home = pathlib.Path(folder)
        lines = [
            f"simulate --cells {cells} --genes 1000 --density 0.05 --conditions 20 --combos 5 --out s.h5ad",
            "--memory 512MiB ingest s.h5ad --out s.atlas",
            "--memory 512MiB split s.atlas --name few --scheme random:0.995",
            "--memory 512MiB train s.atlas --out m --split few --epochs 1 --device cpu --batch-size 512",
            "--memory 512MiB predict m s.atlas --to observed --cells-per-condition 5000 --out p",
        ]
        for line in lines:
            started = time.time()
            try:
                ran, peak = limited(home, line, limit)
            except OSError as error:
                return print(f"SKIPPED: no cgroup can be made here ({error})")
            assert ran.returncode == 0, f"{line} in {limit >> 20} MiB: {ran.returncode}\n{ran.stderr[-2000:]}"
            print(f"{time.time() - started:6.0f} s, {peak >> 20:5} MiB with pages of files: perturbine {line}", flush=True)
            if line.startswith("--memory 512MiB ingest"):
                (home / "s.h5ad").unlink()
        counts["cells in a cgroup"] = cells


for part in PARTS:
    {"strace": strace, "disks": disks, "cap": cap}[part]()
print(json.dumps(counts, indent=1))
