"""Measure the outer house: python tests/bench/house.py [lanes|checkpoint|start ...].

lanes       frames a second of 1, 2 and 4 scripted lanes in one call, and the ratio to one lane
checkpoint  what a checkpoint costs: ms each, and the share of the run's time
start       `--start` at 90 % of a 30-minute file, sought and by decoding all before it
"""

import statistics
import sys
import tempfile
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "demos"), str(ROOT / "tests")]

import scene as scenes
import stubbed

from tracker.associate.mask_tracker import MaskTracker
from tracker.config import SourceConfig, load_config
from tracker.count.stage import CountStage
from tracker.pipeline import Lane, run
from tracker.runs import checkpoint
from tracker.runs.checkpoint import Checkpointer
from tracker.runs.run import run_to_folder
from tracker.types.stages import as_detector
from tracker.video.file import VideoFile
from tracker.video.source import open_source


class Drawn:
    """A scripted source whose pictures are made beforehand: it costs nothing."""

    def __init__(self, scene, frames):
        source = scenes.SceneSource(scene)
        self.info, self.report, self._frames = source.info, source.report, frames

    def __iter__(self):
        return iter(self._frames)

    def close(self):
        """Do nothing."""


def lanes(repeats=3):
    """Print frames a second of all lanes together."""
    scene = scenes.crowd(12, 10.0)
    frames = list(scenes.SceneSource(scene))
    one = None
    for count in (1, 2, 4):
        rates = []
        for _ in range(repeats):
            made = [
                Lane(Drawn(scene, frames), MaskTracker(), counting=CountStage())
                for _ in range(count)
            ]
            began = time.perf_counter()
            run(made, as_detector(scenes.SceneDetector(scene, noise=0.03)), batch_size=4)
            rates.append(count * len(frames) / (time.perf_counter() - began))
            assert not any(lane.error for lane in made)
        rate = statistics.median(rates)
        one = one or rate
        print(f"{count} lanes: {rate:.0f} frames/s in all, {rate / one:.2f} of one lane")


def checkpoints(seconds=20.0):
    """Print what a checkpoint costs while it is taken every 2 s, and as often as it may be."""
    scene = scenes.crowd(12, seconds)
    spent = {"state": [], "publish": [], "write": []}

    def timed(owner, name, kind):
        inner = getattr(owner, name)

        def call(*args, **options):
            began = time.perf_counter()
            try:
                return inner(*args, **options)
            finally:
                spent[kind].append(time.perf_counter() - began)

        setattr(owner, name, call)

    timed(MaskTracker, "state", "state")
    timed(Checkpointer, "publish", "publish")
    timed(checkpoint, "write", "write")
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "crowd.mp4"
        scene.write_video(video)
        for every_s in (2.0, 0.0):
            for values in spent.values():
                values.clear()
            result = run_to_folder(
                str(video),
                load_config(None, [f"output.checkpoint_s={every_s}"]),
                Path(folder) / f"run-{every_s}",
                get_detector=lambda: stubbed.SlowDetector(scene, 0.01),
            )
            total = sum(spent["state"]) + sum(spent["publish"])
            count = max(1, len(spent["publish"]))
            print(
                f"every {every_s:g} s: {count} checkpoints of {len(scene.actors)} objects, "
                f"{1000 * total / count:.1f} ms each "
                f"(state {1000 * statistics.median(spent['state'] or [0]):.1f}, "
                f"write {1000 * statistics.median(spent['write'] or [0]):.1f}), "
                f"{100 * total / result.stats.wall_s:.1f} % of {result.stats.wall_s:.1f} s"
            )


def start(minutes=30):
    """Print the seconds to the first frame at 90 % of a long file, both ways."""
    scene = scenes.street(20.0, fps=25)
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder) / "short.mp4", Path(folder) / "long.mp4"
        scene.write_video(short)
        repeat(short, long, minutes * 3)
        config = SourceConfig(start=0.9 * minutes * 60)
        found = {}
        for way in ("sought", "decoded"):
            if way == "decoded":
                VideoFile.skip_to = lambda *_: None
            began = time.perf_counter()
            with closing(open_source(long, config)) as source:
                frame = next(islice(source, 1))
            found[way] = time.perf_counter() - began
            print(f"{way}: frame {frame.index} at {frame.time:.2f} s after {found[way]:.2f} s")
        print(f"{found['decoded'] / found['sought']:.0f} times")


def repeat(short, long, times):
    """Write a file that holds another one again and again, without encoding."""
    import av

    with av.open(str(short)) as source, av.open(str(long), "w") as output:
        video = source.streams.video[0]
        stream = output.add_stream_from_template(video)
        packets = [packet for packet in source.demux(video) if packet.size]
        length = round(20 / video.time_base)
        stamps = [(packet.pts, packet.dts) for packet in packets]
        for number in range(times):
            for packet, (pts, dts) in zip(packets, stamps, strict=True):
                packet.pts, packet.dts = pts + number * length, dts + number * length
                packet.time_base, packet.stream = video.time_base, stream
                output.mux(packet)


if __name__ == "__main__":
    names = sys.argv[1:] or ["lanes", "checkpoint", "start"]
    for name in names:
        {"lanes": lanes, "checkpoint": checkpoints, "start": start}[name]()
