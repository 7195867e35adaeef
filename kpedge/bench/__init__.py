"""Measuring: accuracy of a model file, latency of its forms, and the reports of both."""
