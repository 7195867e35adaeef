"""Synthetic faces: photos of parametric heads in three dimensions, with 21 exact points each.

From a seed and a number follows a photo; nothing is read, nothing is learnt. docs/synthetic.md says how they are made
and what they are worth.
"""

from kpedge.datasets.synthetic.scene import SyntheticFace, SyntheticPhoto, render_photo
from kpedge.datasets.synthetic.write import SYNTHETIC_FORM, TERMS, SyntheticReport, write_synthetic

__all__ = [
    "SYNTHETIC_FORM",
    "TERMS",
    "SyntheticFace",
    "SyntheticPhoto",
    "SyntheticReport",
    "render_photo",
    "write_synthetic",
]
