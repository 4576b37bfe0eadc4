"""Who is gone but may return: tracks kept by their looks, for a while."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tracker.associate.appearance import Appearance
from tracker.associate.track_table import TrackTable
from tracker.snapshot import GalleryState

FloatArray = npt.NDArray[np.float64]


class Gallery:
    """Hold ended tracks for `keep_s` seconds and give back their ids to who looks the same."""

    def __init__(self, keep_s: float, similarity: float) -> None:
        self._keep_s = keep_s
        self._similarity = similarity  # least cosine of two looks
        self._looks = Appearance()
        self._gone = TrackTable.empty()

    def observe(self, embeddings: npt.NDArray[Any]) -> None:
        """Learn from a frame's embeddings, (N, D), what all objects have in common."""
        if np.isfinite(embeddings).all():
            self._looks.observe(embeddings)

    def add(self, ended: TrackTable, time: float) -> None:
        """Take tracks in that have an id and a look; let go of those that are too old."""
        known = ended.embedding.any(axis=1) if ended.embedding.size else np.zeros(len(ended), bool)
        ended = ended.rows((ended.id > 0) & known)
        ended.masks = [None] * len(ended)
        self._gone.append(ended)
        self._gone.keep(time - self._gone.seen <= self._keep_s)

    def claim(self, embedding: FloatArray, label: int) -> int:
        """Return the id of whoever of this class looks like `embedding`, (1, D), and drop it; or 0.

        What nobody resembles enough, or has no look, gets 0.
        """
        gone = self._gone
        looks = self._looks.similarity(embedding, gone.embedding)
        if looks is None or not len(gone):
            return 0
        alike = np.where(gone.label == label, looks[0], -1.0)
        best = int(alike.argmax())
        if not alike[best] >= self._similarity:  # also where it is no number
            return 0
        id_ = int(gone.id[best])
        gone.keep(np.arange(len(gone)) != best)
        return id_

    def state(self) -> GalleryState:
        """Return all that `restore` needs."""
        return GalleryState(appearance=self._looks.state(), gone=self._gone.state())

    def restore(self, state: GalleryState) -> None:
        """Continue exactly where `state` was taken."""
        self._looks.restore(state.appearance)
        self._gone = TrackTable.restored(state.gone)
