"""Worlds whose answer is known, to see whether the report finds it."""
