"""Reads the traces that `train --profile` writes."""

DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
# What the host asked of libtorch.
HOST = ("cpu_op",)


def work_of(events, categories=DEVICE):
    """What the device did, or whatever these categories are of, as (begin, end) in microseconds, by begin."""
    return sorted((event["ts"], event["ts"] + event["dur"]) for event in events
                  if event.get("ph") == "X" and event.get("cat") in categories)


def stage(events, name):
    """When a stage was busy with each of its items, as (begin, end), by begin."""
    return sorted((event["ts"], event["ts"] + event["dur"]) for event in events
                  if event.get("cat") == "stage" and event.get("name") == name)


def stages(events):
    return {event["name"] for event in events if event.get("cat") == "stage"}


def steps_of_epoch(events, epoch, batches, categories=DEVICE):
    """From when to when the steps of an epoch were taken, and the work in between, where every epoch so far had so many batches.

    What follows an epoch's last step, such as a checkpoint, belongs to that step's item: the time ends with the last work in it.
    """
    items = stage(events, "train")
    if len(items) < (epoch + 1) * batches:
        raise ValueError(f"the trace has {len(items)} training items, too few for epoch {epoch} of {batches} batches each")
    of_epoch = items[epoch * batches:(epoch + 1) * batches]
    begin, end = of_epoch[0][0], of_epoch[-1][1]
    work = [(max(begin, start), min(end, stop)) for start, stop in work_of(events, categories) if start < end and begin < stop]
    if not work:
        raise ValueError(f"the trace shows no work in epoch {epoch}")
    return begin, max(stop for _, stop in work), work


def busy_share(events, epoch, batches, categories=DEVICE):
    """The share of the time of an epoch's training steps in which the device had work."""
    begin, end, work = steps_of_epoch(events, epoch, batches, categories)
    busy, reached = 0.0, begin
    for start, stop in work:
        busy += max(0.0, stop - max(start, reached))
        reached = max(reached, stop)
    return busy / (end - begin)
