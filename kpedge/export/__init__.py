"""The file formats of a model: writing them, opening them, and proving that they compute the same numbers."""
