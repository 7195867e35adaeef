"""Training batches from several prepared sets: faces of the main set, of further ones, and negatives of all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import COLOURS
from kpedge.core.errors import DataError
from kpedge.core.keypoints import conversion
from kpedge.core.scheme import KeypointScheme
from kpedge.data.packed import PreparedSet
from kpedge.data.prefetch import prefetch
from kpedge.data.sampling import CropSampler


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What a training step is fed with."""

    crops: NDArray[np.uint8]  # uint8 (B, size, size, channels)
    # float32 (B, K, 2), fractions of the crop; NaN where a point is not labelled, as all of a negative's
    keypoints: NDArray[np.float32]
    face: NDArray[np.float32]  # float32 (B,), 1 for a face, 0 for a negative
    source: NDArray[np.int64]  # int64 (B,), the set that each sample comes from; 0 is the main one

    def __len__(self) -> int:
        return len(self.crops)


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Which samples an epoch consists of, and in what order: a function of seed and epoch alone.

    Every epoch shows each face of the main set once.
    """

    samplers: Sequence[CropSampler]  # of the sets, the main one first; all give crops of one size and colour
    negatives: float  # negatives per face of the epoch, drawn for each epoch from those of all sets
    # faces of the other sets for each face of the main set, drawn for each epoch; fewer if they have fewer
    others: float
    seed: int  # of order and choice

    def __post_init__(self) -> None:
        first = self.samplers[0].source
        for sampler in self.samplers[1:]:
            if sampler.source.scheme != first.scheme:
                raise DataError(
                    f"{sampler.source.path} has {sampler.source.scheme.name} keypoints, "
                    f"{first.path} has {first.scheme.name}",
                    "make them one with kpedge.data.mixture.in_scheme",
                )
        if self.negatives and not any(len(sampler.source.negatives("train")) for sampler in self.samplers):
            raise DataError(
                f"{first.path}: no negatives to train on",
                "prepare the set with --negatives, or add one of background photos (--format background)",
            )

    def plan(self, epoch: int) -> NDArray[np.int64]:
        """The samples of an epoch in their order: set, row of the set, 1 for a face, (N, 3)."""
        faces = [self._rows(number, sampler.source.indices("train"), 1) for number, sampler in enumerate(self.samplers)]
        main, others = faces[0], np.concatenate([faces[0][:0], *faces[1:]])
        rng = np.random.default_rng((self.seed, epoch, 3))
        shown = np.concatenate([main, _draw(rng, others, min(len(others), round(self.others * len(main))))])
        if self.negatives:
            pool = np.concatenate(
                [self._rows(number, one.source.negatives("train"), 0) for number, one in enumerate(self.samplers)]
            )
            shown = np.concatenate([shown, _draw(rng, pool, round(self.negatives * len(shown)))])
        return shown[np.random.default_rng((self.seed, epoch, 1)).permutation(len(shown))]

    @staticmethod
    def _rows(number: int, indices: NDArray[np.intp], face: int) -> NDArray[np.int64]:
        return np.stack([np.full_like(indices, number), indices, np.full_like(indices, face)], axis=1).astype(np.int64)

    def batches(
        self, epoch: int, batch_size: int, *, rank: int = 0, world: int = 1, workers: int = 0
    ) -> Iterator[Batch]:
        """One epoch, from 1, a last part batch kept.

        Of several processes (`world`) each gets `batch_size` samples of a step, split evenly; a last part batch with
        fewer samples than processes is left out. So many worker threads prepare batches ahead, none with 0; the batches
        are the same.
        """
        plan, step = self.plan(epoch), batch_size * world
        plan = plan[: self.steps(batch_size, world) * step]
        chunks = [np.array_split(plan[start : start + step], world)[rank] for start in range(0, len(plan), step)]
        yield from prefetch(lambda rows: self.assemble(rows, epoch), chunks, workers)

    def steps(self, batch_size: int, world: int = 1) -> int:
        """Steps of an epoch."""
        whole, rest = divmod(len(self.plan(1)), batch_size * world)
        return whole + (rest >= world)

    def assemble(self, rows: NDArray[np.int64], epoch: int) -> Batch:
        """The samples of some rows of the plan."""
        first = self.samplers[0]
        crops = np.empty((len(rows), first.size, first.size, COLOURS[first.colour]), np.uint8)
        keypoints = np.empty((len(rows), len(first.source.scheme), 2), np.float32)
        for row, (number, index, _) in enumerate(rows.tolist()):
            crops[row], keypoints[row] = self.samplers[number].sample(index, epoch)
        return Batch(crops, keypoints, rows[:, 2].astype(np.float32), rows[:, 0])


def in_scheme(source: PreparedSet, scheme: KeypointScheme) -> PreparedSet:
    """A set with its points as those of another scheme; those that do not follow count as not labelled. What shows no
    face belongs to any scheme.

    Raises:
        DataError: the set has faces, but none of the points follows.
    """
    if source.scheme == scheme:
        return source
    convert = conversion(source.scheme, scheme)
    if source.face.any() and not len(convert.known):
        raise DataError(
            f"{source.path} has {source.scheme.name} keypoints, from which no point of {scheme.name} follows",
            "points are the same where their names are; a scheme's [derived] says what else follows (docs/schemes.md)",
        )
    return replace(source, scheme=scheme, keypoints=convert(source.keypoints))


def _draw(rng: np.random.Generator, pool: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """`count` rows of a pool, none twice as long as there are enough."""
    return pool[rng.choice(len(pool), count, replace=count > len(pool))] if count else pool[:0]
