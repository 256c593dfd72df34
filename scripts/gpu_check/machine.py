"""The programs that were carried, and how they are started on this machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from .results import say
from .schedule import OutOfTime

PROGRAMS = "programs.tar.xz"
# An atlas of a cell takes up to this much, its source file included, while it is made.
BYTES_PER_CELL = 12_000
MEMORY_FOLDER = Path("/dev/shm")


class Failed(Exception):
    """A program ended with an error."""


@dataclass
class Ran:
    code: int
    out: str
    err: str

    def why(self):
        return f"exit code {self.code}: {shortened(self.err) or shortened(self.out)}"


class Machine:
    """Starts programs beside the libtorch of this machine: Python's torch, a stand-in's, or the one of the repository."""

    # Where the messages of programs go that fail.
    log_file: Optional[Path] = None

    def __init__(self, folder: Path, scratch: Path, data: Path, stand_in: Optional[Path]):
        self.folder, self.scratch, self.data, self.stand_in = folder, scratch, data, stand_in
        self.bin = scratch / "bin"
        with tarfile.open(folder / PROGRAMS) as archive:
            archive.extractall(self.bin)
        self.torch = find_torch()
        self.gpu = f"stand-in for CUDA in {stand_in}" if stand_in else find_gpu()
        self.device = "cuda:0" if self.gpu else "cpu"
        self.environment = dict(os.environ)
        # libtorch keeps what it compiled at run time in the home folder. It has to compile again here, and what a stand-in "compiled" must
        # not be found by a real GPU.
        kernels = scratch / "kernels"
        kernels.mkdir()
        self.environment["PYTORCH_KERNEL_CACHE_PATH"] = str(kernels)
        before = os.environ.get("LD_LIBRARY_PATH")
        self.environment["LD_LIBRARY_PATH"] = self.libraries() + (":" + before if before else "")

    def libraries(self):
        if self.stand_in:
            return str(self.stand_in.resolve())
        if self.torch:
            return self.torch["folder"]
        return (self.folder / "libtorch").read_text(encoding="utf-8").strip()

    def description(self):
        return {"gpu": self.gpu, "torch": self.torch, "commit": (self.folder / "commit").read_text(encoding="utf-8").strip(),
                "processors": os.cpu_count(), "python": sys.version.split()[0], "data": str(self.data)}

    def run(self, program, *arguments, budget):
        """Runs a program to its end, if that comes within the budget."""
        lines = []
        err = self.stream([self.bin / program, *arguments], lines.append, budget)
        return Ran(err[0], "".join(lines), err[1])

    def start(self, program, *arguments):
        """Starts a program and does not wait for it."""
        return subprocess.Popen(words([self.bin / program, *arguments]), env=self.environment, cwd=self.scratch,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def stream(self, command, take, budget):
        """Runs a command, hands over its lines as they come, and returns its exit code and its messages."""
        budget.needs(1, Path(str(command[0])).name)
        with tempfile.TemporaryFile("w+", dir=self.scratch) as messages:
            # Its own session, so that whatever the program starts can be ended with it.
            process = subprocess.Popen(words(command), env=self.environment, cwd=self.scratch, stdout=subprocess.PIPE, stderr=messages,
                                       text=True, start_new_session=True)
            late = threading.Event()

            def end():
                late.set()
                kill(process)

            timer = threading.Timer(budget.left(), end)
            timer.start()
            try:
                with process.stdout:
                    for line in process.stdout:
                        take(line)
                code = process.wait()
            finally:
                timer.cancel()
                if process.poll() is None:
                    kill(process)
                    process.wait()
            messages.seek(0)
            told = messages.read()
        if late.is_set():
            raise OutOfTime(f"`{' '.join(words(command[1:]))}` was stopped before its end; its messages: {shortened(told) or 'none'}")
        if code:
            self.log(f"$ {' '.join(words(command))}\nexit code {code}\n{told}\n")
        return code, told

    def log(self, text):
        """Keeps all that a program said that failed."""
        if self.log_file:
            with open(self.log_file, "a", encoding="utf-8") as log:
                log.write(text)

    def perturbine(self, *arguments, budget):
        """What a command of perturbine's reports as JSON."""
        ran = self.run("perturbine", "--json", "--quiet", *arguments, budget=budget)
        if ran.code:
            raise Failed(f"{ran.why()}; it ran `perturbine {' '.join(words(arguments))}`")
        return json.loads(ran.out)

    def json_lines(self, command, take, budget):
        """Hands over each JSON object that a command prints as it comes."""
        code, messages = self.stream(command, lambda line: take(json.loads(line)) if line.startswith("{") else None, budget)
        if code:
            raise Failed(f"exit code {code}: {shortened(messages)}; it ran `{' '.join([Path(str(command[0])).name, *words(command[1:])])}`")


def kill(process):
    """Ends a program and whatever it started, all of which is in its session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has just ended by itself


def words(command):
    return [str(word) for word in command]


def shortened(text, begin=500, end=200):
    """The begin of a message, which says what is wrong, and its end. The log has all of it."""
    text = text.strip()
    return text if len(text) <= begin + end else f"{text[:begin]} [...] {text[-end:]}"


def find_torch():
    """The torch of this Python, if it is the one that the programs were built for."""
    code = "import torch,os,json;print(json.dumps({'folder':os.path.join(os.path.dirname(torch.__file__),'lib'),'version':torch.__version__}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if ran.returncode:
        return None
    torch = json.loads(ran.stdout.splitlines()[-1])
    if not torch["version"].startswith("2.11."):
        say(f"this Python's torch is {torch['version']}, not 2.11: it is not used")
        return None
    return torch


def find_gpu():
    if not shutil.which("nvidia-smi"):
        return None
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    ran = subprocess.run(query, capture_output=True, text=True)
    return ran.stdout.splitlines()[0] if ran.returncode == 0 and ran.stdout.strip() else None


def folder_for_data(cells):
    """Where atlases are made: in memory, where there is room for them, so that no disk is waited for."""
    if MEMORY_FOLDER.is_dir() and cells * BYTES_PER_CELL < shutil.disk_usage(MEMORY_FOLDER).free // 2:
        return str(MEMORY_FOLDER)
    return tempfile.gettempdir()
