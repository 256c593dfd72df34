"""Divides the time that there is among the parts of a check."""

import time


class OutOfTime(Exception):
    """There is no time left for something."""


class Budget:
    """The time that one part may take."""

    def __init__(self, deadline, now=time.monotonic):
        self.deadline, self.now = deadline, now

    def left(self):
        return max(0.0, self.deadline - self.now())

    def needs(self, seconds, what):
        """Refuses to begin what would not end in time."""
        if self.left() < seconds:
            raise OutOfTime(f"{what} takes {seconds:.0f} s or more, but {self.left():.0f} s were left for it")

    def part(self, fraction):
        """A smaller budget: a fraction of what is left."""
        return Budget(self.now() + self.left() * fraction, self.now)

    def share(self, of):
        """A smaller budget: one of so many equal shares of what is left."""
        return self.part(1 / max(1, of))


class Schedule:
    """Gives each part its share of what is left, so that time which an early part did not need goes to later ones."""

    def __init__(self, seconds, shares, now=time.monotonic):
        self.now, self.ends = now, now() + seconds
        self.shares = dict(shares)

    def left(self):
        return max(0.0, self.ends - self.now())

    def budget(self, part):
        """The budget of the next part; each part asks once."""
        remaining = sum(self.shares.values())
        seconds = self.left() * self.shares.pop(part) / remaining
        return Budget(self.now() + seconds, self.now)
