"""Recipes, the loop, and what is measured while it runs."""
