"""Turn a run into labelled pictures: its frames, and the objects that its tracks agree on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tracker.config import SourceConfig, load_config, parse_stride
from tracker.errors import ConfigError, FormatError, SinkError
from tracker.files import JsonObject, new_file
from tracker.formats import coco, jsonl
from tracker.formats.rows import to_rows
from tracker.runs.record import RunRecord
from tracker.types import Frame, LoggedFrame
from tracker.video.source import open_source
from tracker.video.still import write_picture

_STILL_S = 2.0  # an object that keeps its place for so long stays put
_STILL_SHARE = 0.1  # ... where it is mostly within so much of its height of its usual place
Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which frames and which tracks become labels."""

    every: int | str = "1s"  # one frame of so many, or one each so many seconds
    min_score: float = 0.6  # least mean score of a track
    min_length_s: float = 0.3  # least time from its first to its last frame
    still_score: float = 0.0  # least mean score of one that stays put: false objects never move
    unsure: bool = False  # keep the other tracks as crowds: regions that training does not judge


@dataclass(frozen=True, slots=True)
class Labels:
    """What was written."""

    path: Path  # of the COCO file
    frames: int
    objects: int
    tracks: int
    dropped: int  # tracks that were not good enough


def export_labels(
    run: Path, output: Path, selection: Selection | None = None, video: Path | None = None
) -> Labels:
    """Write `output`/labels.json (COCO) and `output`/frames/*.jpg of a run.

    The refined tracks are taken where the run has them. The video is the one that the run was made
    of, or `video` where it has moved. Raises ConfigError, FormatError, SourceError, SinkError.
    """
    selection = selection or Selection()
    names = ("tracks-refined.jsonl", "tracks.jsonl")
    log_path = next((run / name for name in names if (run / name).is_file()), None)
    if log_path is None:
        raise ConfigError(f"{run}: holds no tracks.jsonl; give the folder of a run")
    uri, config = _source_of(run, video)
    good = _good_tracks(log_path, selection)
    try:
        (output / "frames").mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise SinkError(f"{output / 'frames'}: cannot be made: {exc.strerror}") from exc
    log = jsonl.read(log_path)
    name = Path(uri).stem
    images: list[JsonObject] = []
    annotations: list[JsonObject] = []
    with closing(open_source(uri, config)) as source:
        logged = _strided(iter(log.frames), selection.every)
        for frame, wanted in _together(source, logged, f"{uri}: is not the video of {run}"):
            file_name = f"frames/{name}-{frame.index:06d}.jpg"
            write_picture(output / file_name, frame.image)
            images.append(coco.image_json(wanted) | {"file_name": file_name, "video": name})
            annotations += _annotations(wanted, good, selection, len(annotations) + 1)
    path = output / "labels.json"
    content = {
        "info": coco.info_json(log.info),
        "images": images,
        "annotations": annotations,
        "categories": coco.categories_json(log.info),
    }
    with new_file(path) as file:
        json.dump(content, file)
    objects = sum(not item["iscrowd"] for item in annotations)
    return Labels(path, len(images), objects, sum(good.values()), len(good) - sum(good.values()))


def _together(
    frames: Iterable[Frame], logged: Iterator[LoggedFrame], wrong: str
) -> Iterator[tuple[Frame, LoggedFrame]]:
    """Yield each logged frame with its picture; raise FormatError where the two do not fit."""
    wanted = next(logged, None)
    for frame in frames:
        if wanted is None:
            return
        if frame.index < wanted.index:
            continue
        size = (frame.width, frame.height)
        if frame.index != wanted.index or size != (wanted.width, wanted.height):
            raise FormatError(f"{wrong}: frame {wanted.index} differs")
        yield frame, wanted
        wanted = next(logged, None)
    if wanted is not None:
        raise FormatError(f"{wrong}: it ends before frame {wanted.index}")


def _annotations(
    frame: LoggedFrame, good: dict[int, bool], selection: Selection, first: int
) -> list[JsonObject]:
    """Return the objects of a frame; those that are not good are crowds, or left out."""
    rows = [
        row
        for row in to_rows(frame.tracks)
        if row.mask is not None and row.mask.area and (selection.unsure or good[row.id])
    ]
    return [
        coco.annotation_json(row, frame, number) | {"iscrowd": int(not good[row.id])}
        for number, row in enumerate(rows, first)
    ]


def _good_tracks(path: Path, selection: Selection) -> dict[int, bool]:
    """Tell of each track of a log whether it is seen long enough and scores enough."""
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    scores: dict[int, list[float]] = {}
    boxes: dict[int, list[Array]] = {}
    for frame in jsonl.read(path).frames:
        for k, id_ in enumerate(frame.tracks.ids.tolist()):
            first.setdefault(id_, frame.time)
            last[id_] = frame.time
            boxes.setdefault(id_, []).append(frame.tracks.boxes[k])
            if frame.tracks.sources[k] >= 0:
                scores.setdefault(id_, []).append(float(frame.tracks.scores[k]))

    def good(id_: int) -> bool:
        length = last[id_] - first[id_]
        least = selection.min_score
        if length >= _STILL_S and _is_still(np.array(boxes[id_])):
            least = max(least, selection.still_score)
        known = scores.get(id_, [0.0])
        return length >= selection.min_length_s and sum(known) >= least * len(known)

    return {id_: good(id_) for id_ in first}


def _is_still(boxes: Array) -> bool:
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    away = np.linalg.norm(centres - np.median(centres, axis=0), axis=1)
    height = np.median(boxes[:, 3] - boxes[:, 1])
    return bool(np.median(away) < _STILL_SHARE * height)


def _strided(frames: Iterator[LoggedFrame], every: int | str) -> Iterator[LoggedFrame]:
    unit, step = parse_stride(every)
    due = 0.0
    for number, frame in enumerate(frames):
        place = float(number) if unit == "frames" else frame.time
        if place >= due - 1e-6:
            due = place + step if unit == "frames" else max(due + step, place)
            yield frame


def _source_of(run: Path, video: Path | None) -> tuple[str, SourceConfig]:
    """Return the video of a run and which part of it was tracked, as its run.toml tells."""
    path = run / "run.toml"
    if not path.is_file():
        if video is None:
            raise ConfigError(f"{run}: has no run.toml that names the video; give it with --video")
        return str(video), SourceConfig()
    uri = str(video) if video is not None else RunRecord.read(run).uri or ""
    if "://" in uri or uri == "-" or not Path(uri).exists():
        raise ConfigError(
            f"{uri or run}: the video of {run} is not there any more; give it with --video"
        )
    return uri, load_config(path).source
