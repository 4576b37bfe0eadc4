"""Peak memory of a long run against that of a short one: it must not grow with the length.

    python tests/bench/memory.py [--frames 200 2000] [--model FILE.py:f]

Each run is a process of its own: scripted crowd -> H.264 file -> model -> tracker -> all outputs.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[2] / "demos"))
TINY = f"{HERE.parents[1] / 'tiny_model.py'}:build"


def one_run(frames: int, model: str) -> dict[str, float]:
    """Run in this process and return its peak resident memory, MB."""
    import scene

    from tracker.config import load_config
    from tracker.runs.run import run_to_folder
    from tracker.runs.track import load_detector

    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "crowd.mp4"
        scene.crowd(count=15, seconds=frames / 25).write_video(video)
        config = load_config(None, [f"detector.model={model}", "count.lines.a=[0.5,0,0.5,1]"])
        result = run_to_folder(
            str(video), config, Path(folder) / "run", get_detector=lambda: load_detector(config)
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"frames": result.stats.frames, "peak_mb": peak}


def compare(frames: list[int], model: str = TINY) -> list[dict[str, float]]:
    """Return the figures of one fresh process per length."""
    results = []
    for count in frames:
        command = [sys.executable, str(HERE), "--one", str(count), "--model", model]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs=2, default=[200, 2000])
    parser.add_argument("--model", default=TINY)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one_run(args.one, args.model)))
        return
    short, long = compare(args.frames, args.model)
    for result in (short, long):
        print(f"{result['frames']:5.0f} frames: peak {result['peak_mb']:.0f} MB")
    print(f"difference {long['peak_mb'] - short['peak_mb']:+.0f} MB")


if __name__ == "__main__":
    main()
