"""Every family of streams, whole and damaged: health is not doubted, and loss is told.

    python tests/test_families.py

prints the table: for each family and container the verdict on the whole file, on one that is cut
off, with flipped bytes, and without one of its packets.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tracker.errors import SourceError
from tracker.video.source import open_source
from tracker.video.units import Units

WIDTH, HEIGHT, RATE, COUNT, GROUP = 128, 96, 25, 30, 10
TICK = Fraction(1, RATE)
HIT = 13  # the packet that is damaged
CLOSE = 8  # of 255: what a picture may differ by and still be the same
FAMILIES = {  # encoder, pixels, options, size where only some are allowed
    "h264": ("libx264", "yuv420p", {}, None),
    "h264 without B": ("libx264", "yuv420p", {"bf": "0"}, None),
    "h264 intra refresh": (
        "libx264",
        "yuv420p",
        {"x264-params": "intra-refresh=1:bframes=0"},
        None,
    ),
    "hevc": ("libx265", "yuv420p", {"x265-params": "log-level=none:pools=1"}, None),
    "mpeg2": ("mpeg2video", "yuv420p", {"bf": "2"}, None),
    "mpeg4": ("mpeg4", "yuv420p", {}, None),
    "mjpeg": ("mjpeg", "yuvj420p", {}, None),
    "vp8 alternate references": (
        "libvpx",
        "yuv420p",
        {"auto-alt-ref": "1", "lag-in-frames": "10"},
        None,
    ),
    "vp9": ("libvpx-vp9", "yuv420p", {"cpu-used": "8"}, None),
    "av1": ("libsvtav1", "yuv420p", {"preset": "12", "svtav1-params": "lp=1"}, None),
    "prores": ("prores_ks", "yuv422p10le", {}, None),
    "cineform": ("cfhd", "yuv422p10le", {}, (256, 144)),
    "animation": ("qtrle", "rgb24", {}, None),
    "png": ("png", "rgb24", {}, None),
    "ffv1": ("ffv1", "yuv420p", {}, None),
    "huffyuv": ("huffyuv", "yuv422p", {}, None),
    "wmv2": ("wmv2", "yuv420p", {}, None),
    "h263": ("h263", "yuv420p", {}, (176, 144)),
    "flv1": ("flv", "yuv420p", {}, None),
    "dv": ("dvvideo", "yuv420p", {}, (720, 576)),
    "sorenson": ("svq1", "yuv410p", {}, None),
    "flash screen": ("flashsv", "bgr24", {}, None),
    "video 1": ("msvideo1", "rgb555le", {}, None),
}
FAMILIES["raw"] = ("wrapped_avframe", "yuv420p", {}, None)  # which only cuts can damage
FORMATS = {
    "mkv": "matroska",
    "ts": "mpegts",
    "y4m": "yuv4mpegpipe",
}  # FFmpeg's names, where the suffix is another
TABLE = {
    "h264": "mp4 mov mkv avi ts flv asf",
    "h264 without B": "mp4 mkv avi ts flv asf",
    "h264 intra refresh": "mp4 mkv ts",
    "hevc": "mp4 mkv ts",
    "mpeg2": "mp4 mkv avi ts asf",
    "mpeg4": "mp4 mov mkv avi ts asf 3gp",
    "mjpeg": "mov mkv avi",
    "vp8 alternate references": "mkv webm avi",
    "vp9": "mp4 mkv webm",
    "av1": "mp4 mkv webm",
    "prores": "mov mkv",
    "cineform": "mov avi",
    "animation": "mov",
    "png": "mov avi",
    "ffv1": "mkv avi",
    "huffyuv": "avi",
    "wmv2": "asf avi",
    "h263": "3gp avi",
    "flv1": "flv avi",
    "dv": "mov avi",
    "sorenson": "mov",
    "flash screen": "flv avi",
    "video 1": "avi",
}
PAIRS = [(family, suffix) for family, suffixes in TABLE.items() for suffix in suffixes.split()]
# No decoder can tell a flipped byte of these: nothing in the stream could contradict it.
NO_REDUNDANCY = {"vp8 alternate references", "vp9", "av1", "cineform", "animation", "ffv1", "dv"}
NO_REDUNDANCY |= {
    "hevc",
    "huffyuv",
    "h264 intra refresh",
    "sorenson",
    "video 1",
    "mjpeg",
    "flash screen",
}
INDEX_LAST = {"mp4", "mov", "3gp"}  # a cut takes the index along
NO_REMUX = {"av1"}  # FFmpeg has no encoder of its name by which packets could be written again


def picture(number):
    noise = np.random.default_rng(7).integers(60, 140, (12, 16, 3), dtype=np.uint8)
    image = np.roll(noise.repeat(8, 0).repeat(8, 1), 3 * number, 1)
    image[20 + number : 50 + number, 10 + 3 * number : 40 + 3 * number] = 230
    return np.ascontiguousarray(image)


def encode(path, family, *, times=range(COUNT), skipped=(), rate=RATE, late=0):
    """Write pictures at `times` (ticks), but those packets that are `skipped`."""
    encoder, pixels, options, size = FAMILIES[family]
    width, height = size or (WIDTH, HEIGHT)
    with av.open(str(path), "w", format=FORMATS.get(path.suffix[1:], path.suffix[1:])) as output:
        stream = output.add_stream(encoder, rate=rate, options=dict(options))
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.gop_size = GROUP
        stream.codec_context.time_base = Fraction(1, rate)
        packets = []
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number % COUNT), format="rgb24")
            frame = frame.reformat(width=width, height=height, format=pixels)
            frame.pts, frame.time_base = time, Fraction(1, rate)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for number, packet in enumerate(packets):
            shift = round(Fraction(late, rate) / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            if number not in skipped:
                output.mux(packet)
    return path


def copy(source, target, change, *, first=0):
    """Write the packets from the `first` on again; `change` returns the bytes of each, or None."""
    suffix = target.suffix[1:]
    with (
        av.open(str(source)) as given,
        av.open(str(target), "w", format=FORMATS.get(suffix, suffix)) as output,
    ):
        stream = given.streams.video[0]
        copied = output.add_stream_from_template(stream)
        packets = [packet for packet in given.demux(stream) if packet.size]
        for number, packet in enumerate(packets[first:]):
            data = change(number, bytes(packet))
            if data is None:
                continue
            fresh = av.Packet(data)
            fresh.pts, fresh.dts, fresh.duration = packet.pts, packet.dts, packet.duration
            fresh.time_base, fresh.is_keyframe = packet.time_base, packet.is_keyframe
            fresh.stream = copied
            output.mux(fresh)
    return target


def flip(number, data):
    if number != HIT:
        return data
    flipped, third = bytearray(data), len(data) // 3
    for place in range(third, third + 8):
        flipped[min(place, len(data) - 1)] ^= 0xA5
    return bytes(flipped)


def lose(number, data):
    return None if number == HIT else data


def read(path):
    """Return the pictures by their times, whether they are suspect, and the report."""
    source = open_source(path)
    shown = {round(frame.time, 2): (frame.image.astype(int), frame.suspect) for frame in source}
    return shown, source.report


def silent(shown, whole):
    """Return the times of pictures that are wrong though nothing is said of them."""
    return [
        time
        for time, (image, suspect) in shown.items()
        if not suspect and (time not in whole or abs(image - whole[time][0]).max() > CLOSE)
    ]


def check_healthy(path):
    shown, report = read(path)
    assert len(shown) == COUNT
    assert report.complete, report
    assert report.suspect == 0
    return shown


def check_cut(path, whole):
    cut = path.with_stem("cut")
    data = path.read_bytes()
    cut.write_bytes(data[: len(data) * 6 // 10 + 1])
    if path.suffix[1:] in INDEX_LAST:
        with pytest.raises(SourceError, match="its index, moov, is missing"):
            open_source(cut)
        return
    shown, report = read(cut)
    assert not report.complete
    assert silent(shown, whole) == []


def check_flipped(path, whole, *, can_tell):
    shown, report = read(copy(path, path.with_stem("flipped"), flip))
    assert max(shown) == max(whole)  # it goes on behind the damage
    if can_tell:
        assert not report.complete
        assert silent(shown, whole) == []


def check_lost(path, whole):
    shown, report = read(copy(path, path.with_stem("lost"), lose))
    assert not report.complete
    assert report.missing >= 1
    assert silent(shown, whole) == []


@pytest.mark.parametrize(("family", "suffix"), PAIRS)
def test_health_is_not_doubted_and_loss_is_told(tmp_path, family, suffix):
    path = encode(tmp_path / f"whole.{suffix}", family)
    whole = check_healthy(path)
    check_cut(path, whole)
    if family not in NO_REMUX:
        check_flipped(path, whole, can_tell=family not in NO_REDUNDANCY)
        check_lost(path, whole)


def pauses():
    """Times of a camera that skips a step now and then, though it loses nothing."""
    return [number + (number >= 8) + 3 * (number >= 17) + (number >= 23) for number in range(COUNT)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("family", ["h264", "h264 without B", "hevc"])
def test_the_numbers_of_pictures_tell_a_pause_from_a_loss(tmp_path, family, suffix):
    whole, report = read(encode(tmp_path / f"pauses.{suffix}", family, times=pauses()))
    assert (len(whole), report.missing, report.suspect) == (COUNT, 0, 0)

    lossy = encode(tmp_path / f"lossy.{suffix}", family, times=pauses(), skipped={HIT})
    shown, report = read(lossy)
    assert not report.complete
    assert silent(shown, whole) == []


@pytest.mark.parametrize("family", ["h264", "mpeg2"])
@pytest.mark.parametrize("suffix", ["avi", "asf", "mkv"])
def test_times_are_those_of_showing(tmp_path, family, suffix):
    shown, _ = read(encode(tmp_path / f"clip.{suffix}", family))
    assert list(shown) == pytest.approx([number / RATE for number in range(COUNT)], abs=0.006)


@pytest.mark.parametrize(("family", "suffix"), [("hevc", "mp4"), ("mpeg2", "ts"), ("h264", "mkv")])
def test_pictures_that_need_some_from_before_a_cut_are_left_out(
    tmp_path, monkeypatch, family, suffix
):
    open_groups = f"open-gop=1:keyint={GROUP}:min-keyint={GROUP}:bframes=3:log-level=none"
    encoder, pixels, options, size = FAMILIES[family]
    params = {"libx264": "x264-params", "libx265": "x265-params"}.get(encoder)
    options = {params: open_groups} if params else options
    monkeypatch.setitem(FAMILIES, family, (encoder, pixels, options, size))
    path = encode(tmp_path / f"whole.{suffix}", family)
    with av.open(str(path)) as given:
        keys = [p.is_keyframe for p in given.demux(video=0) if p.size]
    second = keys.index(True, 1)
    shown, report = read(copy(path, path.with_stem("joined"), lambda _, data: data, first=second))
    assert report.complete, report
    if family == "mpeg2":  # others' decoders make something of them
        assert len(shown) < len(keys) - second


def test_zeros_in_a_transport_stream_do_not_end_it(tmp_path):
    path = encode(tmp_path / "whole.ts", "h264", times=range(4 * COUNT))
    whole, _ = read(path)
    data = path.read_bytes()
    middle = len(data) // 376 * 188
    holed, longer = tmp_path / "holed.ts", tmp_path / "longer.ts"
    holed.write_bytes(data[:middle] + bytes(200_000) + data[middle:])
    longer.write_bytes(data + bytes(1_000_000))
    assert len(read(holed)[0]) == len(whole)
    shown, report = read(longer)  # a recorder that had reserved more
    assert len(shown) == len(whole)
    assert report.complete


def test_a_clock_that_begins_late_is_no_loss(tmp_path):
    path = encode(
        tmp_path / "late.mkv",
        "h264 without B",
        rate=1000,
        late=3_600_000,
        times=range(0, 3000, 100),
    )
    source = open_source(path)
    times = [frame.time for frame in source]
    assert times == pytest.approx([number / 10 for number in range(COUNT)])
    assert source.info.rate == 10  # by the times: the container declares the ticks of its clock
    assert source.report.complete, source.report
    assert source.report.gaps == 0


def test_two_videos_do_not_mix_their_packets(tmp_path):
    paths = [encode(tmp_path / f"{name}.mp4", "hevc") for name in "ab"]
    sources = [open_source(path) for path in paths]
    readers = [iter(source) for source in sources]
    for _ in range(COUNT):  # by turns, so that equal numbers of packets are under way at once
        for reader in readers:
            assert not next(reader).suspect
    assert all(next(reader, None) is None for reader in readers)
    assert all(source.report.complete for source in sources)


@pytest.mark.parametrize("hit", [2, 3, 10, 17, 20, 28])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_wherever_a_packet_is_lost_it_is_told(tmp_path, suffix, hit):
    """Near the start, a key, one that is shown behind pictures that are made of it."""
    path = encode(tmp_path / f"whole.{suffix}", "h264")
    whole = check_healthy(path)
    lost = copy(path, tmp_path / f"lost.{suffix}", lambda n, data: None if n == hit else data)
    shown, report = read(lost)
    assert not report.complete
    assert silent(shown, whole) == []
    assert max(whole) - 1.5 / RATE < max(shown) <= max(whole)  # no clock is led astray


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "flv"])
@pytest.mark.parametrize(
    ("family", "pause"),
    [("h264 without B", 0.7), ("h264 without B", 2.0), ("h264 without B", 60.0), ("mpeg4", 2.0)],
)
def test_a_camera_that_waits_begins_anew_with_a_key(tmp_path, suffix, family, pause):
    if (family, suffix) == ("mpeg4", "flv"):
        pytest.skip("FLV holds no MPEG-4")
    ticks = [k + (k >= GROUP) * round(pause * RATE) for k in range(COUNT)]
    shown, report = read(encode(tmp_path / f"x.{suffix}", family, times=ticks))
    assert len(shown) == COUNT
    assert report.complete, report


@pytest.mark.parametrize(
    ("family", "suffix"),
    [("h264", "mkv"), ("h264", "flv"), ("mpeg4", "ts"), ("wmv2", "asf"), ("vp9", "webm")],
)
@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_wherever_a_file_is_cut_off_it_is_told(tmp_path, family, suffix, share):
    path = encode(tmp_path / f"whole.{suffix}", family, times=range(10 * COUNT))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share) // 188 * 188 + 1])
    _, report = read(path)
    assert not report.complete


def test_raw_pictures_that_are_cut_off_are_told(tmp_path):
    path = encode(tmp_path / "whole.y4m", "raw")
    check_healthy(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    _, report = read(path)
    assert report.notes == ["the file ends in the middle of a packet: it was cut off"]


def test_an_edit_list_may_cut_off_whole_groups(tmp_path):
    path = encode(tmp_path / "trimmed.mp4", "h264 without B", late=-GROUP)
    shown, report = read(path)
    assert len(shown) == COUNT - GROUP
    assert report.complete, report


@pytest.mark.parametrize("family", ["h264", "hevc"])
def test_damaged_parameters_are_no_reason_to_stop(tmp_path, family):
    """Whatever bytes stand before the first picture, it ends in pictures or in one sentence."""
    path = encode(tmp_path / "x.mp4", family)
    data = path.read_bytes()
    start = data.index(b"avcC" if family == "h264" else b"hvcC") + 4
    dice = np.random.default_rng(4)
    for _ in range(60):
        changed = bytearray(data)
        for place in dice.integers(start, start + 60, 6):
            changed[place] = dice.integers(0, 256)
        path.write_bytes(changed)
        with suppress(SourceError):
            read(path)


@pytest.mark.parametrize(
    ("family", "kept"), [("h264", 1), ("h264", 4), ("h264", 8), ("hevc", 1), ("hevc", 21)]
)
def test_parameters_that_are_cut_off_are_no_reason_to_stop(tmp_path, family, kept):
    with av.open(str(encode(tmp_path / "x.mp4", family))) as given:
        stream = given.streams.video[0]
        whole = stream.codec_context.extradata
        stream.codec_context.extradata = whole[:kept]
        units = Units(stream)
        packets = [packet for packet in given.demux(stream) if packet.size]
        assert [units.order(packet) for packet in packets] == [None] * COUNT
        stream.codec_context.extradata = whole
        assert Units(stream).order(packets[0]).number == 0


def main():
    """Print the table."""
    import tempfile

    print("| family | container | whole | cut | flipped | lost |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for family, suffix in PAIRS:
            path = encode(Path(folder) / f"whole.{suffix}", family)
            whole = check_healthy(path)
            check_cut(path, whole)
            cut = 2 if suffix in INDEX_LAST else 3
            flipped = lost = "-"
            if family not in NO_REMUX:
                can_tell = family not in NO_REDUNDANCY
                check_flipped(path, whole, can_tell=can_tell)
                check_lost(path, whole)
                flipped, lost = 3 if can_tell else "unknowable", 3
            print(f"| {family} | {suffix} | 0 | {cut} | {flipped} | {lost} |")


if __name__ == "__main__":
    sys.exit(main())
