"""Wall time of a whole run against the detector's own time on the same frames.

    python tests/bench/overlap.py VIDEO --model M [--set ...] [--frames 60]

Both are measured in one process, in turns, and printed as a ratio with its spread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from tracker.config import load_config
from tracker.detect.maskrcnn import MaskRCNNDetector
from tracker.runs.run import run_to_folder
from tracker.video.source import open_source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video")
    parser.add_argument("--model", default="maskrcnn_resnet50_fpn_v2")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    settings = [*args.set, f"detector.model={args.model}", f"source.end={args.frames}f"]
    config = load_config(None, settings)
    detector = MaskRCNNDetector(config.detector)
    frames = list(open_source(args.video, config.source))
    detector.detect(frames[:2])
    ratios = []
    for _ in range(args.rounds):
        start = time.perf_counter()
        for frame in frames:
            detector.detect([frame])
        alone = time.perf_counter() - start
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            run_to_folder(args.video, config, Path(folder) / "run", get_detector=lambda: detector)
            whole = time.perf_counter() - start
        ratios.append(whole / alone)
        print(f"detector alone {alone:.2f} s, whole run {whole:.2f} s, ratio {whole / alone:.3f}")
    print(
        f"{len(frames)} frames, {detector.threads} threads: whole run / detector alone = "
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )


if __name__ == "__main__":
    main()
