"""Put the stages together by hand: python demos/stages_by_hand.py [VIDEO] [OUTPUT]."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import scene

import tracker


def main(video: str | None = None, output: str = "runs/by-hand", seconds: float = 4.0) -> int:
    """Track a video (or a scripted crossing) into an annotated video and a log."""
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        if video is None:
            crossing = scene.crossing()
            video = str(Path(scratch) / "crossing.mp4")
            crossing.write_video(Path(video))
        settings = ["detector.weights='embedded'", f"source.end={seconds}"]
        config = tracker.load_config(None, settings)
        detector = tracker.MaskRCNNDetector(config.detector)
        source = tracker.open_source(video, config.source)
        sinks = [
            tracker.VideoSink(folder / "video.mp4", detector.categories, rate=source.info.rate),
            tracker.LogSink(folder / "tracks.jsonl", detector.categories),
            tracker.CountsSink(folder, detector.categories),
        ]
        stats = tracker.run(source, detector, tracker.MaskTracker(), sinks)
    print(f"{stats.frames} frames, {stats.frames / stats.wall_s:.0f} a second -> {folder}/")
    return stats.frames


if __name__ == "__main__":
    main(*sys.argv[1:])
