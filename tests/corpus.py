"""Make 56 videos that are odd, damaged or hostile, whose truth is known because we made them.

    python tests/corpus.py FOLDER

Every picture carries its number as sixteen light or dark blocks along its upper edge, so that a
test can tell which pictures a reader gave, in which order, and which way up.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT, RATE = 192, 144, 10
TICK = Fraction(1, RATE)
BITEXACT = 0x400  # the same bytes each time
CODECS = {
    "libx264": {"preset": "veryfast", "crf": "26", "threads": "1"},
    "libx265": {
        "preset": "ultrafast",
        "crf": "26",
        "x265-params": "log-level=none:pools=1:frame-threads=1:colorprim=bt2020:"
        "transfer=smpte2084:colormatrix=bt2020nc:hdr10=1",
    },
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}


@dataclass(frozen=True)
class Case:
    """What is true of one file.

    An `ok` file gives all its pictures; of a `partial` one at least the `intact` come out, and it
    says that something is missing unless nobody can know; a `reject` or `hostile` one is refused.
    """

    kind: str
    codes: tuple[int, ...] = ()  # the pictures' numbers, in order
    times: tuple[float, ...] | None = None  # s; None where the file tells none that can be believed
    intact: tuple[int, ...] = ()
    rotation: int = 0  # degrees clockwise
    jumps: bool = False  # its clock leaps
    unknowable: bool = False  # whether anything is missing


def ok(codes: Iterable[int], times: Iterable[float] | None = None, **more: object) -> Case:
    """A file of which all comes out; its times are those of the rate, if not said otherwise."""
    codes = tuple(codes)
    return Case("ok", codes, None if times is None else tuple(times), **more)  # type: ignore[arg-type]


def at_rate(count: int) -> list[float]:
    """Times of so many pictures."""
    return [k / RATE for k in range(count)]


# ---- pictures -------------------------------------------------------------------------------


def picture(code: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A grey picture with its number, a moving square, and a dark bar below on the left."""
    row = np.linspace(60, 140, width, dtype=np.float32).astype(np.uint8)
    image = np.tile(row, (height, 1))
    y, x = 24 + (code * 3) % max(1, height - 56), (code * 7) % max(1, width - 24)
    image[y : y + 24, x : x + 24] = 220
    image[height - 12 :, : width // 2] = 30
    image[:8, :128] = 16
    for bit in range(16):
        if code >> bit & 1:
            image[:8, 8 * bit : 8 * bit + 8] = 235
    return image


def code_of(gray: np.ndarray) -> int:
    """Return the number of an upright grey picture."""
    blocks = gray[2:6, :128].reshape(4, 16, 8)[:, :, 2:6].mean(axis=(0, 2))
    return sum(1 << bit for bit, level in enumerate(blocks.tolist()) if level > 125)


def frame(code: int, stream: av.VideoStream, pts: int, tick: Fraction) -> av.VideoFrame:
    """A picture as a stream wants it, at its time."""
    image = np.repeat(picture(code, stream.width, stream.height)[:, :, None], 3, axis=2)
    made = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=stream.pix_fmt)
    made.pts, made.time_base = pts, tick
    return made


# ---- writing --------------------------------------------------------------------------------


def add_video(
    output: av.container.OutputContainer,
    codec: str = "libx264",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    pixels: str = "yuv420p",
    tick: Fraction = TICK,
    gop: int | None = 10,
    bframes: int | None = 0,
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
) -> av.VideoStream:
    """Add a stream of video."""
    rate = 25 if tick == Fraction(1, 25) else RATE
    stream = output.add_stream(codec, rate=rate, options=CODECS.get(codec, {}) | (options or {}))
    (stream.width, stream.height), stream.pix_fmt = size, pixels
    context = stream.codec_context
    if gop is not None and codec != "libsvtav1":
        context.gop_size = gop
    if bframes is not None and codec in ("libx264", "libx265", "mpeg4", "mpeg2video"):
        context.max_b_frames = bframes
    context.time_base = stream.time_base = tick
    if aspect:
        context.sample_aspect_ratio = aspect
    return stream


def write(
    path: Path,
    codes: Iterable[int] = range(30),
    ticks: Sequence[int] | None = None,
    *,
    container: str | None = None,
    flags: dict[str, str] | None = None,
    **stream: object,
) -> None:
    """Write a file with one stream of video; the ticks are 0, 1, 2 … where none are given."""
    codes = list(codes)
    ticks = list(ticks) if ticks is not None else list(range(len(codes)))
    with av.open(str(path), "w", format=container, options=flags or {}) as output:
        output.flags |= BITEXACT
        video = add_video(output, **stream)  # type: ignore[arg-type]
        tick = video.codec_context.time_base
        for code, pts in zip(codes, ticks, strict=True):
            output.mux(video.encode(frame(code, video, pts, tick)))
        output.mux(video.encode(None))


def write_parts(path: Path, container: str, sizes: Sequence[tuple[int, int]]) -> None:
    """Write fifteen pictures of each size into one stream."""
    with av.open(str(path), "w", format=container) as output:
        stream = add_video(output, size=sizes[0])
        for part, size in enumerate(sizes):
            encoder = av.CodecContext.create("libx264", "w")
            (encoder.width, encoder.height), encoder.pix_fmt = size, "yuv420p"
            encoder.time_base, encoder.framerate = TICK, Fraction(RATE)
            encoder.gop_size, encoder.max_b_frames = 10, 0
            encoder.options = CODECS["libx264"]
            packets = []
            for k in range(15 * part, 15 * part + 15):
                packets += encoder.encode(frame(k, encoder, k, TICK))
            for packet in [*packets, *encoder.encode(None)]:
                packet.stream, packet.time_base = stream, TICK
                output.mux(packet)


def add_silence(output: av.container.OutputContainer, codec: str, rate: int, blocks: int) -> None:
    """Write a stream of silence to the end."""
    stream = output.add_stream(codec, rate=rate, layout="mono")
    output.start_encoding()
    kind, dtype = ("s16p", np.int16) if codec == "libmp3lame" else ("fltp", np.float32)
    size = stream.codec_context.frame_size
    for k in range(blocks):
        sound = av.AudioFrame.from_ndarray(np.zeros((1, size), dtype), format=kind, layout="mono")
        sound.sample_rate, sound.pts = rate, k * size
        output.mux(stream.encode(sound))
    output.mux(stream.encode(None))


def packets_of(path: Path) -> list[tuple[int, int]]:
    """Return place and size of each packet of video, bytes."""
    with av.open(str(path)) as file:
        return [(p.pos, p.size) for p in file.demux(video=0) if p.size]


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[str, int, int]]:
    """Yield type, place and size of the boxes of an MP4 file, or of those within one."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        yield kind.decode("latin1"), start, size
        start += max(size, 8)


def box(data: bytes, *names: str) -> tuple[int, int]:
    """Return place and size of a box, found by the names of those around it."""
    start, end = 0, len(data)
    for depth, name in enumerate(names):
        inside = boxes(data, start + 8 if depth else 0, end)
        start, size = next((at, size) for kind, at, size in inside if kind == name)
        end = start + size
    return start, end - start


# ---- the files ------------------------------------------------------------------------------


def make(folder: Path) -> dict[str, Case]:
    """Write all files; return what is true of each."""
    folder.mkdir(parents=True, exist_ok=True)
    dice = np.random.default_rng(7)
    return {
        **_plain(folder),
        **_turned(folder),
        **_changing(folder),
        **_damaged(folder, dice),
        **_nothing_to_show(folder, dice),
        **_lying(folder),
        **hostile(folder),
    }


def _plain(folder: Path) -> dict[str, Case]:
    """Good files that are unusual in one way each."""
    endless = {"x264-params": "keyint=infinite:scenecut=0"}
    uneven = [0, 1, 2, 3, 10, 11, 50, 51, 52, 90, 250, 251, 260, 300, 301]
    write(folder / "ok_h264.mp4")
    write(folder / "bframes_negdts.mp4", bframes=3)
    write(folder / "bframes_negdts.mkv", bframes=3)
    write(folder / "long_gop.mp4", range(250), gop=10_000, options=endless)
    fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    write(folder / "fragmented.mp4", flags=fragments)
    write(folder / "live_noduration.mkv", flags={"live": "1"})
    write(folder / "start_5s.ts", ticks=range(50, 80))
    write(folder / "hevc10_hdr.mp4", range(20), codec="libx265", pixels="yuv420p10le", gop=None)
    write(folder / "odd_321x243.webm", range(20), codec="libvpx-vp9", size=(321, 243))
    write(folder / "odd_321x243_444.mp4", range(20), size=(321, 243), pixels="yuv444p")
    write(folder / "small_130x18_ffv1.mkv", range(5), codec="ffv1", size=(130, 18))
    write(folder / "vfr.mp4", range(15), [10 * k for k in uneven], tick=Fraction(1, 1000))
    write(folder / "sar_4_3.mp4", range(10), aspect=Fraction(4, 3))
    combed = {"flags": "+ilme+ildct", "top": "1"}
    fast = Fraction(1, 25)
    write(folder / "interlaced_mpeg2.ts", range(25), codec="mpeg2video", tick=fast, options=combed)
    write(folder / "mpeg4_packed.avi", codec="mpeg4", bframes=2)
    write(folder / "av1.mkv", range(12), codec="libsvtav1")
    write(folder / "mjpeg.avi", range(12), codec="mjpeg", pixels="yuvj420p", gop=None)
    write(folder / "raw.h264", container="h264")
    write(folder / "one_frame.mp4", range(1))
    hundredths = Fraction(1, 100)
    ticks = range(0, 80, 10)
    write(folder / "anim.gif", range(8), ticks, codec="gif", pixels="bgr8", tick=hundredths)
    write(folder / "single.png", [7], container="image2", codec="png", pixels="rgb24", gop=None)
    with av.open(str(folder / "two_video_streams.mkv"), "w") as output:
        streams = [add_video(output), add_video(output, size=(160, 120))]
        for k in range(10):
            for stream, first in zip(streams, (0, 1000), strict=True):
                output.mux(stream.encode(frame(first + k, stream, k, TICK)))
        for stream in streams:
            output.mux(stream.encode(None))
    with av.open(str(folder / "with_audio.mp4"), "w") as output:
        video = add_video(output)
        sound = output.add_stream("aac", rate=48_000, layout="mono")
        for k in range(20):
            output.mux(video.encode(frame(k, video, k, TICK)))
        for k in range(90):
            silence = np.zeros((1, 1024), np.float32)
            block = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            block.sample_rate, block.pts = 48_000, 1024 * k
            output.mux(sound.encode(block))
        output.mux(video.encode(None))
        output.mux(sound.encode(None))
    thirty = ok(range(30), at_rate(30))
    return {
        **dict.fromkeys(("ok_h264.mp4", "bframes_negdts.mp4", "bframes_negdts.mkv"), thirty),
        **dict.fromkeys(("fragmented.mp4", "live_noduration.mkv", "start_5s.ts"), thirty),
        "long_gop.mp4": ok(range(250), at_rate(250)),
        "hevc10_hdr.mp4": ok(range(20), at_rate(20)),
        "odd_321x243.webm": ok(range(20), at_rate(20)),
        "odd_321x243_444.mp4": ok(range(20), at_rate(20)),
        "small_130x18_ffv1.mkv": ok(range(5), at_rate(5)),
        "vfr.mp4": ok(range(15), [k / 100 for k in uneven]),
        "sar_4_3.mp4": ok(range(10), at_rate(10)),
        "interlaced_mpeg2.ts": ok(range(25), [k / 25 for k in range(25)]),
        "mpeg4_packed.avi": ok(range(30)),  # AVI knows no times of B-frames
        "av1.mkv": ok(range(12), at_rate(12)),
        "mjpeg.avi": ok(range(12), at_rate(12)),
        "raw.h264": ok(range(30)),
        "one_frame.mp4": ok([0], [0.0]),
        "two_video_streams.mkv": ok(range(10), at_rate(10)),
        "with_audio.mp4": ok(range(20), at_rate(20)),
        "anim.gif": ok(range(8), at_rate(8)),
        "single.png": ok([7], [0.0]),
    }


def _turned(folder: Path) -> dict[str, Case]:
    """Pictures that are stored lying; only the display matrix says so."""
    cases = {}
    matrices = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
    for degrees, (a, b, c, d) in matrices.items():
        data = bytearray((folder / "ok_h264.mp4").read_bytes())
        at = box(data, "moov", "trak", "tkhd")[0] + 8 + 40
        x, y = {90: (HEIGHT, 0), 180: (WIDTH, HEIGHT), 270: (0, WIDTH)}[degrees]
        matrix = [v << 16 for v in (a, b)] + [0] + [v << 16 for v in (c, d)] + [0]
        data[at : at + 36] = struct.pack(">9i", *matrix, x << 16, y << 16, 1 << 30)
        (folder / f"rot{degrees}.mp4").write_bytes(data)
        cases[f"rot{degrees}.mp4"] = ok(range(30), at_rate(30), rotation=degrees)
    return cases


def _changing(folder: Path) -> dict[str, Case]:
    """Streams whose size, clock or codec changes on the way."""
    sizes = [(320, 240), (160, 120)]
    write_parts(folder / "reschange.ts", "mpegts", sizes)
    write_parts(folder / "reschange.h264", "h264", sizes)

    def glued(name: str, **second: object) -> None:
        write(folder / "a.ts", range(15))
        write(folder / "b.ts", range(15, 30), **second)  # type: ignore[arg-type]
        (folder / name).write_bytes(b"".join((folder / p).read_bytes() for p in ("a.ts", "b.ts")))
        for part in ("a.ts", "b.ts"):
            (folder / part).unlink()

    glued("pts_reset.ts")
    glued("pts_jump_1h.ts", ticks=range(36_000, 36_015))
    glued("codec_change.ts", codec="mpeg2video", tick=Fraction(1, 25))
    return {
        "reschange.ts": ok(range(30), at_rate(30)),
        "reschange.h264": ok(range(30)),
        "pts_reset.ts": ok(range(30), jumps=True),
        "pts_jump_1h.ts": ok(range(30), jumps=True),
        # The demuxer believes the latest table of programmes: one half is lost, but not silently.
        "codec_change.ts": Case("partial", tuple(range(30)), intact=tuple(range(15, 30))),
    }


def _damaged(folder: Path, dice: np.random.Generator) -> dict[str, Case]:
    """Files that were cut off, overwritten, or begun in the middle."""
    cases = {}

    def partial(name: str, data: bytes, count: int, intact: Iterable[int], **more: bool) -> None:
        (folder / name).write_bytes(data)
        cases[name] = Case("partial", tuple(range(count)), intact=tuple(intact), **more)

    work = folder / "work.mp4"
    write(work, range(60), flags={"movflags": "faststart"})
    data, packets = work.read_bytes(), packets_of(work)
    end = int(0.6 * len(data))
    whole = [k for k, (at, size) in enumerate(packets) if at + size <= end]
    partial("truncated_faststart.mp4", data[:end], 60, whole)
    noisy = bytearray(data)
    for k in (22, 24, 25):  # there is a key frame every ten
        at, size = packets[k]
        noisy[at + 12 : at + size] = dice.integers(0, 256, size - 12, np.uint8).tobytes()
    partial("corrupt_middle.mp4", noisy, 60, [*range(20), *range(30, 60)])
    work.unlink()
    data = (folder / "ok_h264.mp4").read_bytes()
    (folder / "no_moov.mp4").write_bytes(data[: box(data, "moov")[0]])
    cases["no_moov.mp4"] = Case("reject")
    data = (folder / "fragmented.mp4").read_bytes()
    third = [at + size for kind, at, size in boxes(data) if kind == "moof"][2]
    partial("fragmented_cut.mp4", data[: third + 300], 30, range(20))
    data = (folder / "live_noduration.mkv").read_bytes()
    partial("mkv_live_cut.mkv", data[: len(data) // 2], 30, range(9), unknowable=True)
    work = folder / "work.mkv"
    write(work)
    data = work.read_bytes()
    partial("mkv_cut.mkv", data[: len(data) // 2], 30, range(8))
    work.unlink()
    work = folder / "work.ts"
    write(work, range(60))
    data = bytearray(work.read_bytes())
    for at in dice.integers(int(0.4 * len(data)), int(0.5 * len(data)), 400).tolist():
        data[at] ^= int(dice.integers(1, 256))
    partial("corrupt_middle.ts", data, 60, [*range(15), *range(45, 60)])
    write(work, range(60), gop=30)
    data = work.read_bytes()
    joined = len(data) // 188 // 3 * 188
    partial("starts_mid_gop.ts", data[: 3 * 188] + data[joined:], 60, range(30, 60))
    work.unlink()
    return cases


def _nothing_to_show(folder: Path, dice: np.random.Generator) -> dict[str, Case]:
    """Files without a picture, and what is no video at all."""
    for name in ("zero_frames.mp4", "zero_frames.mkv"):
        with av.open(str(folder / name), "w") as output:
            add_video(output)
            output.start_encoding()
    with av.open(str(folder / "audio_only.mp4"), "w") as output:
        add_silence(output, "aac", 48_000, 40)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text_renamed.mp4").write_text("this is not a video\n" * 50)
    (folder / "zeros.mp4").write_bytes(bytes(4096))
    (folder / "random.mp4").write_bytes(dice.integers(0, 256, 20_000, np.uint8).tobytes())
    (folder / "directory.mp4").mkdir(exist_ok=True)
    _write_song(folder / "audio_with_cover.mp3", (folder / "single.png").read_bytes())
    names = ("zero_frames.mp4", "zero_frames.mkv", "audio_only.mp4", "empty.mp4")
    more = ("text_renamed.mp4", "zeros.mp4", "random.mp4", "directory.mp4", "audio_with_cover.mp3")
    return dict.fromkeys((*names, *more), Case("reject"))


def _write_song(path: Path, cover: bytes) -> None:
    """Write an MP3 with the picture of its album, which looks like a stream of video."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3") as output:
        add_silence(output, "libmp3lame", 44_100, 30)
    song = buffer.getvalue()

    def length(size: int) -> bytes:
        return bytes(size >> shift & 127 for shift in (21, 14, 7, 0))

    if song[:3] == b"ID3":
        song = song[
            10
            + sum(byte << shift for byte, shift in zip(song[6:10], (21, 14, 7, 0), strict=True)) :
        ]
    content = b"\0image/png\0\3\0" + cover
    tag = b"APIC" + struct.pack(">I", len(content)) + b"\0\0" + content
    path.write_bytes(b"ID3\3\0\0" + length(len(tag)) + tag + song)


def _lying(folder: Path) -> dict[str, Case]:
    """Headers that say what cannot be."""
    data = (folder / "mjpeg.avi").read_bytes()
    stream, file = data.index(b"strh"), data.index(b"avih")
    none = bytearray(data)
    none[stream + 32 : stream + 36] = none[file + 8 : file + 12] = bytes(4)
    (folder / "fps0.avi").write_bytes(none)
    huge = bytearray(data)
    huge[stream + 28 : stream + 36] = struct.pack("<II", 1, 90_000)
    (folder / "fps90000.avi").write_bytes(huge)
    return {"fps0.avi": ok(range(12)), "fps90000.avi": ok(range(12))}


def hostile(folder: Path) -> dict[str, Case]:
    """Files that make a reader open something else, or ask for gigabytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000), 9)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    (folder / "bomb_30000x30000.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"
    texts = {
        "ssrf.m3u8": playlist.format("http://127.0.0.1:9/secret.ts"),
        "lfi.m3u8": playlist.format("file:///etc/passwd"),
        "lfi.ffconcat": "ffconcat version 1.0\nfile ok_h264.mp4\nfile /etc/passwd\n",
        "ssrf.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 49170 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "concat_renamed.mp4": "ffconcat version 1.0\nfile 'ok_h264.mp4'\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return dict.fromkeys(("bomb_30000x30000.png", *texts), Case("hostile"))


if __name__ == "__main__":
    print(f"{len(make(Path(sys.argv[1])))} files")
