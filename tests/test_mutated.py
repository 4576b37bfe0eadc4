"""Damaged files by the hundred: no crash, no hang, little memory, and an exit code that says it."""

import io
import json
import os
import random
import re
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import corpus
import numpy as np
import pytest
from conftest import ROOT

KINDS = {  # name -> codec, pixel format, options
    "h264.mp4": ("libx264", "yuv420p", {"g": "10"}),
    "h264.ts": ("libx264", "yuv420p", {"g": "10"}),
    "mpeg2.ts": ("mpeg2video", "yuv420p", {}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {}),
    "h264.mkv": ("libx264", "yuv420p", {"g": "10"}),
    "mjpeg.avi": ("mjpeg", "yuvj420p", {}),
    "mpeg4.avi": ("mpeg4", "yuv420p", {}),
    "picture.gif": ("gif", "rgb8", {}),
    "hevc.mp4": ("libx265", "yuv420p", {"x265-params": "log-level=none"}),
    "h264.flv": ("libx264", "yuv420p", {}),
}
LONGEST_S, LARGEST_MB = 10.0, 500.0


def write_clip(path, codec, pixels, options, frames=24):
    """Write a small clip of a moving square on a noisy ground."""
    noise = np.random.default_rng(0).integers(0, 40, (72, 96, 3), np.uint8)
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 72, pixels
        stream.codec_context.time_base = Fraction(1, 10)
        for k in range(frames):
            image = noise + 60
            image[20:40, 3 * k : 3 * k + 20] = 220
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
            frame.pts = k
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)


def mutated(data, other, dice):
    """Return a file with bytes flipped, cut out, repeated, zeroed, spliced, or its end cut off."""
    data = bytearray(data)

    def span(longest):
        first = dice.randrange(len(data))
        return first, min(len(data), first + dice.randint(1, longest))

    for _ in range(dice.choice((1, 1, 2, 4))):
        kind = dice.choice(("flip", "flip", "header", "cut", "zero", "repeat", "splice", "end"))
        a, b = span(max(2, len(data) // 10))
        if kind == "flip":
            for _ in range(dice.choice((1, 8, 64))):
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        elif kind == "header":  # sizes and counts lie where files begin
            for _ in range(8):
                data[dice.randrange(min(len(data), 1200))] = dice.choice((0, 1, 127, 128, 255))
        elif kind == "cut":
            del data[a:b]
        elif kind == "zero":
            data[a:b] = bytes(b - a)
        elif kind == "repeat":
            data[b:b] = data[a:b] * dice.choice((1, 3))
        elif kind == "splice":
            data[a:b] = other[a:b]
        else:
            del data[max(1, a) :]
        if not data:
            return b"\0"
    return bytes(data)


def memory(pid):
    """Return the most that a process has held so far, MB; what it was forked from is not in it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1e3 if found else 0.0


def look(path, run):
    """Run the command on a file; return its exit code, s, MB and what it said."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "demos")])
    script = [sys.executable, str(ROOT / "tests" / "stubbed.py"), "none", "0", "run", "-q"]
    arguments = [str(path), "-o", str(run), "--strict", "--no-video"]
    began, megabytes = time.monotonic(), 0.0
    with (run.parent / "said.txt").open("w+") as said:
        process = subprocess.Popen(
            [*script, *arguments], env=os.environ | {"PYTHONPATH": paths}, stderr=said
        )
        while True:
            megabytes = max(megabytes, memory(process.pid))
            seconds = time.monotonic() - began
            if process.poll() is not None:
                break
            if seconds > LONGEST_S + 5:
                process.kill()
            time.sleep(0.01)
        said.seek(0)
        return process.returncode, seconds, megabytes, said.read()


def write_growing(path):
    """Write a stream whose pictures become larger than any that is read."""
    with path.open("wb") as file:
        for width, height, frames in ((96, 72, 20), (16_000, 8_000, 2)):
            part = io.BytesIO()
            with av.open(part, "w", format="mpegts") as output:
                options = {"preset": "ultrafast", "tune": "zerolatency"}
                stream = output.add_stream("libx264", rate=10, options=options)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                for _ in range(frames):
                    output.mux(stream.encode(av.VideoFrame(width, height, "yuv420p")))
                output.mux(stream.encode(None))
            file.write(part.getvalue())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("which", ["bombs", pytest.param("all", marks=pytest.mark.slow)])
def test_odd_files_take_little_memory(tmp_path, which):
    """Files that ask for gigabytes; the whole corpus one by one in the long round."""
    odd = tmp_path / "odd"
    odd.mkdir()
    write_growing(odd / "growing.ts")
    cases = corpus.make(odd) if which == "all" else corpus.hostile(odd)
    if which == "bombs":
        cases = {name: case for name, case in cases.items() if name.startswith("bomb")}
    codes = {"ok": (0,), "partial": (0, 3), "reject": (2,), "hostile": (2,)}
    for name in [*cases, "growing.ts"]:
        run = tmp_path / f"{name}-run"
        code, seconds, megabytes, said = look(odd / name, run)
        print(f"{name}: exit code {code}, {seconds:.1f} s, {megabytes:.0f} MB {said.strip()}")
        if name.startswith("bomb"):
            assert "larger than source.max_pixels (67108864) allows" in said
        assert code in codes[cases[name].kind if name in cases else "partial"], said
        assert seconds < LONGEST_S
        assert megabytes < LARGEST_MB
    report = json.loads((run / "report.json").read_text())["input"]
    assert report["frames"] == 20
    assert report["bad_packets"]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("count", "seed"), [(6, 3), pytest.param(300, 2, marks=pytest.mark.slow)])
def test_mutated_files(tmp_path, count, seed):
    clips = []
    for name, (codec, pixels, options) in KINDS.items():
        write_clip(tmp_path / name, codec, pixels, options)
        clips.append((name, (tmp_path / name).read_bytes()))
    dice, faults, codes = random.Random(seed), [], {0: 0, 2: 0, 3: 0}
    slowest = largest = 0.0
    for number in range(count):
        name, data = clips[number % len(clips)]
        path = tmp_path / f"{number:03d}-{name}"
        path.write_bytes(mutated(data, dice.choice(clips)[1], dice))
        code, seconds, megabytes, said = look(path, tmp_path / f"run-{number}")
        slowest, largest = max(slowest, seconds), max(largest, megabytes)
        codes[code] = codes.get(code, 0) + 1
        quiet = said.count("\n") == (code == 2) and "Traceback" not in said
        if code not in (0, 2, 3) or seconds > LONGEST_S or megabytes > LARGEST_MB or not quiet:
            faults.append((path.name, code, round(seconds, 1), round(megabytes), said[-400:]))
    print(f"{count} files: exit codes {codes}, slowest {slowest:.1f} s, largest {largest:.0f} MB")
    assert not faults
    assert min(codes[code] for code in (2, 3)) > 0
