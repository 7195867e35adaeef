"""Networks, batch-norm folding, checkpoints, and what a network looks at."""
