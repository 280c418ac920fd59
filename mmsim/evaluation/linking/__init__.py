"""Figures of linking: protocols, baselines, slices."""
