"""Configuration, the training loop and its tasks, losses, optimizers, logging, distributed training."""
