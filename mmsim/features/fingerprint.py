"""Hashes that say whether two sets of features were made the same way from the same content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch

# Raised when the code below changes what it computes for the same parameters.
ENCODING_VERSION = 1


def hash_of_state(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of weights: their names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def hash_of_description(description: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a description of an encoder that JSON can hold."""
    content = {"encoding": ENCODING_VERSION, **description}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def hash_of_ids(ids: Iterable[bytes | None]) -> str:
    """Return the SHA-256 over content ids in order; rows without content count as zeros."""
    digest = hashlib.sha256()
    for identity in ids:
        digest.update(identity or bytes(32))
    return digest.hexdigest()
