"""Accuracy of keypoints, face scores and detections, their reports, and comparison of runs. No torch."""
