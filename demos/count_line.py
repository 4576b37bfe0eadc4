"""Count who crosses a line, and in which direction: python demos/count_line.py [VIDEO]."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import scene

import tracker
from tracker.count.lines import Line


def main(video: str | None = None, seconds: float = 12.0) -> dict[str, int]:
    """Print each crossing of a line from top to bottom through the middle of the picture."""
    config = tracker.load_config(None, ["detector.weights='embedded'"])
    totals = {"in": 0, "out": 0}
    with tempfile.TemporaryDirectory() as folder:
        if video is None:
            street = scene.street(seconds)
            video = str(Path(folder) / "street.mp4")
            street.write_video(Path(video))
        info = tracker.open_source(video).info
        middle = Line("middle", (info.width / 2, 0), (info.width / 2, info.height))
        crossings = []
        counter = tracker.LineCounter([middle], anchor="center", hysteresis=0.1)
        for result in tracker.track(video, config):
            frame = result.frame
            crossings += counter.update(result.tracks, frame.index, frame.time)
        crossings += counter.finish()  # those that are sure because nothing comes any more
    for crossing in crossings:
        totals[crossing.direction] += 1
        print(f"{crossing.time:6.2f} s: object {crossing.id} goes {crossing.direction}")
    print(totals)
    return totals


if __name__ == "__main__":
    main(*sys.argv[1:])
