"""Kill a run before every single file operation, and resume it: kill_points.py WAY VIDEO STEP.

Each run is a forked process that leaves by os._exit, as a SIGKILL would make it, before its N-th
file operation in the run folder. Prints what is not as it should be.
"""

import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

import av
import cv2
import scipy.optimize  # noqa: F401  # now, and not in every forked process
import stubbed

import tracker.files
from tracker.cli import main

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.truncate", "os.rmdir"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
SAME = ("tracks.jsonl", "counts.json", "counts.csv", "events.jsonl", "tracks-refined.jsonl")
FRAMES = 60
SETTINGS = ("-q", "--end", f"{FRAMES}f", "--line", "a=0.5,0,0.5,1", "--refine")
OFTEN = ("-s", "output.checkpoint_s=0.0")
KILLED = 99


def fork(folder, arguments, said, *, kill_at=None, seen=None):
    """Run the command in a process of its own; return its exit code."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    done = []

    def note(name, path):
        done.append(name)
        if kill_at is not None and len(done) > kill_at:
            os.write(2, f"killed before {name} {path}\n".encode())
            os._exit(KILLED)

    def hear(event, details):
        writes = event == "open" and isinstance(details[2], int) and details[2] & WRITES
        if (event in CHANGES or writes) and str(details[0]).startswith(str(folder)):
            note(event, details[0])

    synchronize = os.fsync

    def fsync(descriptor):
        note("os.fsync", Path(f"/proc/self/fd/{descriptor}").readlink())
        synchronize(descriptor)

    sys.addaudithook(hear)
    os.fsync = fsync
    sys.argv = ["tracker", *map(str, arguments)]
    code = 77
    try:
        main()
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:
        traceback.print_exc()
    if seen:
        seen.write_text(str(len(done)))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def wrong(run, whole):
    """Return what of a finished run is not as in the one that nobody killed."""
    found = [
        name
        for name in SAME
        if not (run / name).exists() or (run / name).read_bytes() != (whole / name).read_bytes()
    ]
    with av.open(str(run / "video.mp4")) as video:
        found += ["video.mp4"] * (sum(1 for _ in video.decode(video=0)) != FRAMES)
    left = {path.name for path in run.iterdir()}
    # A kill in the very last moment, when the run is finished, leaves these: they harm nobody.
    known = {*SAME, "video.mp4", "report.json", "run.toml", ".lock", "archive.jsonl.part"}
    return found + sorted(left - known)


def check(way, video, step, folder):
    """Kill at every `step`-th operation; return how many there are and what went wrong."""
    whole, run, said = folder / "whole", folder / "run", folder / "said"
    assert fork(whole, ["run", video, "-o", whole, *SETTINGS], said) == 0, said.read_text()
    command = ["run", video, "--resume", run, *SETTINGS, *OFTEN]

    def prepare():
        shutil.rmtree(run, ignore_errors=True)
        if way == "stale":  # what a run left that was killed in its first moments
            fork(run, command, said, kill_at=12)
        elif way == "over":
            shutil.copytree(whole, run)

    first = [*command, "--force"] if way == "over" else command
    prepare()
    assert fork(run, first, said, seen=folder / "seen") == 0, said.read_text()
    number, faults = int((folder / "seen").read_text()), []
    for point in range(0, number, step):
        prepare()
        code = fork(run, first, said, kill_at=point)
        killed = said.read_text().strip()
        again = fork(run, command, said)
        if way == "over" and again == 2:  # nothing tells which run was meant
            again = fork(run, first, said)
        faulty = wrong(run, whole) if again == 0 else said.read_text()
        if code not in (KILLED, 0) or again or faulty:  # 0: some operations go by the clock
            faults.append(f"{point}: {code} {killed}; resumed: {again} {faulty}")
    return number, faults


if __name__ == "__main__":
    cv2.setNumThreads(0)  # its threads would not be there in a forked process
    tracker.files._REFRESH_S = 0.05
    detector = stubbed.SlowDetector(stubbed.SCENES["street"](), 0.001)
    sys.modules["tracker.cli.run"].load_detector = lambda _: detector
    with tempfile.TemporaryDirectory() as folder:
        points, problems = check(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(folder))
    print("\n".join(problems))
    print(f"{points} operations, {len(problems)} problems")
