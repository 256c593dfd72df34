import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path

from gpu_check.main import run_parts
from gpu_check.parts import Check
from gpu_check.results import Results
from gpu_check.schedule import OutOfTime, Schedule


class TestResults(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "gpu-check.json"
        printed = contextlib.redirect_stdout(io.StringIO())
        self.printed = printed.__enter__()
        self.addCleanup(printed.__exit__, None, None, None)
        self.results = Results(self.path, {"gpu": "none"})

    def written(self):
        return json.loads(self.path.read_text(encoding="utf-8"))

    def aim(self, name):
        return next(row for row in self.written()["aims"] if row["aim"] == name)

    def test_the_file_is_complete_after_every_figure(self):
        self.results.figure("training", 100_000, "cells/s", "training 128")
        self.assertEqual([figure["value"] for figure in self.written()["figures"]], [100_000])
        self.results.figure("training", 300_000, "cells/s", "training 128")
        self.assertEqual([figure["met"] for figure in self.written()["figures"]], [False, True])
        self.assertEqual([file.name for file in self.path.parent.iterdir()], ["gpu-check.json"], "nothing is left beside it")

    def test_an_aim_shows_its_best_figure(self):
        for value in (0.5, 1.9, 1.2):
            self.results.figure(f"an epoch of {value} s", value, "s", "epoch")
        self.assertEqual((self.aim("epoch")["measured"], self.aim("epoch")["met"]), (0.5, True))
        for value in (3, 9, 4):
            self.results.figure("a ratio", value, "×", "pytorch 128")
        self.assertEqual((self.aim("pytorch 128")["measured"], self.aim("pytorch 128")["met"]), (9, False))
        self.assertIsNone(self.aim("means")["measured"])
        self.assertIn("| means against cells | not measured | at least 10 × |", self.results.table())

    def test_a_figure_that_is_no_number_is_a_failure_and_the_file_stays_readable(self):
        self.results.figure("training", float("nan"), "cells/s", "training 128")
        self.results.figure("memory", 300, "MB", "training memory")
        self.assertEqual([check["check"] for check in self.written()["checks"]], ["training"])
        self.assertEqual([figure["figure"] for figure in self.written()["figures"]], ["memory"])

    def test_on_a_stand_in_no_value_is_compared_and_no_aim_is_met(self):
        results = Results(self.path, {}, values_mean_something=False)
        results.compare("the loss is the CPU's", False, "it is off")
        results.figure("training", 1e9, "cells/s", "training 128")
        self.assertEqual(results.failed(), [])
        self.assertEqual([skipped["what"] for skipped in self.written()["skipped"]], ["the loss is the CPU's"])
        self.assertIsNone(self.aim("training 128")["met"])
        self.assertIn("the figures are meaningless", results.table())

    def test_one_failing_part_does_not_hide_the_others(self):
        def breaks(check, budget):
            check.results.figure("before it broke", 1, "s")
            raise KeyError("peak_device_bytes")

        def has_no_time(check, budget):
            raise OutOfTime("the clock stood still")

        def works(check, budget):
            check.results.figure("after it broke", 2, "s")

        parts = [("breaks", breaks), ("late", has_no_time), ("works", works)]
        check = Check(None, self.results, 1000, ("float32",), 300)
        run_parts(check, Schedule(60, {name: 1 for name, _ in parts}), parts)
        self.assertEqual([figure["figure"] for figure in self.written()["figures"]], ["before it broke", "after it broke"])
        self.assertEqual(self.results.failed(), ["breaks"])
        self.assertIn("peak_device_bytes", self.written()["checks"][0]["why"])
        self.assertEqual([skipped["what"] for skipped in self.written()["skipped"]], ["late"])
        self.assertEqual(list(self.written()["seconds"]), ["breaks", "late", "works"])

    def test_a_part_without_time_is_skipped_by_name(self):
        check = Check(None, self.results, 1000, ("float32",), 300)
        run_parts(check, Schedule(0, {"training": 1}), [("training", lambda check, budget: self.fail("it was begun"))])
        self.assertEqual([skipped["what"] for skipped in self.written()["skipped"]], ["training"])
        self.assertIn("0 s were left", self.written()["skipped"][0]["why"])
