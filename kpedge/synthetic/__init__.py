"""Synthetic faces: photos of parametric heads in three dimensions, with 21 exact points each.

From a seed and a number follows a photo; nothing is read, nothing is learnt. docs/synthetic.md says how they are made
and how well models trained on them do.
"""

from kpedge.synthetic.scene import SyntheticFace, SyntheticPhoto, render_photo
from kpedge.synthetic.write import SYNTHETIC_FORM, SyntheticReport, write_synthetic

__all__ = [
    "SYNTHETIC_FORM",
    "SyntheticFace",
    "SyntheticPhoto",
    "SyntheticReport",
    "render_photo",
    "write_synthetic",
]
