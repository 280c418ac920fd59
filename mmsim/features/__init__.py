"""Frozen encoders and the Zarr store of what they compute."""
