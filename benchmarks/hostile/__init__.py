"""The parts of `benchmarks/robustness.py`: each makes sound files, and attempts one of them."""
