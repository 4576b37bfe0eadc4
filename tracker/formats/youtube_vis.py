"""YouTube-VIS JSON: one video, one annotation a track with a mask or null for each frame.

"length" is the number of the last frame + 1, so position = frame index. Beyond the standard fields,
the video carries "times" (s, null for frames that were not logged), annotations "scores".
Source: youtube-vos.org/dataset/vis.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tracker.errors import FormatError
from tracker.files import JsonObject, new_file, read_json
from tracker.formats.coco import categories_json, info_from_json, info_json
from tracker.formats.rows import Row, to_rows, to_tracks
from tracker.masks import mask_to_rle, rle_to_mask
from tracker.types import LoggedFrame, TrackLog

SUFFIX = ".json"
_PER_FRAME = ("segmentations", "bboxes", "areas", "scores", "predicted")


def write(log: TrackLog, path: Path) -> None:
    """Write a log; the format is by track, so the RLE of all frames lie in memory at the end."""
    tracks: dict[int, JsonObject] = {}
    times: list[float | None] = []
    for frame in log.frames:
        times += [None] * (frame.index - len(times)) + [round(frame.time, 6)]
        for row in to_rows(frame.tracks):
            track = tracks.setdefault(row.id, {"category_id": 0, **{k: {} for k in _PER_FRAME}})
            track["category_id"] = row.label  # the vote of the track's whole life
            x1, y1, x2, y2 = row.box
            rle = mask_to_rle(row.mask, frame.width, frame.height) if row.mask else None
            values = (
                rle,
                [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
                row.mask.area if row.mask else None,
                row.score,
                row.source < 0,
            )
            for key, value in zip(_PER_FRAME, values, strict=True):
                track[key][frame.index] = value
    info = log.info
    video = {
        "id": 1,
        "width": info.width,
        "height": info.height,
        "length": len(times),
        "file_names": [f"{index:06d}.jpg" for index in range(len(times))],
        "times": times,
    }
    content = {
        "info": info_json(info),
        "videos": [video],
        "categories": categories_json(info),
        "annotations": [
            {
                "id": id_,
                "video_id": 1,
                "category_id": track["category_id"],
                "iscrowd": 0,
                "width": info.width,
                "height": info.height,
                **{key: [track[key].get(k) for k in range(len(times))] for key in _PER_FRAME},
            }
            for id_, track in sorted(tracks.items())
        ],
    }
    with new_file(path) as file:
        json.dump(content, file)


def read(path: Path) -> TrackLog:
    """Read the first video of a file. Raises FormatError."""
    content = read_json(path)
    try:
        info = info_from_json(content)
        video = content["videos"][0]
        length = int(video["length"])
        rows: dict[int, list[Row]] = {}
        for item in content["annotations"]:
            if item["video_id"] == video["id"]:
                for index, row in _rows(item):
                    if index >= length:
                        raise ValueError(f"annotation {item['id']} goes beyond the video's length")
                    rows.setdefault(index, []).append(row)
        frames = list(_frames(video, rows))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as exc:
        raise FormatError(f"{path}: is malformed: {exc!r}") from exc
    return TrackLog(info, frames)


def _rows(item: JsonObject) -> Iterator[tuple[int, Row]]:
    boxes = item.get("bboxes") or [None] * len(item["segmentations"])
    for index, (rle, box) in enumerate(zip(item["segmentations"], boxes, strict=True)):
        if rle is None and box is None:
            continue
        mask = rle_to_mask(rle) if rle is not None else None
        if box is not None:
            x, y, w, h = (float(v) for v in box)
            corners = (x, y, x + w, y + h)
        else:
            x1, y1, x2, y2 = mask.box if mask else (0, 0, 0, 0)
            corners = (float(x1), float(y1), float(x2), float(y2))
        score = item["scores"][index] if "scores" in item else item.get("score", 1.0)
        predicted = bool(item["predicted"][index]) if "predicted" in item else False
        yield (
            index,
            Row(
                id=int(item["id"]),
                label=int(item["category_id"]),
                score=float(score),
                box=corners,
                mask=mask,
                source=-1 if predicted else 0,
            ),
        )


def _frames(video: JsonObject, rows: dict[int, list[Row]]) -> Iterator[LoggedFrame]:
    times = video.get("times") or [index / 25 for index in range(int(video["length"]))]
    for index, time in enumerate(times):
        if time is not None:
            yield LoggedFrame(
                index,
                float(time),
                int(video["width"]),
                int(video["height"]),
                to_tracks(rows.get(index, [])),
            )
