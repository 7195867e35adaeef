"""Heads: from feature maps to keypoints. One file each."""
