"""Measure on this machine what cheaper settings gain and what they cost in agreement."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np

from tracker.associate.mask_tracker import MaskTracker
from tracker.config import DetectorConfig, RunConfig
from tracker.measure.agreement import Agreement, agreement
from tracker.types import Detections, Frame, Tracks
from tracker.types.stages import Detector
from tracker.video.source import open_source

SAMPLE = 3  # one frame in so many is detected with each setting; the default sees them all
SIZES = (0.75, 0.6, 0.45)  # of the model's own size
PROPOSALS = 300
EVERY = (2, 3, 5)


@dataclass(frozen=True, slots=True)
class Row:
    """What one setting costs and gives."""

    name: str
    settings: dict[str, int | str]  # of [detector], that differ
    seconds: float  # a frame: median, or mean where frames are carried
    spread: tuple[float, float]  # s, least and largest
    agreement: Agreement | None  # with torchvision's own loop, or with the default; None for itself


def read_frames(uri: str, config: RunConfig, count: int) -> list[Frame]:
    """Return the first `count` frames; raise SourceError."""
    with closing(open_source(uri, config.source)) as source:
        return list(islice(source, count))


def measure(
    frames: Sequence[Frame],
    config: RunConfig,
    *,
    reference: bool = True,
    on_start: Callable[[str], None] = lambda _: None,
) -> Iterator[Row]:
    """Yield a row for torchvision's own loop, for these settings, and for cheaper ones.

    Agreement is with torchvision's loop on every third frame, without `reference` with these
    settings; of carried frames with the tracks of all frames detected. `on_start` hears what is
    measured next. Raises ModelError and ConfigError.
    """
    from tracker.detect.hardware import keep_freed_memory  # torch takes seconds to import
    from tracker.detect.maskrcnn import MaskRCNNDetector
    from tracker.detect.reference import ReferenceDetector

    sample = frames[::SAMPLE]
    truth: list[Detections] | None = None
    if reference:
        on_start("torchvision's own loop")
        keep_freed_memory(False)
        truth, seconds = _detect(ReferenceDetector(config.detector), sample)
        yield _row("torchvision, eager float32", {}, seconds, None)
    on_start("the settings as they are")
    detector = MaskRCNNDetector(config.detector)
    found, seconds = _detect(detector, frames)
    precision = str(detector.precision).removeprefix("torch.")
    agrees = agreement(found[::SAMPLE], truth) if truth else None
    yield _row(f"these settings ({precision})", {}, seconds, agrees)
    truth = truth or found[::SAMPLE]
    for name, settings in cheaper(config.detector, detector.sizes, precision):
        on_start(name)
        changed = config.detector.model_copy(update=settings)
        results, spent = _detect(MaskRCNNDetector(changed), sample)
        yield _row(name, settings, spent, agreement(results, truth))
    for every in EVERY:
        if every < len(frames):
            name = f"every {every}{'nd' if every == 2 else 'rd' if every == 3 else 'th'} frame"
            on_start(name)
            yield _carried(name, every, frames, found, seconds, config)


def cheaper(
    config: DetectorConfig, sizes: tuple[int, int] | None, precision: str
) -> list[tuple[str, dict[str, int | str]]]:
    """Name the detector settings worth a try; `sizes` are the model's min_size and max_size."""
    choices: list[tuple[str, dict[str, int | str]]] = []
    if precision != "float32":
        choices.append(("float32", {"precision": "float32"}))
    if sizes is None:  # a model of another form, whose size and proposals are its own
        return choices
    if not config.proposals or config.proposals > PROPOSALS:
        choices.append((f"{PROPOSALS} proposals", {"proposals": PROPOSALS}))
    for share in SIZES:
        low, high = (max(32, round(side * share / 32) * 32) for side in sizes)
        choices.append((f"size {low}/{high}", {"min_size": low, "max_size": high}))
    return choices


def _detect(detector: Detector, frames: Sequence[Frame]) -> tuple[list[Detections], list[float]]:
    """Return the detections and the seconds of each frame, after one frame to warm up."""
    detector.detect(frames[:1])
    found, seconds = [], []
    for frame in frames:
        began = time.perf_counter()
        found += detector.detect([frame])
        seconds.append(time.perf_counter() - began)
    return found, seconds


def _carried(
    name: str,
    every: int,
    frames: Sequence[Frame],
    found: Sequence[Detections],
    seconds: Sequence[float],
    config: RunConfig,
) -> Row:
    """Track with and without the detections in between; their time is then the carrying's."""
    full, sparse = MaskTracker(config.tracker), MaskTracker(config.tracker, carries=True)
    expected, carried, spent = [], [], []
    for k, (frame, detections) in enumerate(zip(frames, found, strict=True)):
        expected.append(full.update(detections, frame.time, frame.image))
        if k % every == 0:
            carried.append(sparse.update(detections, frame.time, frame.image))
            spent.append(seconds[k])
        else:
            began = time.perf_counter()
            carried.append(sparse.carry(frame.time, frame.image))
            spent.append(time.perf_counter() - began)
    start = min(len(frames) // 2, 3 * every)  # until then tracks are being confirmed
    agrees = agreement(
        [_objects(tracks) for tracks in carried[start:]],
        [_objects(tracks) for tracks in expected[start:]],
        0.0,
    )
    mean = statistics.fmean(spent)
    return Row(name, {"every": every}, mean, (min(spent), max(spent)), agrees)


def _objects(tracks: Tracks) -> Detections:
    """Return tracks as what `agreement` compares, by descending score."""
    order = np.argsort(-tracks.scores, kind="stable")
    return Detections(
        boxes=tracks.boxes[order],
        scores=tracks.scores[order],
        labels=tracks.labels[order],
        masks=tuple(tracks.masks[k] for k in order),
    )


def _row(
    name: str, settings: dict[str, int | str], seconds: list[float], agrees: Agreement | None
) -> Row:
    return Row(name, settings, statistics.median(seconds), (min(seconds), max(seconds)), agrees)
