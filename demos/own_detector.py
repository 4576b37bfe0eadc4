"""Track with a detector of your own: here, whatever differs from an empty background."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import scene

import tracker


class Difference:
    """A detector is an object with `categories` and `detect`; this one needs a still camera."""

    categories = ("__background__", "moving object")

    def __init__(self, background: np.ndarray) -> None:
        self._background = background.astype(np.int16)

    def detect(self, frames: list[tracker.Frame]) -> list[tracker.Detections]:
        """Return what differs from the background, frame by frame."""
        return [self._detect(frame.image) for frame in frames]

    def _detect(self, image: np.ndarray) -> tracker.Detections:
        changed = np.abs(image.astype(np.int16) - self._background).max(axis=2) > 40
        whole = cv2.dilate(changed.astype(np.uint8), np.ones((5, 5)))  # close the gaps
        count, regions, stats, _ = cv2.connectedComponentsWithStats(whole)
        blobs = [k for k in range(1, count) if stats[k, cv2.CC_STAT_AREA] > 400]
        corners = [(x, y, x + w, y + h) for x, y, w, h in stats[blobs, :4].tolist()]
        return tracker.Detections(
            boxes=np.array(corners, np.float32).reshape(-1, 4),
            scores=np.full(len(blobs), 0.95, np.float32),
            labels=np.ones(len(blobs), np.int64),
            masks=tuple(
                tracker.Mask(x1, y1, regions[y1:y2, x1:x2] == k)
                for k, (x1, y1, x2, y2) in zip(blobs, corners, strict=True)
            ),
        )


def main(seconds: float = 4.0) -> int:
    """Track a scripted crossing of two people and print how many were found."""
    crossing, seen = scene.crossing(), set()
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "crossing.mp4"
        replace(crossing, times=crossing.times[: round(seconds * 25)]).write_video(video)
        detector = Difference(replace(crossing, actors=()).image(0))
        for result in tracker.track(video, detector=detector):
            seen.update(result.tracks.ids.tolist())
    print(f"{len(seen)} moving objects")
    return len(seen)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
