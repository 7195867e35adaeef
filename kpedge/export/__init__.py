"""Export formats of a model: writing them, opening them, and checking that they compute the same numbers."""
