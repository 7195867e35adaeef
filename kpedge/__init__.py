"""kpedge: train face-keypoint models, prove their exports, and run them on edge devices."""

__version__ = "0.1.0"
