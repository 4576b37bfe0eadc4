"""What each cue is worth: one default setting against the same with one cue off, on all data.

    python tests/bench/ablation.py [--shared ../shared] [--jobs 2] [--write]

Prints a Markdown table; `--write` puts it into tests/bench/README.md. Data: 12 KITTI MOTS
sequences (masks), PETS09-S2L1 = vtest.avi (boxes), the same through a shaken camera (a moving
window of the picture, with its pictures), and a BDD100K sequence (masks of a real network, all
classes as one). None of it was kept back when the defaults were chosen.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import av
import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tracker.associate.history import History
from tracker.associate.mask_tracker import MaskTracker
from tracker.associate.saved import associate
from tracker.config import RefineConfig, TrackerConfig
from tracker.formats import get_format
from tracker.formats.detections import read
from tracker.masks import rle_to_mask
from tracker.measure.scores import evaluate
from tracker.sinks.archive import refined_log
from tracker.types import (
    DetectionLog,
    Detections,
    LoggedDetections,
    LoggedFrame,
    LogInfo,
    TrackLog,
)

ROWS = {
    "all cues (default)": {},
    "without mask IoU": {"mask_weight": 0.0},
    "without box IoU": {"mask_weight": 1.0},
    "without the Mahalanobis gate": {"gate": 1e9},
    "without cut boxes' rule": {"whole_objects": False},
    "without averaged motion of the lost": {"velocity_average_s": 1e-6},
    "without weak detections": {"weak_score": 0.6},
    "weak detections for all tracks": {"weak_trust": 0.0},
    "weak detections however they fit": {"weak_similarity": 0.0},
    "without widened search": {"recovery_similarity": 1.0},
    "without the class's usual score": {"confirm_share": 0.0},
    "without the rule for doubles": {"duplicate_overlap": 1.0},
    "without class vote": {"class_vote": False, "class_change_similarity": 1.0},
    "without camera motion": {"camera_motion": False},
}
SHAKEN = (640, 480)  # px, the moving window of vtest


def kitti(shared, config, archived, folder):
    """Return HOTA, sMOTSA and switches of both classes."""
    found, truth = {}, {}
    for path in sorted((shared / "data" / "kitti_mots_semireal_dets").glob("*.txt")):
        log = link(read(path, 10.0), config, archived)
        found[path.stem] = folder / path.name
        get_format("mots").write(log, found[path.stem])
        truth[path.stem] = shared / "data" / "kitti_mots_gt" / "instances_txt" / path.name
    scores = evaluate(truth, {"ours": found}).scores
    return [scores[name]["ours"][None].values for name in ("car", "pedestrian")]


def link(log, config, archived):
    """Return the tracks of saved detections, refined if `archived`."""
    tracker = MaskTracker(config)
    if not archived:
        return associate(log, tracker)
    history = History(RefineConfig())
    online = list(associate(log, tracker, history).frames)
    return refined_log(TrackLog(log.info, online), history)


def boxes_score(log, truth, folder, name):
    get_format("mot").write(log, folder / f"{name}.txt")
    scores = evaluate({name: truth}, {"ours": {name: folder / f"{name}.txt"}}).scores
    return next(iter(scores.values()))["ours"][None].values


def vtest(shared, config, archived, folder):
    data = shared / "data" / "pets09_s2l1_vtest"
    frames = read(data / "maskrcnn2go_dets.txt", 10.0)
    people = DetectionLog(frames.info, (frame.only({1}) for frame in frames.frames), has_masks=True)
    return boxes_score(link(people, config, archived), data / "gt.txt", folder, "vtest")


@cache
def shake(count):
    """Return the window's corner in each frame, px."""
    random, place, places = np.random.default_rng(1), np.array([64.0, 48.0]), []
    for _ in range(count):
        place = place + 0.25 * (np.array([64, 48]) - place) + random.normal(0, 9, 2)
        places.append(np.clip(np.rint(place), 0, [128, 96]).astype(int))
    return places


def shaken(shared, config, folder):
    """Score vtest as a hand-held camera would see it."""
    data, (width, height) = shared / "data" / "pets09_s2l1_vtest", SHAKEN
    tracker, frames = MaskTracker(config), []
    saved = read(data / "maskrcnn2go_dets.txt", 10.0).frames
    places = shake(795)
    with av.open(str(data / "vtest.avi")) as video:
        for logged, picture in zip(saved, video.decode(video=0), strict=False):
            x, y = (int(v) for v in places[logged.index])
            image = picture.to_ndarray(format="rgb24")[y : y + height, x : x + width]
            found = crop(logged.only({1}).detections, x, y)
            tracks = tracker.update(found, logged.time, np.ascontiguousarray(image))
            frames.append(LoggedFrame(logged.index, logged.time, width, height, tracks))
    lines = []
    for text in (data / "gt.txt").read_text().splitlines():
        frame, id_, *xywh = (float(v) for v in text.split(",")[:6])
        x, y = places[int(frame) - 1].tolist()
        x1, y1 = xywh[0] - x, xywh[1] - y
        left, top = max(x1, 0), max(y1, 0)
        w, h = min(x1 + xywh[2], width) - left, min(y1 + xywh[3], height) - top
        if w > 0 and h > 0 and w * h > 0.4 * xywh[2] * xywh[3]:
            lines.append(f"{int(frame)},{int(id_)},{left},{top},{w},{h},1,-1,-1,-1\n")
    (folder / "shaken-gt.txt").write_text("".join(lines))
    log = TrackLog(LogInfo(width, height, ()), frames)
    return boxes_score(log, folder / "shaken-gt.txt", folder, "shaken")


def crop(found, x, y):
    """Return detections as the window at (x, y) shows them; those mostly outside are left out."""
    width, height = SHAKEN
    boxes = found.boxes - np.array([x, y, x, y], np.float32)
    inside = boxes.clip(0, [width, height, width, height]).astype(np.float32)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    rows = np.flatnonzero((inside[:, 2:] - inside[:, :2]).prod(axis=1) > 0.4 * area)
    return Detections(
        boxes=inside[rows],
        scores=found.scores[rows],
        labels=found.labels[rows],
        masks=tuple(found.masks[row].moved(-x, -y).clipped(width, height) for row in rows),
    )


def bdd(shared, config, archived, folder):
    """Score ours and the ids that came with the predictions, all classes as one."""
    base = shared / "data" / "bdd_segtrack_sample" / "tests" / "eval" / "testcases" / "seg_track"
    names = ("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
    truth, given, frames = [], [], []
    predicted = json.loads((base / "seg_track_preds.json").read_text())
    for index, (found, real) in enumerate(
        zip(predicted, json.loads((base / "seg_track_sample.json").read_text()), strict=True)
    ):
        rows = []
        for item in found["labels"] or ():
            mask = rle_to_mask(item["rle"])
            if mask.bits.size:
                rows.append((mask, names.index(item["category"]) + 1))
                given.append(f"{index} {int(item['id']) + 1} 1 720 1280 {item['rle']['counts']}\n")
        for item in real["labels"] or ():
            crowd = (item["attributes"] or {}).get("crowd")
            id_, label = (10000, 10) if crowd else (int(item["id"]) + 1, 1)
            truth.append(f"{index} {id_} {label} 720 1280 {item['rle']['counts']}\n")
        detections = Detections(
            boxes=np.array([mask.box for mask, _ in rows], np.float32).reshape(-1, 4),
            scores=np.ones(len(rows), np.float32),  # the file tells none
            labels=np.array([label for _, label in rows], np.int64),
            masks=tuple(mask for mask, _ in rows),
        )
        frames.append(LoggedDetections(index, index / 5, 1280, 720, detections))
    log = link(DetectionLog(LogInfo(1280, 720, ()), frames, has_masks=True), config, archived)
    get_format("mots").write(log, folder / "bdd.txt")
    ours = []
    for text in (folder / "bdd.txt").read_text().splitlines():
        frame, id_, _, *rest = text.split(" ")
        ours.append(f"{frame} {id_} 1 {' '.join(rest)}\n")
    for name, lines in (("bdd", ours), ("truth", truth), ("given", given)):
        (folder / f"{name}.txt").write_text("".join(lines))
    results = {name: {"bdd": folder / f"{name}.txt"} for name in ("bdd", "given")}
    scores = next(iter(evaluate({"bdd": folder / "truth.txt"}, results).scores.values()))
    return [scores[name][None].values for name in ("bdd", "given")]


def row(job):
    """Run one row of the table; returns its cells."""
    shared, name, changes, archived = job
    config = TrackerConfig(**changes)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        car, person = kitti(shared, config, archived, folder)
        people = vtest(shared, config, archived, folder)
        moved = None if archived else shaken(shared, config, folder)
        ours, given = bdd(shared, config, archived, folder)
    return name, car, person, people, moved, ours, given


def cells(name, car, person, people, moved, ours):
    shaking = f"{moved['HOTA']:.1f}" if moved else "-"
    return (
        f"| {name} | {car['HOTA']:.2f} | {car['IDSW']:.0f} | {person['HOTA']:.2f} | "
        f"{person['IDSW']:.0f} | {people['HOTA']:.2f} | {people['IDs']:.0f} | {shaking} | "
        f"{ours['HOTA']:.2f} |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = Path(os.environ.get("TRACKER_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    options = parser.parse_args()
    jobs = [(options.shared, name, changes, False) for name, changes in ROWS.items()]
    jobs.append((options.shared, "all cues, refined afterwards", {}, True))
    lines = [
        "| HOTA | KITTI car | sw. | KITTI pedestrian | sw. | vtest | ids | vtest shaken | BDD |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    with ProcessPoolExecutor(options.jobs) as pool:
        for result in pool.map(row, jobs):
            lines.append(cells(*result[:-1]))
            print(lines[-1], flush=True)
    given = result[-1]
    lines.append(f"| ids that came with the BDD masks | | | | | | | | {given['HOTA']:.2f} |")
    print(lines[-1])
    if options.write:
        readme = Path(__file__).with_name("README.md")
        before, _, rest = readme.read_text().partition("<!-- ablation -->\n")
        after = rest.partition("<!-- end -->")[2]
        table = "\n".join(lines)
        readme.write_text(f"{before}<!-- ablation -->\n{table}\n<!-- end -->{after}")


if __name__ == "__main__":
    main()
