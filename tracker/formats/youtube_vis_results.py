"""YouTube-VIS results, as its server and TrackEval take them: a list with an entry a track.

Each has "video_id", "category_id", "score" (the mean over its frames) and "segmentations", a mask
as compressed RLE or null for each frame of the video. The list tells neither ids, times nor the
names of classes: it is scored beside a ground truth that does. Source: youtube-vos.org/dataset/vis.
"""

from __future__ import annotations

import json
from pathlib import Path

from tracker.errors import FormatError
from tracker.files import new_file, read_json_value
from tracker.formats.rows import Row, to_tracks
from tracker.formats.youtube_vis import collect
from tracker.masks import rle_to_mask
from tracker.types import LoggedFrame, LogInfo, TrackLog

SUFFIX = ".json"


def write(log: TrackLog, path: Path) -> list[str]:
    """Write a log, one entry a track by ascending id; return what is left out of it.

    Raises SinkError, also where it does not tell the frames' size.
    """
    found = collect(log, path)
    results, left_out = [], 0
    for id_, track in sorted(found.tracks.items()):
        masks, scores = found.listed(id_, "segmentations"), track["scores"].values()
        if not any(masks):
            left_out += 1
            continue
        score = round(sum(scores) / len(scores), 4)
        label = track["category_id"]
        results.append(
            {"video_id": 1, "category_id": label, "score": score, "segmentations": masks}
        )
    with new_file(path) as file:
        json.dump(results, file)
    return [f"{left_out} tracks without a mask are left out"] if left_out else []


def read(path: Path) -> TrackLog:
    """Read the results of one video; ids are their places in the list. Raises FormatError."""
    content = read_json_value(path)
    if not isinstance(content, list):
        raise FormatError(f"{path}: must hold a list of YouTube-VIS results")
    if any(isinstance(item, dict) and "image_id" in item for item in content):
        raise FormatError(
            f"{path}: holds COCO results, which have no tracks; see tracker associate"
        )
    rows: dict[int, list[Row]] = {}
    size, length = (0, 0), 0
    try:
        if len({item["video_id"] for item in content}) > 1:
            raise ValueError("holds results of several videos")
        for id_, item in enumerate(content, 1):
            length = max(length, len(item["segmentations"]))
            for index, rle in enumerate(item["segmentations"]):
                if rle is not None:
                    mask = rle_to_mask(rle)
                    x1, y1, x2, y2 = mask.box
                    box, score = (x1, y1, x2, y2), float(item["score"])
                    row = Row(id_, int(item["category_id"]), score, box, mask)
                    rows.setdefault(index, []).append(row)
                    size = int(rle["size"][1]), int(rle["size"][0])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        raise FormatError(f"{path}: is malformed: {exc!r}") from exc
    frames = [
        LoggedFrame(index, index / 25, *size, to_tracks(rows.get(index, [])))
        for index in range(length)
    ]
    return TrackLog(LogInfo(*size, ()), frames)
