"""Results frame by frame without a folder, and the parts that settings name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tracker import pipeline
from tracker.associate.mask_tracker import MaskTracker
from tracker.config import RunConfig
from tracker.count.stage import CountStage
from tracker.types import FrameResult
from tracker.types.stages import Detector, as_detector
from tracker.video.source import open_source


def track(
    uri: str | Path, config: RunConfig | None = None, *, detector: Any = None
) -> Iterator[FrameResult]:
    """Yield every frame of a video with its detections, tracks and counts.

    `uri` is whatever `open_source` takes; `detector` defaults to the model that `config` names. The
    last frame of a file has the events that are sure by its being the last. Raises TrackerError.
    """
    config = config or RunConfig()
    with closing(open_source(uri, config.source)) as source:
        found = as_detector(detector if detector is not None else load_detector(config))
        counting = CountStage(config.count)
        results = pipeline.stream(
            source,
            found,
            make_tracker(config),
            batch_size=found.info.batch_size,
            every=config.detector.every,
            counting=counting,
        )
        with closing(results):
            yield from results if source.info.live else _finished(results, counting)


def _finished(results: Iterator[FrameResult], counting: CountStage) -> Iterator[FrameResult]:
    """Yield all results; the last one with what is sure by that."""
    waiting = next(results, None)
    for result in results:
        if waiting is not None:
            yield waiting
        waiting = result
    if waiting is not None:
        yield counting.finished(waiting)


def load_detector(config: RunConfig) -> Detector:
    """Load the detector that the settings name; only here torch is imported. Raises ModelError."""
    from tracker.detect.open import open_detector

    return open_detector(config.detector, embeddings=config.tracker.gallery_s > 0)


def make_tracker(config: RunConfig) -> MaskTracker:
    """Build the tracker that the settings name."""
    every, refines = config.detector.every, config.output.refine
    return MaskTracker(config.tracker, carries=every > 1, keeps_masks=refines)
