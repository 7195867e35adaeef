"""Accuracy of keypoints, face scores and detections, reports, and comparison of runs. No PyTorch."""
