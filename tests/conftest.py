"""What the tests share: a small video, a small Mask R-CNN, the shared data, TrackEval."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

import tracker.detect  # before torch: it lets OpenMP's waiting threads sleep
from tracker.cli import main

ROOT = Path(__file__).parents[1]
TINY_MODEL = f"{ROOT / 'tests' / 'tiny_model.py'}:build"


def shared_folder() -> Path | None:
    path = Path(os.environ.get("TRACKER_SHARED", ROOT.parent / "shared"))
    return path if (path / "data").is_dir() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    path = shared_folder()
    if path is None:
        pytest.skip("the shared evaluation data is not here ($TRACKER_SHARED or ../shared)")
    return path


@pytest.fixture(autouse=True)
def _calm_torch() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, threads))
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_video(tmp_path):
    """Write a video whose frame k is grey 40 + 8 k all over: no codec can hide its number."""

    def make(
        name="video.mp4",
        times=None,
        frames=20,
        fps=10,
        width=96,
        height=64,
        codec="libx264",
        pix_fmt="yuv420p",
        options=None,
        audio=None,
        texture=0,
    ):
        path = tmp_path / name
        times = list(times) if times is not None else [k / fps for k in range(frames)]
        with av.open(str(path), "w") as output:
            stream = output.add_stream(codec, rate=fps, options=options or {})
            stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
            stream.codec_context.time_base = Fraction(1, 90_000)
            if codec != "mpeg2video":
                stream.codec_context.max_b_frames = 0
                stream.codec_context.gop_size = 10
            else:
                stream.codec_context.time_base = Fraction(1, fps)
            sound = output.add_stream(audio, rate=44_100, layout="mono") if audio else None
            if sound is not None:
                _write_tone(output, sound, times[-1] + 1 / fps)
            for k, time in enumerate(times):
                image = np.full((height, width, 3), 40 + 8 * (k % 24), np.uint8)
                if texture:  # so that a frame takes more than one packet of the container
                    noise = np.random.default_rng(k).integers(-texture, texture, image.shape)
                    image = np.clip(image + noise, 0, 255).astype(np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt)
                base = stream.codec_context.time_base
                frame.pts, frame.time_base = round(time / base), base
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        return path

    return make


def _write_tone(output, stream, seconds):
    rate, size, done = 44_100, 1024, 0
    while done < seconds * rate:
        t = (np.arange(size) + done) / rate
        wave = (0.2 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)[None]
        planar = stream.codec_context.format.name in ("fltp", "flt")
        data = wave if planar else (wave * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(data, format="fltp" if planar else "s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, done, Fraction(1, rate)
        output.mux(stream.encode(frame))
        done += size
    output.mux(stream.encode(None))


def grey_numbers(frames):
    """Read back the frame numbers that make_video painted."""
    return [round((float(frame.image.mean()) - 40) / 8) for frame in frames]


@pytest.fixture
def grey():
    return grey_numbers


@pytest.fixture
def tiny_model():
    return TINY_MODEL


@pytest.fixture
def tracker(monkeypatch, capsys, tmp_path):
    """Run the command in this process; return its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["tracker", *map(str, args)])
        try:
            main()
            code = 0
        except SystemExit as exc:
            code = exc.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def bfloat16():
    """Skip where the CPU has no units for packed bfloat16: they came with AVX-512."""
    weight = torch.zeros(8, 8, 3, 3, dtype=torch.bfloat16).to_mkldnn()
    try:
        torch._C._nn.mkldnn_reorder_conv2d_weight(weight, (1, 1), (1, 1), (1, 1), 1, (1, 8, 8, 8))
    except RuntimeError as exc:
        pytest.skip(f"this CPU does not run bfloat16: {exc}")
