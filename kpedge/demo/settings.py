"""How much of everything the demo does."""

from dataclasses import dataclass, replace
from typing import Any

from kpedge.training.config import TrainConfig
from kpedge.training.recipes import RECIPES

RECIPE = "stage3"
NAME = "demo"  # of the model that is trained, and of its files
FACES_FROM = 1_000_000
"""The seeds of the demo's synthetic faces start here: the released models were trained on `kpedge data synth --seed 1`,
and are measured on faces that they have not seen."""
QUICK: dict[str, Any] = {"photos": 200, "epochs": 8, "rounds": 3, "seconds": 4.2}
"""Settings of `--quick`: everything, with too little training for its figures to mean anything."""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What a demo is made of."""

    photos: int = 1000  # synthetic photos; a tenth validates, a tenth tests
    epochs: int = 20  # of the training
    rounds: int = 20  # in which every form of the model has a turn when it is timed
    calls: int = 30  # timed calls in a turn
    seconds: float = 9.6  # of the video
    threads: int = 1  # of the training; one gives the same model everywhere
    seed: int = 0  # of faces, above `FACES_FROM`, of training and noise

    @property
    def face_seed(self) -> int:
        """The seed of the synthetic faces, as `kpedge data synth` takes it."""
        return FACES_FROM + self.seed

    def training(self) -> TrainConfig:
        """The recipe of stage 3, cut short: few faces are shown, so steps take few of them, and are many."""
        batch_size = min(32, max(8, self.photos // 12))
        steps = max(1, self.epochs * self.photos // batch_size)
        return replace(
            RECIPES[RECIPE],
            epochs=self.epochs,
            batch_size=batch_size,
            warmup=min(60 / steps, 1 / 6),
            ema_decay=0.99,
            negatives=0.5,
            scale=0.08,
            shift=0.06,
            threads=self.threads,
            seed=self.seed,
        )
