"""Model file formats: write them, open them, and verify that they compute the same numbers."""
