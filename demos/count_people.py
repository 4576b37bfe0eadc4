"""Count the people in a video: python demos/count_people.py [VIDEO]."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import scene

import tracker


def main(video: str | None = None, seconds: float = 4.0) -> int:
    """Print who is there once a second; without a video, in a scripted scene."""
    settings = ["detector.weights='embedded'", "detector.classes=['person']"]
    config, seen = tracker.load_config(None, settings), set()
    with tempfile.TemporaryDirectory() as folder:
        if video is None:
            crowd = scene.crowd(count=8, seconds=seconds)
            video = str(Path(folder) / "crowd.mp4")
            crowd.write_video(Path(video))
        for result in tracker.track(video, config):
            seen.update(result.tracks.ids.tolist())
            if result.frame.index % 25 == 0:
                now = len(result.tracks)
                print(f"{result.frame.time:6.2f} s: {now} people, {len(seen)} so far")
    return len(seen)


if __name__ == "__main__":
    main(*sys.argv[1:])
