import unittest

from gpu_check.traces import HOST, busy_share, stages, work_of


def event(category, name, begin, end):
    return {"ph": "X", "cat": category, "name": name, "ts": begin, "dur": end - begin}


def step(begin, end):
    return event("stage", "train", begin, end)


def kernel(begin, end):
    return event("kernel", "gemm", begin, end)


# Two epochs of two batches, then validation. The first epoch's last item holds a checkpoint, from 150 to 1000.
TRACE = [
    {"ph": "M", "name": "thread_name", "args": {"name": "train"}},
    event("stage", "read", 0, 5),
    event("cpu_op", "aten::mm", 0, 90),
    step(0, 100), kernel(10, 140),
    step(100, 1000), kernel(140, 150), event("gpu_memcpy", "Memcpy DtoH", 200, 900),
    step(1000, 1040), kernel(1010, 1050),
    # Copies beside a kernel count once.
    event("gpu_memcpy", "Memcpy HtoD", 1020, 1060),
    step(1040, 1200), kernel(1070, 1100),
    # The second epoch's last item goes on without the device, and validation follows.
    step(1300, 1400), kernel(1300, 1400),
]


class TestTraces(unittest.TestCase):
    def test_the_stages_and_the_work_of_the_device_are_told_apart(self):
        self.assertEqual(stages(TRACE), {"read", "train"})
        self.assertEqual(len(work_of(TRACE)), 7)
        self.assertEqual(work_of(TRACE, HOST), [(0, 90)])

    def test_the_busy_share_is_of_the_training_steps_of_one_epoch_alone(self):
        # From 1000, where the first step begins, to 1100, where the device ends: busy from 1010 to 1060 and from 1070 to 1100.
        self.assertAlmostEqual(busy_share(TRACE, 1, 2), 0.8)

    def test_work_that_reaches_into_the_epoch_counts_from_its_begin(self):
        trace = [step(0, 10), kernel(0, 15), step(10, 20), kernel(18, 30)]
        self.assertAlmostEqual(busy_share(trace, 1, 1), 0.7)

    def test_a_trace_without_that_epoch_or_without_a_device_is_refused(self):
        with self.assertRaisesRegex(ValueError, "5 training items, too few for epoch 2 of 2"):
            busy_share(TRACE, 2, 2)
        with self.assertRaisesRegex(ValueError, "no work in epoch 0"):
            busy_share([step(0, 10), step(10, 20)], 0, 2)
