"""How long association takes, beside the peers, in one process on one core.

    python tests/bench/association.py [--shared ../shared]

Boxes only: the scenes and the peers of the shared `assoc_bench.py` (peers that are not installed
are left out). With masks of 2 to 5 % of a 1280 x 720 frame: the whole tracker, and beside it only
the mask IoU of supervision (dense) and pycocotools (RLE, with and without encoding).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import cv2
import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tracker.associate.mask_tracker import MaskTracker
from tracker.masks import Mask
from tracker.types import Detections

WIDTH, HEIGHT = 1280, 720


def masks_scene(n, frames, seed=0):
    """n ellipses of 2 to 5 % of the frame, moving; yields Detections."""
    random = np.random.default_rng(seed)
    area = random.uniform(0.02, 0.05, n) * WIDTH * HEIGHT
    aspect = random.uniform(1.0, 2.6, n)
    w = np.sqrt(area / np.pi / aspect) * 2
    h = w * aspect
    x, y = random.uniform(0, WIDTH - w), random.uniform(0, np.maximum(HEIGHT - h, 1))
    speed = random.normal(0, 3, (2, n))
    for _ in range(frames):
        x, y = x + speed[0], y + speed[1]
        speed[0] *= np.where((x < 0) | (x > WIDTH - w), -1, 1)
        speed[1] *= np.where((y < 0) | (y > HEIGHT - h), -1, 1)
        masks, boxes = [], []
        for k in range(n):
            size = (max(int(h[k] + random.normal(0, 2)), 4), max(int(w[k]), 4))
            bits = np.zeros(size, np.uint8)
            centre, axes = (size[1] // 2, size[0] // 2), (size[1] // 2, size[0] // 2)
            cv2.ellipse(bits, centre, axes, 0, 0, 360, 1, -1)
            mask = Mask(int(x[k]), int(y[k]), bits.astype(np.bool_)).clipped(WIDTH, HEIGHT)
            masks.append(mask)
            boxes.append(mask.box)
        yield Detections(
            boxes=np.array(boxes, np.float32),
            scores=np.sort(random.uniform(0.9, 1.0, n)).astype(np.float32)[::-1].copy(),
            labels=np.ones(n, np.int64),
            masks=tuple(masks),
        )


def tracker_ms(found):
    """Median ms a frame of the whole tracker."""
    tracker, spent = MaskTracker(), []
    for k, detections in enumerate(found):
        start = time.perf_counter()
        tracker.update(detections, k / 25)
        spent.append(time.perf_counter() - start)
    return 1e3 * statistics.median(spent[5:])


def dense(detections):
    full = np.zeros((len(detections), HEIGHT, WIDTH), np.bool_)
    for k, mask in enumerate(detections.masks):
        x1, y1, x2, y2 = mask.box
        full[k, y1:y2, x1:x2] = mask.bits
    return full


def peers_ms(found):
    """ms of one frame's mask IoU alone, by name."""
    a, b = dense(found[-2]), dense(found[-1])
    result = {}
    try:
        from supervision.detection.utils.iou_and_nms import mask_iou_batch

        start = time.perf_counter()
        mask_iou_batch(a, b)
        result["supervision mask_iou_batch"] = 1e3 * (time.perf_counter() - start)
    except ImportError:
        print("supervision is not installed")
    from pycocotools import mask as coco

    rles = [[coco.encode(np.asfortranarray(m.view(np.uint8))) for m in side] for side in (a, b)]
    start = time.perf_counter()
    for mask in b:
        coco.encode(np.asfortranarray(mask.view(np.uint8)))
    encode = time.perf_counter() - start
    start = time.perf_counter()
    coco.iou(rles[0], rles[1], [0] * len(b))
    result["pycocotools iou"] = 1e3 * (time.perf_counter() - start)
    result["pycocotools encode + iou"] = result["pycocotools iou"] + 1e3 * encode
    return result


def boxes_only(shared, n, frames=200, seeds=(0, 1, 2)):
    """Run our tracker and every peer that is installed on the shared scenes."""
    sys.path.insert(0, str(shared / "tools"))
    import assoc_bench

    class Ours:
        name, dist = "ours", None

        def __init__(self):
            self.tracker = MaskTracker()

        def update(self, t, boxes, scores, classes, image):
            found = Detections(boxes.copy(), scores.copy(), classes.copy(), (None,) * len(scores))
            tracks = self.tracker.update(found, t / 30)
            return tracks.boxes, tracks.ids

    known = [peer for peer in assoc_bench.ADAPTERS if peer.__name__ != "Ours" and peer.available()]
    for count in n:
        scenes = [assoc_bench.scene(count, frames, seed) for seed in seeds]
        ours = None
        for peer in [Ours, *known]:
            runs = [assoc_bench.run(peer, *scene) for scene in scenes]
            ms = 1e3 * statistics.median(statistics.median(times[10:]) for _, times in runs)
            scores = [
                assoc_bench.score(s[0], outs) for s, (outs, _) in zip(scenes, runs, strict=True)
            ]
            mean = {key: statistics.mean(s[key] for s in scores) for key in scores[0]}
            ours = ours or ms
            print(
                f"N={count:<4} {peer.name:26} {ms:7.2f} ms  {ms / ours:5.2f} x ours   "
                f"switches {mean['idsw']:6.1f}  IDF1 {mean['idf1']:5.1f}  ids {mean['ids']:6.1f}"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = Path(os.environ.get("TRACKER_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared)
    parser.add_argument("--n", default="10,50,100,200")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print("with masks of 2 to 5 % of 1280 x 720, ms a frame")
    for n in (50, 100):
        found = list(masks_scene(n, 60))
        ms = tracker_ms(found)
        print(f"N={n:<4} {'ours, whole tracker':26} {ms:7.2f} ms")
        for name, peer in peers_ms(found).items():
            print(f"N={n:<4} {name:26} {peer:7.2f} ms  {peer / ms:5.1f} x ours")
    if (options.shared / "tools" / "assoc_bench.py").is_file():
        print("boxes only, ms a frame")
        boxes_only(options.shared, [int(n) for n in options.n.split(",")])
    else:
        print("boxes only: skipped, the shared tools are not here ($TRACKER_SHARED)")


if __name__ == "__main__":
    main()
