"""What ``weights: auto`` means."""

from __future__ import annotations


def resolve_weights(weights: str, source: str) -> str:
    """Return `weights`, or for ``auto``: random for the sample, so that it needs no network.

    Parameters
    ----------
    weights : str
        ``image.weights`` or ``text.weights``.
    source : str
        ``data.source``.
    """
    if weights != "auto":
        return weights
    return "random" if source == "sample" else "pretrained"
