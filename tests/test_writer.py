import io
import os
import signal
import subprocess
import sys
import textwrap
from fractions import Fraction

import av
import numpy as np
import pytest

from tracker.errors import SinkError
from tracker.types import AudioTrack
from tracker.video.source import open_source
from tracker.video.writer import VideoWriter


def picture(level=128, width=96, height=64):
    return np.full((height, width, 3), level, np.uint8)


def write(path, times, size=(96, 64), **settings):
    writer = VideoWriter(path, *size, **settings)
    for k, time in enumerate(times):
        writer.write(picture(40 + 8 * (k % 24), *size), time)
    writer.close()
    return writer


def test_a_browser_can_play_it(tmp_path):
    path = tmp_path / "out.mp4"
    write(path, [k / 10 for k in range(20)])
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
    data = path.read_bytes()
    assert data[4:8] == b"ftyp"
    assert b"moov" in data
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.mp4"]


def test_times_are_kept(tmp_path, grey):
    times = [0, 0.04, 0.1, 0.5, 0.51, 1.0, 61.7]
    write(tmp_path / "out.mp4", times)
    frames = list(open_source(tmp_path / "out.mp4"))
    assert grey(frames) == list(range(7))
    assert [f.time for f in frames] == pytest.approx(times, abs=1e-4)


def test_a_later_start_becomes_zero(tmp_path):
    write(tmp_path / "out.mp4", [100.0, 100.1, 100.2])
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert [f.time for f in file.decode(video=0)] == pytest.approx([0, 0.1, 0.2], abs=1e-4)


@pytest.mark.parametrize(("size", "even"), [((97, 65), (98, 66)), ((96, 65), (96, 66))])
def test_odd_sizes_are_padded(tmp_path, size, even):
    write(tmp_path / "out.mp4", [0, 0.1], size)
    frames = list(open_source(tmp_path / "out.mp4"))
    assert (frames[0].width, frames[0].height) == even
    assert abs(int(frames[1].image[-1, -1, 0]) - 48) <= 3  # the edge goes on: no black border


def test_another_size_is_fitted_in(tmp_path):
    writer = VideoWriter(tmp_path / "out.mp4", 96, 64)
    writer.write(picture(), 0.0)
    writer.write(picture(200, 192, 64), 0.1)
    writer.write(picture(200, 10, 10), 0.2)
    writer.close()
    frames = list(open_source(tmp_path / "out.mp4"))
    assert {f.image.shape for f in frames} == {(64, 96, 3)}


@pytest.mark.parametrize(
    ("name", "codec", "out", "noted"),
    [("in.mp4", "aac", "aac", False), ("in.mkv", "pcm_s16le", "aac", True)],
)
def test_the_sound_is_kept(make_video, tmp_path, name, codec, out, noted):
    path = make_video(name=name, frames=30, audio=codec)
    writer = write(
        tmp_path / "out.mp4", [k / 10 for k in range(30)], audio=AudioTrack(str(path), 0.0)
    )
    assert bool(writer.notes) == noted
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.audio[0].codec_context.name == out
        frames = list(file.decode(audio=0))
        seconds = sum(f.samples for f in frames) / frames[0].sample_rate
        assert seconds == pytest.approx(3.0, abs=0.15)
        loud = np.concatenate([f.to_ndarray().ravel() for f in frames[5:30]])
        assert np.abs(loud).max() > 0.1


def test_the_sound_of_a_later_part_is_in_step(make_video, tmp_path):
    path = make_video(name="in.mp4", frames=30, audio="aac")
    times = [k / 10 for k in range(10, 20)]
    write(tmp_path / "out.mp4", times, audio=AudioTrack(str(path), 0.0))
    with av.open(str(tmp_path / "out.mp4")) as file:
        frames = list(file.decode(audio=0))
        assert 0 <= frames[0].time < 0.05
        assert frames[-1].time < 1.05


def test_trouble_with_the_sound_ends_no_run(tmp_path):
    writer = write(
        tmp_path / "out.mp4", [0, 0.1], audio=AudioTrack(str(tmp_path / "missing.mp4"), 0.0)
    )
    assert "the sound was left out" in writer.notes[0]
    assert len(list(open_source(tmp_path / "out.mp4"))) == 2


def test_no_frame_leaves_no_file(tmp_path):
    VideoWriter(tmp_path / "out.mp4", 96, 64).close()
    assert not list(tmp_path.iterdir())


def test_close_twice(tmp_path):
    writer = write(tmp_path / "out.mp4", [0.0])
    writer.close()


def test_a_missing_folder(tmp_path):
    with pytest.raises(SinkError, match="cannot be written: No such file"):
        VideoWriter(tmp_path / "nowhere" / "out.mp4", 96, 64)


def test_a_full_disk_is_said_and_leaves_no_final_name(tmp_path):
    writer = VideoWriter(tmp_path / "out.mp4", 96, 64)
    writer.write(picture(), 0.0)

    class FullDisk(io.FileIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    writer._file._file.close()
    writer._file._file = FullDisk(tmp_path / "out.part.mp4", "wb")
    with pytest.raises(SinkError, match="No space left"):
        for k in range(1, 400):
            writer.write(np.random.default_rng(k).integers(0, 255, (64, 96, 3), np.uint8), k / 10)
    with pytest.raises(SinkError, match="No space left"):
        writer.close()
    assert not (tmp_path / "out.mp4").exists()


def test_a_killed_writer_leaves_all_but_a_second(tmp_path):
    script = textwrap.dedent(
        """
        import sys, time
        import numpy as np
        from fractions import Fraction
        from pathlib import Path
        from tracker.video.writer import VideoWriter
        writer = VideoWriter(Path(sys.argv[1]), 96, 64, rate=Fraction(10))
        for k in range(56):
            writer.write(np.full((64, 96, 3), k, np.uint8), k / 10)
        print("ready", flush=True)
        time.sleep(60)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "out.mp4"], stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with av.open(str(tmp_path / "out.part.mp4")) as file:
        assert len(list(file.decode(video=0))) >= 40
    assert not (tmp_path / "out.mp4").exists()


def test_the_nominal_rate_is_written(tmp_path):
    write(tmp_path / "out.mp4", [k * 1001 / 30000 for k in range(30)], rate=Fraction(30000, 1001))
    with av.open(io.BytesIO((tmp_path / "out.mp4").read_bytes())) as file:
        assert float(file.streams.video[0].average_rate) == pytest.approx(29.97, abs=0.01)


def test_sound_that_is_encoded_anew_keeps_its_length(tmp_path):
    path = tmp_path / "vorbis.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream(
            "vorbis", rate=44_100, layout="stereo", options={"strict": "experimental"}
        )
        for k in range(100):
            wave = np.sin(np.arange(1024) / 20 + k).astype(np.float32) * 0.3
            frame = av.AudioFrame.from_ndarray(np.stack([wave] * 2), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = 44_100, k * 1024, Fraction(1, 44_100)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    write(tmp_path / "out.mp4", [k / 10 for k in range(23)], audio=AudioTrack(str(path), 0.0))
    with av.open(str(tmp_path / "out.mp4")) as file:
        frames = list(file.decode(audio=0))
    assert frames[-1].time + frames[-1].samples / 44_100 == pytest.approx(2.3, abs=0.1)


def test_sound_whose_clock_jumps_back_ends_no_run(make_video, tmp_path):
    part = make_video(name="part.ts", frames=80, audio="aac").read_bytes()
    (tmp_path / "spliced.ts").write_bytes(part + part)
    source = open_source(tmp_path / "spliced.ts")
    times = [frame.time for frame in source]
    assert source.report.clock_jumps == 1
    writer = write(tmp_path / "out.mp4", times, audio=source.info.audio)
    assert not writer.notes
    assert len(list(open_source(tmp_path / "out.mp4"))) == 160
    with av.open(str(tmp_path / "out.mp4")) as file:
        seconds = sum(f.samples for f in file.decode(audio=0)) / 44_100
    assert seconds == pytest.approx(16.0, abs=0.3)


def test_colours_are_tagged_and_come_back(tmp_path):
    writer = VideoWriter(tmp_path / "out.mp4", 96, 64, crf=10)
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :32], image[:, 32:64], image[:, 64:] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    for k in range(3):
        writer.write(image, k / 10)
    writer.close()
    with av.open(str(tmp_path / "out.mp4")) as file:
        codec = file.streams.video[0].codec_context
        assert (codec.colorspace, codec.color_primaries, codec.color_trc) == (1, 1, 1)
    (frame, *_) = open_source(tmp_path / "out.mp4")
    for x, color in ((16, (200, 30, 30)), (48, (30, 200, 30)), (80, (30, 30, 200))):
        assert np.abs(frame.image[32, x].astype(int) - color).max() <= 8


def test_the_pixels_shape_is_kept(tmp_path):
    write(tmp_path / "out.mp4", [0, 0.1], pixel_aspect=Fraction(4, 3))
    assert open_source(tmp_path / "out.mp4").info.pixel_aspect == Fraction(4, 3)
    write(tmp_path / "square.mp4", [0, 0.1])
    assert open_source(tmp_path / "square.mp4").info.pixel_aspect == 1
