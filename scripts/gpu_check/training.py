"""Training runs of the network that the aims are for."""

from . import history
from .aims import PRESET, SETTINGS

EPOCHS = 5


def flags(*settings):
    return ["--preset", PRESET, *(part for setting in (*SETTINGS, *settings) for part in ("--set", setting))]


class Run:
    """A training run: its flags, and what came of it."""

    def __init__(self, machine, atlas, name, batch, precision="float32", epochs=EPOCHS, settings=()):
        self.machine, self.atlas, self.batch, self.precision = machine, atlas, batch, precision
        self.folder = machine.data / name
        # Validation only after the last epoch.
        settings = (f"train.precision={precision}", f"train.check_val_every_n_epoch={epochs + 1}", *settings)
        self.arguments = [atlas.path, "--out", self.folder, "--device", machine.device, "--epochs", epochs, "--batch-size", batch,
                          *flags(*settings)]
        self.report = None

    def train(self, budget, *more):
        self.report = self.machine.perturbine("train", *self.arguments, *more, budget=budget)
        return self

    def explain(self, budget):
        """Device memory as `explain` predicts it, in bytes."""
        return self.machine.perturbine("explain", "train", *self.arguments, budget=budget)["device_bytes"]

    def device_bytes(self):
        return self.report["peak_device_bytes"]

    def epochs(self):
        return history.epochs(self.folder)
