"""The sound beside the pictures: kept where it can be, and never at the cost of their times."""

from fractions import Fraction

import av
import numpy as np
import pytest

from tracker.config import SourceConfig
from tracker.video.source import open_source
from tracker.video.writer import VideoWriter

AAC_RATES = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000}


def make(path, codec, *, sampling=48_000, rate=10, seconds=3.0, late=0.0, sound_late=0.0):
    """Write grey pictures and a tone; all begins `late`, the sound later still, s."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=rate, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = output.add_stream(codec, rate=sampling, options={"strict": "experimental"})
        sound.layout = "stereo"
        pictures = []
        for k in range(round(seconds * rate)):
            grey = np.full((48, 64, 3), 40 + 4 * k % 200, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, rate)
            pictures += video.encode(frame)
        pictures += video.encode(None)
        pieces, size = [], 1024
        for start in range(0, round((seconds - sound_late) * sampling), size):
            wave = np.sin(np.arange(start, start + size) / sampling * 2764)
            samples = np.repeat((wave * 9000).astype(np.int16), 2)[None]
            piece = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
            piece.sample_rate, piece.pts, piece.time_base = sampling, start, Fraction(1, sampling)
            pieces += sound.encode(piece)
        pieces += sound.encode(None)
        for packet, shift in [(p, late) for p in pictures] + [(p, sound_late) for p in pieces]:
            packet.pts += round(shift / packet.time_base)
            packet.dts += round(shift / packet.time_base)
        for packet in sorted(pictures + pieces, key=lambda p: p.dts * p.time_base):
            output.mux(packet)
    return path


def run_through(path, out, **settings):
    """Return the times of the log, those of video.mp4, its sound's (start, end, Hz), and notes."""
    source = open_source(path, SourceConfig(**settings))
    writer = VideoWriter(out, 64, 48, rate=source.info.rate, audio=source.info.audio)
    logged = []
    for frame in source:
        writer.write(frame.image, frame.time)
        logged.append(frame.time)
    writer.close()
    with av.open(str(out)) as file:
        shown = [float(frame.time) for frame in file.decode(video=0)]
    with av.open(str(out)) as file:
        pieces = list(file.decode(audio=0)) if file.streams.audio else []
    heard = None
    if pieces:
        last = pieces[-1]
        heard = (pieces[0].time, last.time + last.samples / last.sample_rate, last.sample_rate)
    return [time - logged[0] for time in logged], shown, heard, writer.notes


CODECS = [
    ("libopus", "mkv"),
    ("aac", "mp4"),
    ("aac", "ts"),
    ("libmp3lame", "mkv"),
    ("pcm_s16le", "mkv"),
    ("flac", "mkv"),
    ("ac3", "ts"),
    ("alac", "mov"),
]


@pytest.mark.parametrize(("codec", "suffix"), CODECS)
@pytest.mark.parametrize(
    "where", [{}, {"late": 0.31}, {"sound_late": 0.5}, {"sound_late": 1.7}, {"start": "1.03"}]
)
def test_the_pictures_keep_their_times_beside_any_sound(tmp_path, codec, suffix, where):
    where = dict(where)
    settings = {"start": where.pop("start")} if "start" in where else {}
    path = make(tmp_path / f"in.{suffix}", codec, **where)
    logged, shown, heard, _ = run_through(path, tmp_path / "out.mp4", **settings)
    assert shown == pytest.approx(logged, abs=0.001)
    start = max(0.0, where.get("sound_late", 0.0) - where.get("late", 0.0))
    assert heard[0] == pytest.approx(start, abs=0.11)  # a packet of FLAC or MP3 may be left out


@pytest.mark.parametrize("rate", [5512, 6000, 11024, 22050, 44056, 96000, 192000, 384000])
@pytest.mark.parametrize("codec", ["pcm_s16le", "flac"])
def test_sound_of_any_rate_is_kept(tmp_path, codec, rate):
    path = make(tmp_path / "in.mkv", codec, sampling=rate)
    logged, shown, heard, notes = run_through(path, tmp_path / "out.mp4")
    assert shown == pytest.approx(logged, abs=0.001)
    assert heard[:2] == pytest.approx((0, 3.0), abs=0.2)
    if codec == "pcm_s16le":
        assert heard[2] in AAC_RATES
        assert notes == ["the sound was encoded anew: pcm_s16le to aac"]


def test_sound_that_ends_before_the_part_begins_is_no_trouble(tmp_path):
    path = make(tmp_path / "in.ts", "ac3")
    with av.open(str(path)) as given, av.open(str(tmp_path / "short.mkv"), "w") as output:
        streams = {s.index: output.add_stream_from_template(s) for s in given.streams}
        for packet in given.demux():
            if packet.dts is None or (
                packet.stream.type == "audio" and packet.pts * packet.time_base > 2
            ):
                continue
            packet.stream = streams[packet.stream_index]
            output.mux(packet)
    logged, shown, _, _ = run_through(tmp_path / "short.mkv", tmp_path / "out.mp4", start="2.0")
    assert shown == pytest.approx(logged, abs=0.001)
