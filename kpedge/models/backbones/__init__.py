"""Backbones: from normalised pixels to feature maps of falling resolution. One file each."""
