"""Multimodal similarity on precomputed features."""

__version__ = "0.1.0"
