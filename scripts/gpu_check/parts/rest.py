"""The trace, how busy the GPU is in a clean epoch, and a run that is stopped and resumed."""

import json
import signal
import time

from .. import history
from ..traces import HOST, busy_share, stages, work_of
from ..training import Run

PROFILED_BATCHES = (2048, 8192)
STAGES = {"read", "batch", "train"}
RESUMED_EPOCHS = 8
INTERRUPTED = 75


def rest(check, budget):
    if not check.machine.gpu:
        check.results.skip("the trace, the busy share and resuming", "there is no GPU")
        return
    with check.results.attempt("a run is stopped in its middle and resumed"):
        resumed(check, budget.share(3))
    for at, batch in enumerate(PROFILED_BATCHES):
        with check.results.attempt(f"GPU busy in a clean epoch, batch {batch}"):
            traced(check, batch, budget.share(len(PROFILED_BATCHES) - at))


def traced(check, batch, budget):
    """The second of three epochs: the first captures graphs and writes a checkpoint, the last is validated."""
    machine, results = check.machine, check.results
    path = machine.data / f"trace-{batch}.json"
    # A trace has some thousand pieces of work for each step, so an epoch of small batches has to be one of few cells.
    atlas = check.atlas() if batch == PROFILED_BATCHES[-1] else check.small
    run = Run(machine, atlas, f"traced-{batch}", batch, epochs=3).train(budget, "--profile", path)
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    path.unlink()
    found, epochs = stages(events), run.epochs()
    about = f"in a clean epoch, float32, batch {batch}, {history.cells(epochs):,} cells"
    results.check(f"a trace shows the stages, batch {batch}", STAGES <= found, f"it has {sorted(found)}")
    if machine.stand_in:
        results.skip(f"GPU busy {about}", "a stand-in for CUDA traces no kernels; libtorch's operations on the host are shown instead")
        share = busy_share(events, 1, history.batches(epochs, batch), HOST)
        results.figure(f"host busy {about}", round(share, 3), "of the time")
        return
    results.check(f"a trace shows the device's work, batch {batch}", bool(work_of(events)), "it has no kernels and no copies")
    share = busy_share(events, 1, history.batches(epochs, batch))
    results.figure(f"GPU busy {about}", round(share, 3), "of the time", f"busy {batch}")


def resumed(check, budget):
    """Stops a run once its first checkpoint is there, resumes it, and compares it with one that was not stopped."""
    machine, results = check.machine, check.results
    name = "a run that was stopped is resumed"
    whole = Run(machine, check.small, "whole", 128, epochs=RESUMED_EPOCHS).train(budget)
    run = Run(machine, check.small, "stopped", 128, epochs=RESUMED_EPOCHS)
    process = machine.start("perturbine", "--quiet", "train", *run.arguments)
    try:
        wait_for_an_epoch(run, process, budget)
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=max(1.0, budget.left()))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    done = len(run.epochs())
    stopped = process.returncode == INTERRUPTED and 0 < done < RESUMED_EPOCHS
    results.check("a run is stopped in its middle", stopped,
                  f"exit code {process.returncode} after {done} of {RESUMED_EPOCHS} epochs: {messages.strip()[-400:]}")
    run.train(budget, "--resume")
    found, expected = run.epochs(), whole.epochs()
    results.check(name, [epoch["epoch"] for epoch in found] == list(range(RESUMED_EPOCHS)), f"it has {len(found)} epochs")
    off = abs(history.loss(found[-1]) / history.loss(expected[-1]) - 1)
    results.compare("a run that was resumed ends with the loss of one that was not stopped, to 1%", off < 0.01, f"it is off by {off:.4f}")


def wait_for_an_epoch(run, process, budget):
    """Returns once the first epoch was written; a checkpoint follows it at once."""
    checkpoints = run.folder / "checkpoint"
    while process.poll() is None:
        budget.needs(1, "waiting for the first epoch")
        if checkpoints.is_dir() and any(checkpoints.iterdir()):
            return
        time.sleep(0.01)
