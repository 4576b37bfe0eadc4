"""Whether a long run costs more than a short one: memory and time over 100,000 frames.

    python tests/bench/long_run.py [--frames 100000]

About fifteen people with masks come and go, with misses and clutter, some 7,000 in all; printed
are the resident memory and the tracker's time a frame for every tenth of the run.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from tracker.associate.mask_tracker import MaskTracker
from tracker.masks import Mask
from tracker.types import Detections

BODY = np.ones((80, 32), np.bool_)


def street(frames, seed=0):
    """Yield Detections of people who cross a street 1280 px wide, one every 14 frames."""
    random = np.random.default_rng(seed)
    people = np.zeros((0, 4))  # x, y, speed px a frame, chance to be missed
    for k in range(frames):
        if k % 14 == 0:
            way = random.choice([-1, 1])
            x, y = (-30.0 if way > 0 else 1300.0), random.uniform(0, 600)
            people = np.vstack([people, [x, y, way * random.uniform(4, 9), 0.05]])
        people[:, 0] += people[:, 2]
        people = people[(people[:, 0] > -60) & (people[:, 0] < 1320)]
        seen = people[random.random(len(people)) > people[:, 3]]
        xy = seen[:, :2] + random.normal(0, 0.8, (len(seen), 2))
        clutter = random.uniform([0, 0], [1248, 640], (random.poisson(0.3), 2))
        xy = np.vstack([xy, clutter])
        scores = np.concatenate(
            [random.uniform(0.8, 0.99, len(seen)), random.uniform(0.2, 0.7, len(clutter))]
        )
        order = np.argsort(-scores)
        xy = xy[order]
        yield Detections(
            boxes=np.hstack([xy, xy + np.array([32, 80])]).astype(np.float32),
            scores=scores[order].astype(np.float32),
            labels=np.ones(len(xy), np.int64),
            masks=tuple(Mask(round(x), round(y), BODY) for x, y in xy.tolist()),
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=100_000)
    options = parser.parse_args()
    process, tracker = psutil.Process(), MaskTracker()
    spent, at_start, highest, part = [], 0.0, 0, options.frames // 10
    for k, found in enumerate(street(options.frames)):
        begin = time.perf_counter()
        tracks = tracker.update(found, k / 25)
        spent.append(time.perf_counter() - begin)
        highest = max(highest, int(tracks.ids.max(initial=0)))
        if k == 1000:
            gc.collect()
            at_start = process.memory_info().rss / 2**20
        if (k + 1) % part == 0:
            gc.collect()
            grown = process.memory_info().rss / 2**20 - at_start
            ms = 1e3 * statistics.median(spent)
            print(
                f"{k + 1:7} frames  {highest:5} ids  {grown:+6.1f} MB  {ms:.3f} ms a frame",
                flush=True,
            )
            spent.clear()


if __name__ == "__main__":
    main()
