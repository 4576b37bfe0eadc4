"""The command `tracker` with a scripted detector: stubbed.py SCENE SECONDS ARGUMENTS.

SCENE `none` finds nothing in any video; SECONDS are those that a frame takes.
"""

import sys
import time

import scene as scenes

from tracker.cli import main
from tracker.types import Detections

SCENES = {"street": lambda: scenes.street(8.0), "crowd": lambda: scenes.crowd(8, 8.0)}


class SlowDetector(scenes.SceneDetector):
    """Take a while for each frame, as a real one does, a few frames at a time."""

    batch_size = 4

    def __init__(self, scene, seconds):
        super().__init__(scene, noise=0.03, miss=0.05, clutter=0.3)
        self._seconds = seconds

    def detect(self, frames):
        time.sleep(self._seconds * len(frames))
        return super().detect(frames)


class BlankDetector:
    """Find nothing in any picture."""

    batch_size = 4
    categories = scenes.CATEGORIES

    def __init__(self, seconds=0.0):
        self._seconds = seconds

    def detect(self, frames):
        time.sleep(self._seconds * len(frames))
        return [Detections.empty() for _ in frames]


if __name__ == "__main__":
    name, seconds, *arguments = sys.argv[1:]
    command = sys.modules["tracker.cli.run"]  # tracker.cli has a function of this name
    pause = float(seconds)
    detector = SlowDetector(SCENES[name](), pause) if name != "none" else BlankDetector(pause)
    command.load_detector = lambda _: detector
    sys.argv = ["tracker", *arguments]
    main()
