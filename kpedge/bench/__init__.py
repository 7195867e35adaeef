"""Latency of model files, of the detector and of the live pipeline, and its reports."""
