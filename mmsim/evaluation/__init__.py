"""Figures, curves and predictions of trained heads."""
