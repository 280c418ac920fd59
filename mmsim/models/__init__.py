"""Attention heads over cached features."""
