import contextlib
import io
import json
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from gpu_check import history
from gpu_check.atlases import Atlas, cells_that_fit
from gpu_check.machine import Machine
from gpu_check.parts import Check
from gpu_check.parts.steps import steps
from gpu_check.parts.tests import outcomes
from gpu_check.parts.train import affordable
from gpu_check.results import Results
from gpu_check.schedule import Budget, OutOfTime


def seconds(count):
    return Budget(time.monotonic() + count)


class TestPrograms(unittest.TestCase):
    """Programs are shell scripts here."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.machine = Machine.__new__(Machine)
        self.machine.scratch = self.machine.bin = Path(folder.name)
        self.machine.environment, self.machine.gpu, self.machine.device, self.machine.stand_in = {}, "a GPU", "cuda:0", None
        printed = contextlib.redirect_stdout(io.StringIO())
        printed.__enter__()
        self.addCleanup(printed.__exit__, None, None, None)
        self.results = Results(Path(folder.name) / "gpu-check.json", {})

    def program(self, name, text):
        path = self.machine.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(0o755)

    def test_a_program_is_ended_with_its_budget_and_what_it_said_before_is_kept(self):
        self.program("slow", "echo '{\"first\": 1}'; /bin/sleep 60; echo never")
        found, begun = [], time.monotonic()
        with self.assertRaises(OutOfTime):
            self.machine.json_lines([self.machine.bin / "slow"], found.append, seconds(1.5))
        self.assertEqual(found, [{"first": 1}])
        self.assertLess(time.monotonic() - begun, 30)

    def test_an_error_of_a_program_says_what_it_said(self):
        self.program("perturbine", "echo 'error: no such atlas' >&2; exit 66")
        with self.assertRaisesRegex(Exception, "exit code 66: error: no such atlas; it ran `perturbine inspect x`"):
            self.machine.perturbine("inspect", "x", budget=seconds(30))

    def test_one_engine_that_breaks_costs_its_own_figures_alone(self):
        line = {"device": "cuda:0", "precision": "float32", "genes": 5000, "steps": 10, "adv_steps": 3, "device_bytes_peak": 1}

        def row(engine, batch, rate):
            return "echo '" + json.dumps({**line, "engine": engine, "batch": batch, "cells_per_second": rate}) + "'"

        # All at once, the bench breaks at the first graphs; run by run, it does not.
        self.program("gpu-bench", f"""case "$*" in
*plain,replayed*) {row("plain", 128, 50_000)}; echo 'no graph' >&2; exit 1;;
*engines=replayed*2048) {row("replayed", 2048, 400_000)};;
*engines=plain*2048) {row("plain", 2048, 100_000)};;
*8192) echo 'out of memory' >&2; exit 1;;
esac""")
        self.machine.log_file = self.machine.bin / "log"
        check = Check(self.machine, self.results, 1000, ("float32",), 5000)
        steps(check, seconds(30))
        self.assertEqual(self.results.failed(), [f"steps on the device, {what}" for what in (
            "replayed, float32, batch 128", "plain, float32, batch 8192", "replayed, float32, batch 8192")])
        self.assertIn("no graph", self.results.checks[0]["why"])
        self.assertEqual(self.results.best("engine 2048")["value"], 4)
        self.assertEqual(self.machine.log_file.read_text(encoding="utf-8").count("out of memory"), 2)

    def test_a_precision_that_the_program_does_not_know_is_skipped(self):
        self.program("gpu-bench", "echo 'Error: unknown variant `tf32`' >&2; exit 1")
        check = Check(self.machine, self.results, 1000, ("tf32",), 5000)
        steps(check, seconds(30))
        self.assertEqual((self.results.failed(), check.precisions), ([], ()))


class TestPlans(unittest.TestCase):
    def atlas(self, cells, took):
        return Atlas(Path("x.atlas"), cells, 5000, took)

    def test_the_large_atlas_has_as_many_cells_as_there_is_time_for(self):
        small = self.atlas(10_000, 2.0)
        self.assertEqual(cells_that_fit(1_000_000, small, 400), 1_000_000)
        self.assertEqual(cells_that_fit(1_000_000, small, 100), 450_000)
        self.assertEqual(cells_that_fit(1_000_000, small, 0), 10_000)

    def test_a_run_takes_the_largest_atlas_that_it_has_time_for(self):
        check = Check(None, None, 1_000_000, ("float32",), 5000, small=self.atlas(100_000, 2), large=self.atlas(1_000_000, 20))
        check.steps["replayed", "float32", 128] = 250_000
        self.assertIs(affordable(check, "float32", 128, seconds(200), seconds(60)), check.large)
        self.assertIs(affordable(check, "float32", 128, seconds(200), seconds(1)), check.small)
        with self.assertRaises(OutOfTime):
            affordable(check, "float32", 128, seconds(5), seconds(1))

    def test_the_middle_epochs_count(self):
        rates = [10, 100, 300, 200, 20]
        epochs = [{"epoch": at, "cells_per_second": rate, "seconds": 1000 / rate} for at, rate in enumerate(rates)]
        self.assertEqual(history.rate(epochs), 200)
        self.assertEqual((history.cells(epochs), history.batches(epochs, 128)), (1000, 8))
        with self.assertRaisesRegex(ValueError, "2 epochs"):
            history.rate(epochs[:2])

    def test_outcomes_are_found_in_the_output_of_a_test_program(self):
        lines = ["running 3 tests\n", "test gpu::a ... ok\n", "test gpu::b ... skipped, there is no GPU\n", "ok\n",
                 "test gpu::c ... thread panicked\n", "more\n", "FAILED\n", "test result: FAILED. 2 passed\n"]
        self.assertEqual(list(outcomes(lines)), [("gpu::a", True), ("gpu::b", True), ("gpu::c", False)])


class TestOriginalStep(unittest.TestCase):
    def test_the_plain_loop_compiles(self):
        path = Path(__file__).parents[2] / "original_step.py"
        compile(path.read_text(encoding="utf-8"), str(path), "exec")

    def test_the_launcher_explains_itself(self):
        path = Path(__file__).parents[2] / "gpu-check"
        ran = subprocess.run([path, "--help"], capture_output=True, text=True)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertIn("--seconds", ran.stdout)
