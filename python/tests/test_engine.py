"""The program as a child process: progress, stopping, resuming, and what is left of it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import perturbine as pb
import pytest
from perturbine._engine import Run
from test_errors import stand_in

EPOCHS = 150
LONG = {"train.early_stopping_patience": EPOCHS}

TRAINING = """
import sys
import perturbine as pb
atlas, out = sys.argv[1:]
try:
    pb.train(atlas, out, split="pairs", epochs=100_000, set={"train.early_stopping_patience": 100_000}, progress=True)
except KeyboardInterrupt:
    print("interrupted")
"""


@contextmanager
def training(screen: SimpleNamespace, out: Path) -> Iterator[subprocess.Popen[str]]:
    """A Python process that trains, once the training has a checkpoint."""
    command = [sys.executable, "-c", TRAINING, str(screen.atlas), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(lambda: any((out / "checkpoint").glob("0*")), process)
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str] | None = None, seconds: float = 60) -> Any:
    """What the condition returns once it is true. It is looked at again and again; a process that ends fails."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "nothing happened in time"
        if process is not None and process.poll() is not None:
            pytest.fail(f"the process ended: {process.stderr.read() if process.stderr else ''}")
        time.sleep(0.02)
    return value


def children(parent: int) -> list[int]:
    """The processes that this process started and that still run."""
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in listed]


def has_ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_progress_is_shown_logged_or_passed_on(
    screen: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def train(name: str, **how: Any) -> None:
        pb.train(screen.atlas, tmp_path / name, split="pairs", epochs=1, **how)

    train("shown.model", progress=True)
    assert "epoch 0" in capsys.readouterr().err
    with caplog.at_level(logging.INFO, "perturbine"):
        train("logged.model")
    assert any("epoch 0" in record.message for record in caplog.records)
    assert all(record.levelname == "INFO" for record in caplog.records)
    assert not capsys.readouterr().err
    events: list[dict[str, Any]] = []
    train("passed.model", progress=events.append)
    assert events and all("event" in event for event in events)


def test_an_exception_in_a_callback_stops_the_run(screen: SimpleNamespace, tmp_path: Path) -> None:
    def refuse(event: dict[str, Any]) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        pb.train(screen.atlas, tmp_path / "x.model", split="pairs", epochs=100_000, set=LONG, progress=refuse)
    assert not children(os.getpid())


def test_ctrl_c_leaves_a_checkpoint_that_the_same_call_continues(screen: SimpleNamespace, tmp_path: Path) -> None:
    out = tmp_path / "stopped.model"

    def interrupt(event: dict[str, Any]) -> None:
        if any((out / "checkpoint").glob("0*")):
            raise KeyboardInterrupt

    def train(**how: Any) -> pb.Model:
        return pb.train(screen.atlas, out, split="pairs", epochs=EPOCHS, set=LONG, **how)

    with pytest.raises(KeyboardInterrupt):
        train(progress=interrupt)
    assert (out / "checkpoint").is_dir() and not (out / "model.json").exists()
    with pytest.raises(pb.UsageError, match="already exists"):
        train(resume=False)
    before = len((out / "history.jsonl").read_text().splitlines())
    model = train()
    epochs = model.history["epoch"]
    assert epochs == list(range(EPOCHS)) and before < EPOCHS


def test_a_signal_to_python_stops_the_program(screen: SimpleNamespace, tmp_path: Path) -> None:
    with training(screen, tmp_path / "x.model") as process:
        (engine,) = children(process.pid)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[0].strip() == "interrupted"
        assert has_ended(engine) and time.monotonic() - began < 10


def test_the_program_ends_with_its_parent(screen: SimpleNamespace, tmp_path: Path) -> None:
    out = tmp_path / "x.model"
    with training(screen, out) as process:
        (engine,) = children(process.pid)
        process.kill()
        process.wait()
        wait_for(lambda: has_ended(engine), seconds=20)
    assert any((out / "checkpoint").iterdir()), "what the run had is kept"


def test_the_program_does_not_get_the_terminals_ctrl_c(screen: SimpleNamespace, tmp_path: Path) -> None:
    with training(screen, tmp_path / "x.model") as process:
        (engine,) = children(process.pid)
        assert os.getpgid(engine) == engine != os.getpgid(process.pid)


def test_a_run_that_was_stopped_from_outside_says_so(screen: SimpleNamespace, tmp_path: Path) -> None:
    def end(event: dict[str, Any]) -> None:
        if any((tmp_path / "x.model" / "checkpoint").glob("0*")):
            for child in children(os.getpid()):
                os.kill(child, signal.SIGTERM)

    with pytest.raises(pb.Stopped) as raised:
        pb.train(screen.atlas, tmp_path / "x.model", split="pairs", epochs=100_000, set=LONG, progress=end)
    assert raised.value.code == 75


def test_what_the_program_started_does_not_keep_us_waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A child that survives the program holds its standard streams open."""
    code = "os.fork() or signal.pause(); os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setenv("PERTURBINE_PROGRAM", stand_in(tmp_path, "import signal\n" + code))
    with pytest.raises(pb.BugError, match="SIGKILL"):
        pb.presets()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_process_leaves_the_program_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERTURBINE_PROGRAM", stand_in(tmp_path, "print('{}', flush=True); sys.stdin.read(); sys.exit(0)"))
    run = Run([])
    forked = os.fork()
    if forked == 0:
        # As a worker's own collector would.
        run.__del__()
        os._exit(0)
    assert os.waitpid(forked, 0)[1] == 0
    assert run._watcher.is_alive()
    run.kill()


def test_a_prediction_that_is_left_at_the_end_of_python_is_silent(tmp_path: Path) -> None:
    program = stand_in(tmp_path, "sys.stdout.buffer.write(b'x'); sys.stdout.flush(); sys.stdin.read()")
    code = "import perturbine as pb; left = pb.predict('m', 'a'); print(left._run._process.pid)"
    environment = {**os.environ, "PERTURBINE_PROGRAM": program}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0 and not ran.stderr
    wait_for(lambda: has_ended(int(ran.stdout)))
