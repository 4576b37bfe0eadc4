"""How alike two objects look, by the detector's own features.

Raw features of one detector are nearly parallel: what all objects share outweighs what tells them
apart. So they are compared after each component's mean is taken off and its spread made one, both
learnt from the video as it goes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tracker.snapshot import AppearanceState

FloatArray = npt.NDArray[np.float64]

ENOUGH = 60  # detections that must have been seen before anything is said
MOST = 5000  # detections; beyond, older ones fade


class Appearance:
    """Compare embeddings, (N, D), with statistics of all that were seen."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: FloatArray = np.zeros(0)
        self._spread: FloatArray = np.zeros(0)  # mean square deviation

    def observe(self, embeddings: npt.NDArray[Any]) -> None:
        """Learn from a frame's embeddings."""
        if not embeddings.size:
            return
        new = np.asarray(embeddings, np.float64)
        if len(self._mean) != new.shape[1]:  # the first ones, or those of another detector
            self._count, self._mean, self._spread = (
                0,
                np.zeros(new.shape[1]),
                np.zeros(new.shape[1]),
            )
        self._count = min(self._count + len(new), MOST)
        share = len(new) / self._count
        ahead = new.mean(axis=0) - self._mean
        within = ((new - new.mean(axis=0)) ** 2).mean(axis=0)
        self._spread = (1 - share) * (self._spread + share * ahead**2) + share * within
        self._mean = self._mean + share * ahead

    def similarity(self, a: FloatArray, b: npt.NDArray[Any]) -> FloatArray | None:
        """Return cosines in [-1, 1], (len(a), len(b)); 0 where unknown, None if all are."""
        if self._count < ENOUGH or a.shape[1] != len(self._mean) or b.shape[1] != len(self._mean):
            return None
        return self._standard(a) @ self._standard(np.asarray(b, np.float64)).T

    def _standard(self, embeddings: FloatArray) -> FloatArray:
        known = embeddings.any(axis=1, keepdims=True)
        unlike = (embeddings - self._mean) / np.sqrt(self._spread + 1e-12)
        length = np.linalg.norm(unlike, axis=1, keepdims=True)
        return np.where(known, unlike / np.maximum(length, 1e-12), 0.0)

    def state(self) -> AppearanceState:
        """Return all that `restore` needs."""
        mean, spread = tuple(self._mean.tolist()), tuple(self._spread.tolist())
        return AppearanceState(count=self._count, mean=mean, spread=spread)

    def restore(self, state: AppearanceState) -> None:
        """Continue exactly where `state` was taken."""
        self._count = state.count
        self._mean = np.array(state.mean, np.float64)
        self._spread = np.array(state.spread, np.float64)
