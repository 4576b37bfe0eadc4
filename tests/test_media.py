"""One rule each: which stream, what opens, what is lost; the same for a file, a URL and a pipe."""

import json
import os
import struct
import subprocess
import sys
import threading
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import av
import numpy as np
import pytest
from PIL import Image
from stubbed import BlankDetector

from tracker.config import SourceConfig
from tracker.errors import SourceError
from tracker.video.source import open_source
from tracker.video.writer import VideoWriter

WIDTH, HEIGHT, RATE = 96, 64, 10


def grey(number):
    return np.full((HEIGHT, WIDTH, 3), 40 + 8 * (number % 24), np.uint8)


def add_pictures(output, codec="libx264", *, size=(WIDTH, HEIGHT), rate=RATE, **options):
    stream = output.add_stream(codec, rate=rate, options={"bf": "0", **options})
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    stream.width, stream.height, stream.pix_fmt = *size, pixels
    stream.codec_context.gop_size = 10
    stream.codec_context.time_base = Fraction(1, rate if codec == "mpeg2video" else 1000)
    return stream


def encoded(stream, times, *, first=0):
    packets = []
    for number, time in enumerate(times, first):
        frame = av.VideoFrame.from_ndarray(grey(number), format="rgb24")
        frame = frame.reformat(stream.width, stream.height, stream.pix_fmt)
        tick = stream.codec_context.time_base
        frame.pts, frame.time_base = round(Fraction(time) / tick), tick
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def write(path, times=None, *, kind=None, codec="libx264", size=(WIDTH, HEIGHT), **options):
    times = [k / RATE for k in range(30)] if times is None else times
    with av.open(str(path), "w", format=kind) as output:
        stream = add_pictures(output, codec, size=size, **options)
        for packet in encoded(stream, times):
            output.mux(packet)
    return path


def read(place, **settings):
    source = open_source(place, SourceConfig(**settings))
    return list(source), source


def numbers(frames):
    return [round((float(frame.image.mean()) - 40) / 8) for frame in frames]


@pytest.fixture
def serve():
    """Serve files by name: with their length, but without ranges; what is None is not there."""
    servers = []

    def start(files):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                content = files.get(self.path.strip("/"))
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


PIPE = """
import sys
from tracker.errors import SourceError
from tracker.video.source import open_source
from tracker.video.writer import VideoWriter
try:
    source = open_source("-")
    times = [(frame.index, round(frame.time, 4), int(frame.image.sum())) for frame in source]
    info = source.info
    print(repr((times, info.width, info.height, str(info.pixel_aspect), info.audio_note)))
except SourceError as exc:
    print(exc)
"""


def through_pipe(path):
    command = [sys.executable, "-c", PIPE]
    done = subprocess.run(command, input=path.read_bytes(), capture_output=True, check=True)
    return done.stdout.decode().strip()


def seen(source):
    frames = [(f.index, round(f.time, 4), int(f.image.sum())) for f in source]
    return frames, source.info.width, source.info.height, str(source.info.pixel_aspect)


# ---- the same bytes give the same ---------------------------------------------------------------


def with_sound_and_shape(path):
    """Pictures of wide pixels with a tone, whose index comes first."""
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as output:
        stream = add_pictures(output)
        stream.sample_aspect_ratio = Fraction(4, 3)
        tone = output.add_stream("aac", rate=48_000, layout="mono")
        pieces = []
        for start in range(0, 3 * 48_000, 1024):
            wave = np.sin(np.arange(start, start + 1024) / 20).astype(np.float32)[None]
            piece = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = 48_000, start, Fraction(1, 48_000)
            pieces += tone.encode(piece)
        packets = encoded(stream, [k / RATE for k in range(30)]) + pieces + tone.encode(None)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            output.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_file_url_and_pipe_give_the_same(tmp_path, serve, suffix):
    path = with_sound_and_shape(tmp_path / f"x.{suffix}")
    file = open_source(path)
    expected = seen(file)
    assert len(expected[0]) == 30
    assert expected[3] == "4/3"
    assert file.info.audio is not None

    url = open_source(f"{serve({path.name: path.read_bytes()})}/{path.name}")
    assert not url.info.live
    assert seen(url) == expected
    assert url.info.audio.origin == file.info.audio.origin
    assert (url.report.complete, file.report.complete) == (True, True)

    *piped, note = eval(through_pipe(path))  # what the script above printed
    assert tuple(piped) == expected
    assert note == "the sound of standard input is lost: it can be read only once"


@pytest.mark.parametrize("suffix", ["ts", "mkv", "mp4"])
def test_a_finite_address_is_a_file(tmp_path, serve, suffix):
    """It declares its length in bytes, and neither a duration nor ranges."""
    path = tmp_path / f"x.{suffix}"
    options = {"movflags": "frag_keyframe+empty_moov"} if suffix == "mp4" else {"live": "1"}
    with av.open(str(path), "w", options=options if suffix != "ts" else {}) as output:
        stream = add_pictures(output)
        for packet in encoded(stream, [k / RATE for k in range(30)]):
            output.mux(packet)
    frames, source = read(f"{serve({'x': path.read_bytes()})}/x")
    assert not source.info.live
    assert numbers(frames) == [k % 24 for k in range(30)]
    assert source.report.complete, source.report


@pytest.mark.parametrize("where", ["title", "handler", "stream"])
def test_tags_need_not_be_utf8(tmp_path, serve, where):
    path = tmp_path / ("x.mp4" if where == "handler" else "x.mkv")
    with av.open(str(path), "w") as output:
        stream = add_pictures(output)
        mark = "NAMENAMENAME"
        if where == "title":
            output.metadata["title"] = mark
        else:
            stream.metadata["handler_name" if where == "handler" else "title"] = mark
        for packet in encoded(stream, [k / RATE for k in range(10)]):
            output.mux(packet)
    data = path.read_bytes()
    assert data.count(mark.encode()) == 1
    path.write_bytes(data.replace(mark.encode(), b"caf\xe9 \xff\xfe \xb0C !"))
    url = f"{serve({'x': path.read_bytes()})}/x"
    for place in (path, url):
        assert len(read(place)[0]) == 10
    assert through_pipe(path).startswith("([(0, 0.0,") or where == "handler"  # its index is last


@pytest.mark.parametrize("kind", ["gif", "webp", "avif", "tif", "png", "jpg"])
def test_pictures_are_the_same_by_file_url_and_pipe(tmp_path, serve, kind):
    path = tmp_path / f"x.{kind}"
    pictures = [Image.fromarray(grey(number)) for number in range(5)]
    several = {} if kind == "jpg" else {"save_all": True, "append_images": pictures[1:]}
    pictures[0].save(path, duration=[100, 10, 20, 200, 100], dpi=(72, 144), **several)
    file = open_source(path)
    expected = seen(file)
    assert len(expected[0]) == (1 if kind == "jpg" else 5)
    assert seen(open_source(f"{serve({path.name: path.read_bytes()})}/{path.name}")) == expected
    if kind != "jpg":  # which through a pipe may be the first of a video of many
        *piped, _ = eval(through_pipe(path))
        assert tuple(piped) == expected


# ---- which stream -------------------------------------------------------------------------------


def cover():
    image = Image.fromarray(np.full((50, 50, 3), 200, np.uint8))
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def with_cover(path):
    """A cover picture as the first stream, then the video."""
    with av.open(str(path), "w") as output:
        picture = output.add_stream("png", rate=1)
        picture.width = picture.height = 50
        picture.pix_fmt = "rgb24"
        picture.disposition = av.stream.Disposition.attached_pic
        stream = add_pictures(output)
        still = av.Packet(cover())
        still.pts = still.dts = 0
        still.time_base, still.is_keyframe, still.stream = Fraction(1, 1000), True, picture
        output.mux(still)
        for packet in encoded(stream, [k / RATE for k in range(10)]):
            output.mux(packet)
    return path


def test_a_cover_is_no_video(tmp_path, serve):
    path = with_cover(tmp_path / "x.mp4")
    for place in (path, f"{serve({'x': path.read_bytes()})}/x"):
        frames, source = read(place)
        assert numbers(frames) == list(range(10))
        assert (source.info.width, source.info.height) == (WIDTH, HEIGHT)


def two_videos(path, sizes, *, dead=None):
    with av.open(str(path), "w") as output:
        streams = [add_pictures(output, size=size) for size in sizes]
        for number, stream in enumerate(streams):
            for packet in encoded(stream, [k / RATE for k in range(10)]):
                if number == dead:
                    broken = av.Packet(bytes(len(bytes(packet))))
                    broken.pts, broken.dts, broken.stream = packet.pts, packet.dts, stream
                    broken.time_base = packet.time_base
                    output.mux(broken)
                else:
                    output.mux(packet)
    return path


def test_the_first_video_that_decodes_is_read(tmp_path):
    sizes = [(WIDTH, HEIGHT), (192, 128)]
    frames, source = read(two_videos(tmp_path / "x.mkv", sizes))
    assert (source.info.width, len(frames)) == (WIDTH, 10)
    frames, source = read(tmp_path / "x.mkv", stream=1)
    assert (source.info.width, len(frames)) == (192, 10)
    frames, source = read(two_videos(tmp_path / "dead.mkv", sizes, dead=0))
    assert (source.info.width, len(frames)) == (192, 10)
    with pytest.raises(SourceError, match=r"has no video stream 2 \(source.stream\), only 0 to 1"):
        open_source(tmp_path / "x.mkv", SourceConfig(stream=2))


HEAD = "#EXTM3U\n#EXT-X-VERSION:3\n"
LIST = HEAD + "#EXT-X-TARGETDURATION:1\n#EXT-X-PLAYLIST-TYPE:VOD\n"


def segments(tmp_path, count=4, size=(WIDTH, HEIGHT)):
    """Return the pieces of one long transport stream, one second each."""
    pieces = []
    for number in range(count):
        path = tmp_path / "piece.ts"
        with av.open(str(path), "w") as output:
            stream = add_pictures(output, size=size)
            times = [number + k / RATE for k in range(RATE)]
            for packet in encoded(stream, times, first=number * RATE):
                output.mux(packet)
        pieces.append(path.read_bytes())
    return pieces


def playlist(names):
    return (LIST + "".join(f"#EXTINF:1.0,\n{n}\n" for n in names) + "#EXT-X-ENDLIST\n").encode()


@pytest.mark.parametrize("missing", [None, 1, 2])
def test_a_segment_that_is_not_there_is_told(tmp_path, serve, missing):
    names = [f"{k}.ts" for k in range(4)]
    files = dict(zip(names, segments(tmp_path), strict=True)) | {"x.m3u8": playlist(names)}
    if missing is not None:
        files[names[missing]] = None
    frames, source = read(f"{serve(files)}/x.m3u8")
    if missing is None:
        assert (len(frames), source.report.complete) == (40, True)
    else:
        assert len(frames) == 30
        assert source.report.missing == 10
        assert not source.report.complete


def test_the_best_variant_of_a_playlist_is_read(tmp_path, serve):
    sizes = {"small": (48, 32), "large": (192, 128), "middle": (96, 64)}
    files, master = {}, HEAD
    for name, size in sizes.items():
        for number, piece in enumerate(segments(tmp_path, 2, size)):
            files[f"{name}{number}.ts"] = piece
        files[f"{name}.m3u8"] = playlist([f"{name}0.ts", f"{name}1.ts"])
        master += f"#EXT-X-STREAM-INF:BANDWIDTH={size[0] * 1000},RESOLUTION={size[0]}x{size[1]}\n"
        master += f"{name}.m3u8\n"
    url = serve(files | {"x.m3u8": master.encode()})
    frames, source = read(f"{url}/x.m3u8")
    assert (source.info.width, len(frames)) == (192, 20)
    frames, source = read(f"{url}/x.m3u8", stream=0)
    assert (source.info.width, len(frames)) == (48, 20)


# ---- times --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "times"),
    [
        ("mkv", [0.0, 3600.0, 7200.0, 7200.1]),
        ("mp4", [0.0, 0.1, 0.2, 900.2, 900.3]),
        ("mov", [0.0, 0.1, 1800.0, 1800.1]),
        ("flv", [0.0, 0.1, 700.0, 700.1]),
    ],
)
def test_a_pause_is_a_pause(tmp_path, serve, suffix, times):
    path = write(tmp_path / f"x.{suffix}", times)
    for place in (path, f"{serve({'x': path.read_bytes()})}/x"):
        frames, source = read(place)
        assert [frame.time for frame in frames] == pytest.approx(times, abs=0.002)
        assert source.report.clock_jumps == 0
        assert source.report.complete, source.report


def test_what_an_edit_list_cuts_off_is_not_missing(tmp_path):
    """A trimmed phone clip: pictures before the start are there only for those behind."""
    with av.open(str(tmp_path / "x.mp4"), "w") as output:
        stream = add_pictures(output)
        for packet in encoded(stream, [k / RATE for k in range(30)]):
            shift = round(Fraction(7, 10) / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            output.mux(packet)
    frames, source = read(tmp_path / "x.mp4")
    assert numbers(frames) == [k % 24 for k in range(7, 30)]
    assert [frame.time for frame in frames] == pytest.approx([k / RATE for k in range(23)])
    assert source.report.complete, source.report


def test_a_stream_that_refreshes_without_keys_recovers(tmp_path):
    """A drone's stream joined in the middle: suspect only until all has been refreshed."""
    refresh = {"x264-params": "intra-refresh=1:keyint=12:bframes=0"}
    path = write(tmp_path / "x.ts", [k / RATE for k in range(60)], **refresh)
    data = path.read_bytes()
    path.write_bytes(data[len(data) * 3 // 10 // 188 * 188 :])
    frames, source = read(path)
    assert len(frames) > 20
    assert not any(frame.suspect for frame in frames[-10:])
    assert source.report.suspect < 30


# ---- what is refused, and how -------------------------------------------------------------------


def unknown_codec(path):
    write(path)
    data = path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_NOBODY/KNOWS!")
    path.write_bytes(data)
    return path


def test_an_unknown_codec_is_one_sentence(tmp_path, serve):
    path = unknown_codec(tmp_path / "x.mkv")
    for place in (path, f"{serve({'x': path.read_bytes()})}/x"):
        with pytest.raises(SourceError, match="the codec or the size of its pictures is unknown"):
            list(open_source(place))


def test_an_index_at_the_end_of_a_pipe_is_one_sentence_with_the_remedy(tmp_path):
    path = write(tmp_path / "x.mp4", [k / RATE for k in range(20)], codec="mjpeg", size=(1280, 720))
    assert path.stat().st_size > 300_000  # more than is looked at before the index must be known
    said = through_pipe(path)
    assert "a pipe cannot be read: name the file itself, or rewrite it with `ffmpeg" in said


def test_an_unfinished_recording_is_said_to_be_one(tmp_path):
    path = write(tmp_path / "x.mp4", [k / RATE for k in range(100)])
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(SourceError, match="its index, moov, is missing: the recording was not"):
        open_source(path)


def test_a_pipe_with_a_name_is_told_how_it_is_read(tmp_path):
    os.mkfifo(tmp_path / "x.mkv")
    with pytest.raises(SourceError, match=r"a pipe is read by `cat .*x.mkv \| tracker run -`"):
        open_source(tmp_path / "x.mkv")


@pytest.mark.parametrize("suffix", ["mkv", "avi", "mov"])
def test_pictures_of_a_video_may_carry_exif(tmp_path, suffix):
    """Side data that PyAV has no name for is no reason to stop."""
    path = tmp_path / f"x.{suffix}"
    exif = Image.Exif()
    exif[0x10F] = "Maker"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        for number in range(5):
            picture = BytesIO()
            Image.fromarray(grey(number)).save(picture, "JPEG", exif=exif)
            packet = av.Packet(picture.getvalue())
            packet.pts = packet.dts = number
            packet.time_base, packet.is_keyframe, packet.stream = Fraction(1, RATE), True, stream
            output.mux(packet)
    frames, source = read(path)
    assert numbers(frames) == list(range(5))
    assert source.report.complete, source.report


# ---- colours and formats ------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "is_hd"), [((1280, 720), True), ((640, 480), False)])
def test_untagged_colours_are_taken_as_players_take_them(tmp_path, size, is_hd):
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as output:
        stream = add_pictures(output, size=size, qp="0")
        frame = av.VideoFrame(*size, "yuv420p")
        for plane, value in zip(frame.planes, (81, 90, 240), strict=True):  # red in BT.601
            plane.update(bytes([value]) * plane.buffer_size)
        frame.pts, frame.time_base = 0, Fraction(1, 1000)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    [[frame], _] = read(path)
    red, green, blue = frame.image[100, 100]
    assert (green > 20) == is_hd  # by BT.709 the same code is another red
    assert red > 240
    assert blue < 20


@pytest.mark.parametrize(
    ("kind", "codec", "options"),
    [
        ("gxf", "mpeg2video", {"size": (720, 576), "rate": 25}),
        ("rm", "rv20", {"size": (176, 144)}),
        ("nut", "mpeg4", {}),
        ("ivf", "libvpx", {}),
        ("mxf", "mpeg2video", {"rate": 25}),
        ("yuv4mpegpipe", "wrapped_avframe", {}),
        ("mpeg", "mpeg2video", {"rate": 25}),
        ("h264", "libx264", {}),
        ("m4v", "mpeg4", {}),
    ],
)
def test_rare_containers_are_read(tmp_path, kind, codec, options):
    path = tmp_path / f"x.{kind}"
    rate = options.get("rate", RATE)
    write(path, [k / rate for k in range(12)], kind=kind, codec=codec, **options)
    frames, source = read(path)
    assert len(frames) == 12
    assert source.report.suspect == 0


def dahua(path, packets):
    """Write H.264 as the recorders of one maker do (DHAV)."""
    with path.open("wb") as file:
        for number, packet in enumerate(packets):
            body, is_key = bytes(packet), packet.is_keyframe
            extension = (
                b"\x80\x00" + bytes([WIDTH // 8, HEIGHT // 8]) + b"\x81\x00\x02" + bytes([RATE])
            )
            length = 24 + len(extension) + len(body) + 8
            head = struct.pack(
                "<4sBBBBIIIHBB",
                b"DHAV",
                0xFD if is_key else 0xFC,
                0,
                1,
                0,
                number,
                length,
                0x64C9_5000 + number // RATE,
                number * 1000 // RATE % 65536,
                len(extension),
                0,
            )
            file.write(head + extension + body + b"dhav" + struct.pack("<I", length))
    return path


def test_recordings_of_dahua_are_read(tmp_path):
    write(tmp_path / "x.h264", [k / RATE for k in range(20)], kind="h264")
    with av.open(str(tmp_path / "x.h264")) as given:
        packets = [packet for packet in given.demux(video=0) if packet.size]
    frames, _ = read(dahua(tmp_path / "x.dav", packets))
    assert numbers(frames)[:18] == list(range(18))


def test_raw_pictures_come_through_a_pipe(tmp_path):
    path = write(tmp_path / "x.y4m", kind="yuv4mpegpipe", codec="wrapped_avframe")
    frames, width, height, *_ = eval(through_pipe(path))
    assert (len(frames), width, height) == (30, WIDTH, HEIGHT)


# ---- what is odd, though nothing is lost --------------------------------------------------------


@pytest.mark.parametrize(("codec", "kind"), [("libx264", "h264"), ("libx265", "hevc")])
def test_raw_pictures_have_the_rate_that_they_tell(tmp_path, codec, kind):
    """A recording of a Raspberry Pi: 25 frames/s would be FFmpeg's guess."""
    path = tmp_path / f"x.{kind}"
    with av.open(str(path), "w", format=kind) as output:
        stream = output.add_stream(codec, rate=RATE, options={"x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(grey(number), format="rgb24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    frames, source = read(path)
    assert [frame.time for frame in frames] == pytest.approx([k / RATE for k in range(20)])
    assert source.info.rate == RATE
    frames, _ = read(path, fps=5.0)
    assert frames[-1].time == pytest.approx(19 / 5)


def test_a_rate_that_is_only_assumed_is_said_to_be(tmp_path):
    path = write(tmp_path / "x.mjpeg", kind="mjpeg", codec="mjpeg")
    frames, source = read(path)
    assert frames[-1].time == pytest.approx(29 / 25)
    assert source.info.remarks[0].startswith("the file tells no times: 25 frames/s are assumed")
    assert source.report.complete
    frames, _ = read(path, fps=10.0)
    assert frames[-1].time == pytest.approx(2.9)


def test_hdr_and_interlaced_pictures_are_said_to_be(tmp_path):
    tags = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:log-level=none"
    path = write(tmp_path / "hdr.mp4", codec="libx265", **{"x265-params": tags})
    assert "HDR (PQ)" in open_source(path).info.remarks[0]
    path = write(tmp_path / "fields.mp4", **{"x264-params": "interlaced=1:tff=1"})
    assert "interlaced" in open_source(path).info.remarks[0]
    assert open_source(write(tmp_path / "plain.mp4")).info.remarks == ()


def test_pictures_of_many_bits_that_use_few_are_said_to_be_dark(tmp_path):
    dark = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (48, 1))
    for number in range(2):
        Image.fromarray(dark).save(tmp_path / f"{number}.png")
    _, source = read(tmp_path)
    assert source.info.remarks == (
        "pictures of 16 bits that use only 0 to 16 of 255 are nearly black: stretch them first",
    )
    assert source.report.complete


def test_remarks_are_in_the_report(tracker, tmp_path, monkeypatch):
    write(tmp_path / "x.mjpeg", kind="mjpeg", codec="mjpeg")
    monkeypatch.setattr("tracker.cli.run.load_detector", lambda _: BlankDetector())
    code, out, _ = tracker("run", "x.mjpeg", "-o", "out", "--strict")
    assert code == 0
    assert "input: the file tells no times" in out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["input"]["remarks"][0].startswith("the file tells no times")
    assert report["input"]["complete"]


def test_pictures_that_are_too_wide_for_a_video_are_scaled(tmp_path):
    writer = VideoWriter(tmp_path / "out.mp4", 17_000, 100)
    for number in range(2):
        writer.write(np.full((100, 17_000, 3), 100, np.uint8), number / 10)
    writer.close()
    assert writer.notes == ["out.mp4: scaled to 16384 x 96 px: H.264 holds no larger pictures"]
    source = open_source(tmp_path / "out.mp4", SourceConfig())
    assert (source.info.width, source.info.height, len(list(source))) == (16_384, 96, 2)
