"""Reads the traces that `train --profile` writes."""

DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")


def device_work(events):
    """What the device did, as (begin, end) in microseconds, by begin."""
    return sorted((event["ts"], event["ts"] + event["dur"]) for event in events
                  if event.get("ph") == "X" and event.get("cat") in DEVICE)


def stage(events, name):
    """When a stage was busy with each of its items, as (begin, end), by begin."""
    return sorted((event["ts"], event["ts"] + event["dur"]) for event in events
                  if event.get("cat") == "stage" and event.get("name") == name)


def stages(events):
    return {event["name"] for event in events if event.get("cat") == "stage"}


def steps_of_epoch(events, epoch, batches):
    """From when to when the steps of an epoch were taken, where every epoch has so many batches and nothing else was in between.

    Checkpoints and validation are no steps: what follows an epoch's last step belongs to that step's item, and the window ends with
    the last work that the device was given in it.
    """
    items = stage(events, "train")
    if len(items) < (epoch + 1) * batches:
        raise ValueError(f"the trace has {len(items)} training items, too few for epoch {epoch} of {batches} batches each")
    of_epoch = items[epoch * batches:(epoch + 1) * batches]
    begin, end = of_epoch[0][0], of_epoch[-1][1]
    work = [(max(begin, start), min(end, stop)) for start, stop in device_work(events) if start < end and begin < stop]
    if not work:
        raise ValueError(f"the trace shows no work of a device in epoch {epoch}")
    return begin, max(stop for _, stop in work), work


def busy_share(events, epoch, batches):
    """The share of the time of an epoch's training steps in which the device had work."""
    begin, end, work = steps_of_epoch(events, epoch, batches)
    busy, reached = 0.0, begin
    for start, stop in work:
        busy += max(0.0, stop - max(start, reached))
        reached = max(reached, stop)
    return busy / (end - begin)
