"""A loader under Ctrl-C, forks, and files that vanish. Each runs in a process of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from screens import counts

HEAD = """
import faulthandler, os, signal, sys, threading, time
import perturbine as pb
from perturbine._atlas import open as open_atlas
atlas = open_atlas(sys.argv[1])
"""


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own."""
    command = [sys.executable, "-c", HEAD + script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


INTERRUPTED = """
# A batch that takes seconds to make.
loader = atlas.loader(3_000_000, format="packed", sampling="balanced", threads=1, memory=1 << 30, output="numpy")
iterator = iter(loader)
sent = []
def interrupt():
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)
threading.Timer(0.2, interrupt).start()
try:
    next(iterator)
    print("not interrupted")
except KeyboardInterrupt:
    print("within two seconds" if time.monotonic() - sent[0] < 2 else "too late")
batch = next(iterator)
print(len(batch), loader.state_dict()["batch"])
assert next(iterator, None) is None
small = atlas.loader(100, output="numpy")
print(sum(len(batch) for batch in small))
"""


def test_ctrl_c_acts_at_once_and_the_same_call_works_again() -> None:
    ran = run(INTERRUPTED, counts().atlas)
    assert ran.stdout.splitlines() == ["within two seconds", "3000000 1", "1500"], ran.stderr


TRUNCATED = """
when, access, matrix = sys.argv[2], sys.argv[3], os.path.join(sys.argv[1], "matrix.bin")
if when == "before":
    faulthandler.enable()
    atlas = open_atlas(sys.argv[1], access)
elif when == "never":
    atlas = open_atlas(sys.argv[1], access)
else:
    atlas = open_atlas(sys.argv[1], access)
    faulthandler.enable()
loader = atlas.loader(16, threads=2, output="numpy")
iterator = iter(loader)
next(iterator)
if when == "again":
    faulthandler.disable()
    faulthandler.enable()
    # A thread notices the new handler when it begins its next batch: the first of these batches had begun before. Without a
    # map, there is nothing to notice, and the blocks of so many batches are all of the atlas.
    for _ in range(40 if access == "map" else 0):
        next(iterator)
os.truncate(matrix, 4096)
try:
    print(len(list(iterator)))
except pb.Error as error:
    print(error.code, "matrix.bin" in str(error))
try:
    # The same file as a map of somebody else, whose lost pages are none of ours.
    import mmap
    with open(sys.argv[4], "w+b") as file:
        file.truncate(1 << 16)
        view = mmap.mmap(file.fileno(), 1 << 16)
        file.truncate(0)
        sys.stdout.flush()
        view[1 << 14]
finally:
    print("alive")
"""


@pytest.mark.parametrize("when", ["never", "before", "after", "again"])
@pytest.mark.parametrize("access", ["map", "read"])
def test_a_file_that_is_cut_while_it_is_read_is_an_error(when: str, access: str, tmp_path: Path) -> None:
    atlas = tmp_path / "cut.atlas"
    shutil.copytree(counts().atlas, atlas)
    ran = run(TRUNCATED, atlas, when, access, tmp_path / "foreign")
    lines = ran.stdout.splitlines()
    assert lines == ["65 True" if access == "map" else "74 True"], ran.stderr
    # A lost page of another map ends the process as it would without us, with a traceback if one was asked for.
    assert ran.returncode == -signal.SIGBUS
    assert ("Fatal Python error: Bus error" in ran.stderr) == (when != "never")
    assert ran.stderr.count("Fatal Python error") <= 1


FORKED = """
loader = atlas.loader(100, output="numpy")
iterator = iter(loader)
first = next(iterator)
child = os.fork()
if child == 0:
    try:
        next(iterator)
    except pb.UsageError as error:
        print("refused" if "iterate the loader itself in this process" in str(error) else error)
    # Dropping the iterator waits for no thread of the other process; a batch of it stays readable.
    del iterator
    print(float(first.x.sum()) > 0, sum(len(batch) for batch in loader))
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(sum(len(batch) for batch in iterator))
"""


def test_a_forked_process_iterates_by_itself() -> None:
    ran = run(FORKED, counts().atlas)
    assert ran.stdout.splitlines() == ["refused", "True 1500", "1400"], ran.stderr


THREADS = """
# Several threads take from one iterator: each batch goes to one of them.
loader = atlas.loader(10, output="numpy")
iterator = iter(loader)
found = [[] for _ in range(4)]
def take(out):
    for batch in iterator:
        out.extend(batch.cell.tolist())
threads = [threading.Thread(target=take, args=(out,)) for out in found]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sorted(sum(found, [])) == list(range(1500)))
"""


def test_threads_may_share_an_iterator() -> None:
    ran = run(THREADS, counts().atlas)
    assert ran.stdout.split() == ["True"], ran.stderr


LEFT_RUNNING = """
iterator = iter(atlas.loader(10, output="numpy"))
batch = next(iterator)
"""


def test_a_program_may_end_in_the_middle_of_an_epoch() -> None:
    ran = run(LEFT_RUNNING, counts().atlas)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
