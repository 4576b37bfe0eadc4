"""The whole program on a scripted street: `make demo`. No model, no network, no data needed."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import scene

from tracker.assemble import run_to_folder
from tracker.config import load_config


def main(output: str = "runs/demo", seconds: float = 12.0) -> None:
    """Render the street to a video file, track it, and say where the results are."""
    street = scene.street(seconds)
    print(
        "This demo tracks a scripted street of moving textured shapes. Its detector is a stub\n"
        "that reads the scene's truth and adds noise, misses and false objects; all else is real."
    )
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "street.mp4"
        street.write_video(video)
        config = load_config(None, ["count.lines.middle=[0.5, 0.0, 0.5, 1.0]", "count.bin_s=4"])
        stub = scene.SceneDetector(street, noise=0.02, miss=0.05, clutter=0.3)
        result = run_to_folder(
            str(video), config, Path(output), get_detector=lambda: stub, replace=True
        )
    for name, item in result.counts["classes"].items():
        print(f"{name}: {item['unique']} objects, at most {item['max_at_once']} at once")
    for name, ways in result.counts["lines"].items():
        print(f"line {name}: {sum(ways['in'].values())} in, {sum(ways['out'].values())} out")
    print(f"{result.stats.frames} frames -> {result.folder}/video.mp4 and the files beside it")


if __name__ == "__main__":
    main(*sys.argv[1:])
