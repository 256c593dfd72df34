import unittest

from gpu_check.schedule import Budget, OutOfTime, Schedule


class Clock:
    def __init__(self):
        self.time = 1000.0

    def __call__(self):
        return self.time


class TestSchedule(unittest.TestCase):
    def setUp(self):
        self.clock = Clock()

    def schedule(self, seconds, **shares):
        return Schedule(seconds, shares, self.clock)

    def test_parts_divide_the_time_by_their_shares(self):
        schedule = self.schedule(100, steps=1, training=3)
        self.assertAlmostEqual(schedule.budget("steps").left(), 25)

    def test_time_that_a_part_does_not_need_goes_to_later_ones(self):
        schedule = self.schedule(100, steps=1, training=1, rest=2)
        schedule.budget("steps")
        self.clock.time += 4
        self.assertAlmostEqual(schedule.budget("training").left(), 32)

    def test_a_part_that_takes_too_long_makes_later_ones_shorter_but_never_the_whole_longer(self):
        schedule = self.schedule(100, steps=1, training=1, rest=2)
        schedule.budget("steps")
        self.clock.time += 70
        training = schedule.budget("training")
        self.assertAlmostEqual(training.left(), 10)
        self.clock.time += 10
        self.assertAlmostEqual(schedule.budget("rest").left(), 20)
        self.clock.time += 50
        self.assertEqual(schedule.left(), 0)

    def test_what_would_not_end_in_time_is_not_begun(self):
        budget = Budget(self.clock.time + 5, self.clock)
        budget.needs(5, "a run")
        with self.assertRaisesRegex(OutOfTime, "a run takes 6 s or more, but 5 s were left"):
            budget.needs(6, "a run")

    def test_a_share_of_a_budget_ends_with_it_at_the_latest(self):
        budget = Budget(self.clock.time + 30, self.clock)
        self.assertAlmostEqual(budget.share(3).left(), 10)
        self.assertAlmostEqual(budget.part(0.75).left(), 22.5)
        self.clock.time += 25
        self.assertAlmostEqual(budget.share(1).left(), 5)
