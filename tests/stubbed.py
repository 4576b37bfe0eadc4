"""The command `tracker` with a scripted detector: stubbed.py SCENE SECONDS_A_FRAME ARGUMENTS."""

import sys
import time

import scene as scenes

from tracker.cli import main

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


if __name__ == "__main__":
    name, seconds, *arguments = sys.argv[1:]
    command = sys.modules["tracker.cli.run"]  # tracker.cli has a function of this name
    command.load_detector = lambda _: SlowDetector(SCENES[name](), float(seconds))
    sys.argv = ["tracker", *arguments]
    main()
