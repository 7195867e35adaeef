"""The networks, and the module that wraps one for use: raw pixels in, keypoints out."""
