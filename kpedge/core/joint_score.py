"""One score of a detector and a keypoint model for what both take for a face."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

LOWEST = 0.1  # score of the detector from which on the keypoint model looks, where a joint score decides
JOINT_THRESHOLD = 0.5  # joint score from which on there is a face
_LARGEST_LOGIT, _LARGEST_TOTAL = 6.0, 500.0  # beyond 6 the face score is surer than it is right
_NUMBERS = ("detector", "keypoints", "error", "size", "support", "constant", "rotated")


@dataclass(frozen=True, slots=True, kw_only=True)
class JointScore:
    """A logistic regression, moved so that `JOINT_THRESHOLD` is the operating point, on the logits of both scores and
    the logarithms of expected error, size and support: the points of what is no face are uncertain, small faces get
    lower scores, and what the detector finds in one place and size only is more often a mistake. Two thresholds in a
    row would reject what one model is sure of and the other nearly accepts.
    """

    detector_sha256: str  # weights of the detector that it was fitted with; it is used with no other
    detector: float  # weight of the detector's logit
    keypoints: float  # weight of the keypoint model's logit
    # weight of the logarithm of the mean expected error, in the mean distance of the points from their mean
    error: float
    size: float  # weight of the logarithm of the side of the detected box, in the longer side of the image
    support: float = 0.0  # weight of the logarithm of `Detection.support`
    constant: float  # added to the sum
    # joint score from which on there is a face in an image that was rotated to find it
    rotated: float = JOINT_THRESHOLD

    def __call__(self, *, detector: float, keypoints: float, error: float, size: float, support: float) -> float:
        """The joint score, from 0 to 1, of both models' scores, the expected error, the size and the support."""
        total = self.detector * logit(detector) + self.keypoints * logit(keypoints)
        total += self.error * _log(error) + self.size * _log(size) + self.support * _log(support) + self.constant
        return 1 / (1 + math.exp(-max(-_LARGEST_TOTAL, min(total, _LARGEST_TOTAL))))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> JointScore:
        """The inverse of `to_dict`.

        Raises:
            ValueError: a number is missing or not finite.
        """
        numbers = {name: float(data[name]) for name in _NUMBERS if name != "support" or name in data}
        if not all(map(math.isfinite, numbers.values())):
            raise ValueError("joint score")
        return cls(detector_sha256=str(data["detector_sha256"]), **numbers)


def logit(score: float) -> float:
    """The logit of a score from 0 to 1, clipped to ±6."""
    if not 0 < score < 1:
        return math.copysign(_LARGEST_LOGIT, score - 0.5)
    return max(-_LARGEST_LOGIT, min(math.log(score / (1 - score)), _LARGEST_LOGIT))


def _log(value: float) -> float:
    return math.log(max(value, 1e-4))
