"""What the evaluation of linking takes from a trained head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SeedLinkScores:
    """Scores of the head of one seed.

    Attributes
    ----------
    valid, test : ndarray of float32, shape (mentions, L + 1)
        Of the entities in `mmsim.evaluation.linking.lists.candidate_lists` of the split; -inf
        where there is none.
    controls : dict of str to ndarray of float32, shape (test mentions, L + 1)
        The same of changed test mentions, by what was changed.
    pool_ranks : ndarray of float64, shape (test mentions with a gold,)
        Rank of each gold among all entities.
    retrieved : ndarray of bool, shape (test mentions with a gold,)
        Whether the gold was among the entities that were scored in full.
    """

    valid: NDArray[np.float32]
    test: NDArray[np.float32]
    controls: dict[str, NDArray[np.float32]]
    pool_ranks: NDArray[np.float64]
    retrieved: NDArray[np.bool_]
