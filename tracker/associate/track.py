"""One object as the tracker knows it, and its form in a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from tracker.masks import Mask, mask_to_rle, rle_to_mask

FloatArray = npt.NDArray[np.float64]


class Life(Enum):
    """Where a track is in its life; one that is gone is simply no longer kept."""

    TENTATIVE = "tentative"  # seen, but not often enough to be given an id
    CONFIRMED = "confirmed"  # seen in the latest frame
    LOST = "lost"  # confirmed once, not seen in the latest frame


@dataclass(slots=True, eq=False)
class Track:
    """One object as the tracker knows it; boxes xyxy px, times s."""

    mean: FloatArray  # (4, 2), see kalman.py
    covariance: FloatArray  # (4, 3)
    box: FloatArray  # (4,) as last detected
    mask: Mask | None  # as last detected
    score: float
    seen: float
    cruise: FloatArray  # (4,) vx, vy px/s and w, h px, averaged over the last moments
    hits: int = 1
    id: int = 0  # given when confirmed
    source: int = -1  # row of the latest frame's detections, -1 = not seen there
    votes: dict[int, float] = field(default_factory=dict)  # label -> sum of scores

    @property
    def label(self) -> int:
        """The class with the most votes; the lower label wins a tie."""
        return min(self.votes, key=lambda label: (-self.votes[label], label))

    @property
    def life(self) -> Life:
        """Where the track is in its life after the latest frame."""
        if not self.id:
            return Life.TENTATIVE
        return Life.CONFIRMED if self.source >= 0 else Life.LOST


def coast(track: Track) -> None:
    """Let a track that was just lost go on at its average motion and size.

    What hides an object first cuts its box on the side it moves to: the box shrinks and its centre
    slows, though the object does neither. The averages still know better, and the centre moves
    forward by half of what was cut.
    """
    motion, size = track.cruise[:2], track.cruise[2:]
    mean = track.mean.copy()
    mean[:2, 0] += np.sign(motion) * np.maximum(size - mean[2:, 0], 0) / 2
    mean[:2, 1], mean[2:, 0] = motion, size
    track.mean = mean


def rescale(track: Track, sx: float, sy: float) -> None:
    """Bring a track into a picture of another size; its mask is known again when it is seen."""
    scale = np.array([sx, sy, sx, sy])
    track.mean = track.mean * scale[:, None]
    track.covariance = track.covariance * (scale**2)[:, None]
    track.cruise = track.cruise * scale
    track.box = track.box * scale
    track.mask = None


def track_to_json(track: Track) -> dict[str, Any]:
    mask = None
    if track.mask is not None:  # the window stands in for the frame, which the tracker never sees
        height, width = track.mask.bits.shape
        window = Mask(0, 0, track.mask.bits)
        rle = mask_to_rle(window, width, height) if window.bits.size else None
        mask = {"x": track.mask.x, "y": track.mask.y, "size": [height, width], "rle": rle}
    return {
        "mean": track.mean.tolist(),
        "covariance": track.covariance.tolist(),
        "box": track.box.tolist(),
        "mask": mask,
        "score": track.score,
        "seen": track.seen,
        "cruise": track.cruise.tolist(),
        "source": track.source,
        "hits": track.hits,
        "id": track.id,
        "votes": sorted(track.votes.items()),
    }


def track_from_json(item: dict[str, Any]) -> Track:
    mask = None
    if item["mask"] is not None:
        x, y, (height, width) = item["mask"]["x"], item["mask"]["y"], item["mask"]["size"]
        bits = np.zeros((height, width), np.bool_)
        if item["mask"]["rle"]:
            seen = rle_to_mask(item["mask"]["rle"])
            x1, y1, x2, y2 = seen.box
            bits[y1:y2, x1:x2] = seen.bits
        mask = Mask(x, y, bits)
    return Track(
        mean=np.array(item["mean"], np.float64),
        covariance=np.array(item["covariance"], np.float64),
        box=np.array(item["box"], np.float64),
        mask=mask,
        score=item["score"],
        seen=item["seen"],
        cruise=np.array(item["cruise"], np.float64),
        source=item["source"],
        hits=item["hits"],
        id=item["id"],
        votes={int(label): float(votes) for label, votes in item["votes"]},
    )
