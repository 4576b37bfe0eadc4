"""Score tracks against truth with TrackEval's own metrics, without its file layout."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import trackeval
import trackeval.metrics

from tracker.boxes import box_iou
from tracker.masks import rle_to_mask
from tracker.types import Detections, Tracks


def score(truth: list[Tracks], found: list[Tracks]) -> dict[str, float]:
    """Return HOTA, DetA, AssA, MOTA, IDF1 in per cent, and switches and ids as numbers."""
    data = {
        "num_timesteps": len(truth),
        "similarity_scores": [
            box_iou(t.boxes.astype(float), f.boxes.astype(float))
            for t, f in zip(truth, found, strict=True)
        ],
    }
    for name, frames in (("gt", truth), ("tracker", found)):
        ids = sorted({int(i) for tracks in frames for i in tracks.ids})
        row = {id_: k for k, id_ in enumerate(ids)}
        data[f"{name}_ids"] = [np.array([row[int(i)] for i in t.ids], int) for t in frames]
        data[f"num_{name}_ids"] = len(ids)
        data[f"num_{name}_dets"] = sum(len(t) for t in frames)
    quiet = {"PRINT_CONFIG": False}
    hota = trackeval.metrics.HOTA().eval_sequence(data)
    clear = trackeval.metrics.CLEAR(quiet).eval_sequence(data)
    identity = trackeval.metrics.Identity(quiet).eval_sequence(data)
    return {
        "HOTA": 100 * float(np.mean(hota["HOTA"])),
        "DetA": 100 * float(np.mean(hota["DetA"])),
        "AssA": 100 * float(np.mean(hota["AssA"])),
        "MOTA": 100 * float(clear["MOTA"]),
        "IDF1": 100 * float(identity["IDF1"]),
        "IDSW": int(clear["IDSW"]),
        "ids": int(data["num_tracker_ids"]),
    }


def read_detections(path: Path, label: int) -> dict[int, Detections]:
    """Read `frame x y w h score class H W rle` lines of one class, by frame."""
    rows = defaultdict(list)
    for text in path.read_text().splitlines():
        fields = text.split()
        if int(fields[6]) == label:
            rows[int(fields[0])].append(fields)
    found = {}
    for frame, items in rows.items():
        items.sort(key=lambda item: -float(item[5]))
        xywh = np.array([[float(v) for v in item[1:5]] for item in items], np.float32)
        found[frame] = Detections(
            boxes=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
            scores=np.array([float(item[5]) for item in items], np.float32),
            labels=np.full(len(items), label, np.int64),
            masks=tuple(
                rle_to_mask({"size": [int(item[7]), int(item[8])], "counts": item[9]})
                for item in items
            ),
        )
    return found
