"""The parts of a check, in their order, and what they share."""

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from ..atlases import Atlas
from ..machine import Machine
from ..results import Results
from ..training import Run


@dataclass
class Check:
    """What a part is given, and what it leaves for later ones."""

    machine: Machine
    results: Results
    cells: int
    precisions: Tuple[str, ...]
    genes: int
    small: Optional[Atlas] = None
    large: Optional[Atlas] = None
    # Cells a second of steps whose batches are packed already, by engine, precision and batch size.
    steps: Dict[tuple, float] = field(default_factory=dict)
    # How long a training run takes beside its epochs, in seconds: its start, the validation and what it writes. The first run tells better.
    beside_epochs: float = 8.0
    # Training runs that ended, by precision and batch size.
    runs: Dict[tuple, Run] = field(default_factory=dict)

    def atlas(self):
        """The largest atlas that there is."""
        if self.large or self.small:
            return self.large or self.small
        raise LookupError("no atlas could be made")

    def model(self):
        """A trained model, with the atlas that it was trained on."""
        if self.runs:
            return next(iter(self.runs.values()))
        raise LookupError("no training run finished, so there is no model")
