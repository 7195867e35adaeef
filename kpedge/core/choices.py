"""The names that flags, configurations and models share. Plain tuples: `kpedge --help` need not load a model."""

LOSSES = ("mse", "l1", "smooth-l1", "wing", "rectified-wing", "euclidean")
OPTIMISERS = ("sgd", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "adam-sgd")
SCHEDULES = ("cosine", "constant", "step", "multi-step", "exponential", "one-cycle", "plateau")
PRECISIONS = ("float32", "bfloat16", "float16")
