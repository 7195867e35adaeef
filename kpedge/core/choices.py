"""The names that flags, configurations and models share. Plain tuples: `kpedge --help` need not load a model."""

BACKBONES = ("plain", "rep", "mobile", "resnet18", "pyramid")
HEADS = ("coordinates", "heatmap", "simcc")
NORMS = ("batch", "group", "layer", "instance", "none")
NORMALISATIONS = ("crop", "fixed", "none")
"""How pixels are normalised: by each crop's own mean and deviation, by constants to -1 to 1, or left from 0 to 255."""
INITIALISATIONS = ("kaiming", "xavier", "orthogonal", "torch")
LOSSES = ("mse", "l1", "smooth-l1", "wing", "rectified-wing", "euclidean")
OPTIMISERS = ("sgd", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "adam-sgd")
SCHEDULES = ("cosine", "constant", "step", "multi-step", "exponential", "one-cycle", "plateau")
PRECISIONS = ("float32", "bfloat16", "float16")
