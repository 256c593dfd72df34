"""The GPU tests of the repository: what a GPU computes is what the CPU computes."""

import re

from ..machine import shortened

TEST = re.compile(r"^test (\S+) \.\.\. ?(ok|FAILED)?")
OUTCOME = re.compile(r"^(ok|FAILED)$")
# What a test says that has no GPU to test, and passes.
SKIPPED = "skipped, there is no GPU"
# The exit code of a test program in which tests failed.
FAILURES = 101


def outcomes(lines):
    """The tests of a test program's output, each with whether it passed. A test that prints has its outcome on a line of its own."""
    name = None
    for line in lines:
        if match := TEST.match(line):
            name = match[1]
            if match[2]:
                yield name, match[2] == "ok"
                name = None
        elif name and (match := OUTCOME.match(line.strip())):
            yield name, match[1] == "ok"
            name = None


def panic(name, messages):
    """What a test said when it failed."""
    at = messages.find(f"thread '{name}'")
    return shortened(messages[at:], 600, 0) if 0 <= at else shortened(messages)


def tests(check, budget):
    machine, results = check.machine, check.results
    lines, messages = [], ""
    command = [machine.bin / "network-tests", "gpu::", "--nocapture", "--test-threads", "1"]
    try:
        code, messages = machine.stream(command, lines.append, budget)
    finally:
        # What was tested before the time was over counts.
        found = dict(outcomes(lines))
        for name, passed in found.items():
            if machine.gpu:
                results.compare(name, passed, panic(name, messages))
            else:
                results.skip(name, "there is no GPU")
    if machine.gpu and SKIPPED in messages:
        results.check("the GPU tests find the GPU", False, shortened(messages))
    # A crash ends the tests before their end, and leaves those that did not run without an outcome.
    ended = bool(found) and code == (0 if all(found.values()) else FAILURES)
    results.check("the GPU tests run to their end", ended, f"exit code {code}: {shortened(messages)}")
