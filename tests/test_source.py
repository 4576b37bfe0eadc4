import struct
import subprocess
import sys
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import av
import corpus
import cv2
import numpy as np
import pytest
import stubbed
from archived import through_json

from tracker.config import SourceConfig, load_config
from tracker.errors import SourceError
from tracker.runs.run import run_to_folder
from tracker.video.file import VideoFile
from tracker.video.listing import natural_key
from tracker.video.picture import checksum
from tracker.video.source import open_source
from tracker.video.writer import VideoWriter


def read(uri, **settings):
    source = open_source(uri, SourceConfig(**settings))
    return source, list(source)


# ---- times and pictures ---------------------------------------------------------------------


def test_every_frame_at_its_own_time(make_video, grey):
    source, frames = read(make_video(frames=20, fps=10))
    assert [f.index for f in frames] == list(range(20))
    assert grey(frames) == list(range(20))
    assert [f.time for f in frames] == pytest.approx([k / 10 for k in range(20)], abs=1e-4)
    assert (source.info.width, source.info.height, source.info.rate) == (96, 64, 10)
    assert source.report.complete
    assert source.report.frames == source.report.packets == 20
    assert not source.info.live


def test_variable_frame_rate_is_kept(make_video):
    times = [0, 0.04, 0.1, 0.13, 0.5, 0.51, 1.0, 1.7]
    _, frames = read(make_video(times=times))
    assert [f.time for f in frames] == pytest.approx(times, abs=1e-4)


def test_times_count_from_the_first_frame(make_video):
    _, frames = read(make_video(name="late.ts", times=[5.0, 5.1, 5.2]))
    assert [f.time for f in frames] == pytest.approx([0, 0.1, 0.2], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("odd.mkv", dict(width=97, height=65, codec="ffv1", pix_fmt="yuv444p")),
        ("ten_bit.mp4", dict(pix_fmt="yuv420p10le")),
        (
            "interlaced.ts",
            dict(fps=25, codec="mpeg2video", options={"flags": "+ilme+ildct", "top": "1"}),
        ),
    ],
)
def test_unusual_pictures(make_video, grey, name, kind):
    source, frames = read(make_video(name=name, **kind))
    assert grey(frames) == list(range(20))
    assert frames[0].image.shape == (kind.get("height", 64), kind.get("width", 96), 3)
    assert source.info.width == frames[0].width


QUARTER = [(90, (0, 1, -1, 0)), (180, (-1, 0, 0, -1)), (270, (0, -1, 1, 0))]
MIRROR = [((-1, 0, 0, 1), np.fliplr), ((1, 0, 0, -1), np.flipud)]


def with_matrix(path, stored, matrix):
    """Write a video of one picture, five times, with this display matrix."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.height, stream.width = stored.shape[:2]
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        output.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix lies 40 bytes into the box
    a, b, c, d = (v << 16 for v in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def corner_picture():
    """A white corner, top left, as a person would see it."""
    upright = np.zeros((64, 96, 3), np.uint8)
    upright[:20, :30] = 255
    return upright


def check_upright(path):
    source, frames = read(path)
    assert (source.info.width, source.info.height) == (96, 64)
    assert frames[0].image.shape == (64, 96, 3)
    assert frames[0].image[5, 5].min() > 200
    for y, x in ((50, 80), (5, 90), (60, 5)):
        assert frames[0].image[y, x].max() < 50
    return source


@pytest.mark.parametrize(("degrees", "matrix"), QUARTER)
def test_the_display_matrix_is_applied(tmp_path, degrees, matrix):
    stored = np.ascontiguousarray(np.rot90(corner_picture(), degrees // 90))
    source = check_upright(with_matrix(tmp_path / "phone.mp4", stored, matrix))
    assert source.report.rotation == degrees


@pytest.mark.parametrize(("matrix", "flip"), MIRROR)
def test_a_mirrored_picture_is_mirrored_back(tmp_path, matrix, flip):
    stored = np.ascontiguousarray(flip(corner_picture()))
    check_upright(with_matrix(tmp_path / "selfie.mp4", stored, matrix))


def test_frames_are_read_only(make_video):
    _, frames = read(make_video(frames=1))
    with pytest.raises(ValueError, match="read-only"):
        frames[0].image[0, 0] = 1


# ---- which part -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (dict(start=0.5), list(range(5, 20))),
        (dict(start="5f"), list(range(5, 20))),
        (dict(start="0:00.5", end="0:01"), list(range(5, 10))),
        (dict(end=0.3), [0, 1, 2]),
        (dict(end="3f"), [0, 1, 2]),
        (dict(stride=6), [0, 6, 12, 18]),
        (dict(start="3f", stride=6), [3, 9, 15]),
        (dict(stride="0.5s"), [0, 5, 10, 15]),
        (dict(start=1, end=1.5, stride=2), [10, 12, 14]),
    ],
)
def test_start_end_stride(make_video, grey, settings, expected):
    source, frames = read(make_video(frames=20, fps=10), **settings)
    assert [f.index for f in frames] == grey(frames) == expected
    assert source.report.complete


def test_a_stride_in_seconds_keeps_to_its_grid_at_uneven_times(make_video):
    times = [0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1]
    _, frames = read(make_video(times=times), stride="0.5s")
    assert [round(f.time, 1) for f in frames] == [0, 0.6, 1.2, 1.5, 2.1]


def test_an_empty_part_is_an_error(make_video):
    with pytest.raises(SourceError, match="no frame lies between"):
        read(make_video(frames=5), start=100)


# ---- damage ---------------------------------------------------------------------------------


def test_damage_in_the_middle_is_survived_and_reported(make_video):
    path = make_video(name="damaged.ts", frames=60, width=320, height=240, texture=30)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 188 * 188
    data[middle : middle + 4 * 188] = bytes(4 * 188)
    path.write_bytes(data)
    source, frames = read(path)
    assert len(frames) >= 45
    assert not source.report.complete
    assert frames[-1].index == len(frames) - 1
    assert not frames[-1].suspect


def test_a_cut_file_gives_what_it_has_and_says_so(make_video):
    path = make_video(name="cut.mkv", frames=60, width=320, height=240, texture=30)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    source, frames = read(path)
    assert 0 < len(frames) < 60
    assert source.report.notes
    assert not source.report.complete


@pytest.fixture(scope="module")
def odd_files(tmp_path_factory):
    """The corpus and what is true of it."""
    folder = tmp_path_factory.mktemp("corpus")
    return folder, corpus.make(folder)


def test_the_corpus(odd_files):
    folder, cases = odd_files
    wrong = {name: _check_case(folder / name, case) for name, case in cases.items()}
    assert not {name: reason for name, reason in wrong.items() if reason}
    assert len(cases) == 56


def _check_case(path, case):
    """Return what is wrong about how one file of the corpus was read, or nothing."""
    refuse = case.kind in ("reject", "hostile")
    try:
        source = open_source(path)
        frames = list(source)
    except SourceError as exc:
        return "" if refuse else f"refused: {exc}"
    if refuse:
        return "was read"
    report = source.report
    codes = [corpus.code_of(np.rot90(f.image, report.rotation // 90)[..., 0]) for f in frames]
    if any(b.time < a.time for a, b in pairwise(frames)):
        return "times run backwards"
    if report.rotation != case.rotation:
        return f"rotation {report.rotation}"
    if case.kind == "ok":
        if codes != list(case.codes):
            return f"pictures {codes}"
        if not report.complete:
            return f"reported as incomplete: {report}"
        if bool(report.clock_jumps) != case.jumps:
            return f"{report.clock_jumps} clock jumps"
        times = case.times if path.suffix != ".avi" else None
        error = max(abs(f.time - t) for f, t in zip(frames, times, strict=True)) if times else 0.0
        return f"times wrong by {error} s" if error > 0.003 else ""
    if lost := set(case.intact) - set(codes):
        return f"lost {lost}"
    place = dict(enumerate(case.codes)) if len(frames) == len(case.codes) else {}
    for k, frame in enumerate(frames):
        right = codes[k] == place[k] if place else codes[k] in case.codes
        if not (right or frame.suspect):
            return f"a wrong picture that is not suspect: {k}"
    return "" if not report.complete or case.unknowable else "reported as complete"


# ---- what is no video -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("missing.mp4", None, "No such file"),
        ("empty.mp4", b"", "empty"),
        ("text.mp4", b"hello, this is no video\n" * 40, "not a video"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "not a video"),
    ],
)
def test_no_video_gets_one_sentence(tmp_path, name, content, sentence):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=sentence) as error:
        open_source(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_song_is_no_video(make_video, tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as output:
        from conftest import _write_tone

        _write_tone(output, output.add_stream("aac", rate=44_100, layout="mono"), 0.5)
    with pytest.raises(SourceError, match="only sound"):
        open_source(path)


def test_a_picture_that_is_too_large_is_refused(make_video):
    with pytest.raises(SourceError, match=r"96 x 64 px are larger than source.max_pixels"):
        open_source(make_video(frames=2), SourceConfig(max_pixels=1000))


# ---- images ---------------------------------------------------------------------------------


def write_images(folder, names, size=(32, 48)):
    folder.mkdir(exist_ok=True)
    for k, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((*size, 3), 40 + 8 * k, np.uint8))
    return folder


def test_a_folder_in_natural_order(tmp_path, grey):
    names = ["frame1.png", "frame2.png", "frame10.png", "frame11.png"]
    folder = write_images(tmp_path / "images", names)
    (folder / "notes.txt").write_text("not a picture")
    source, frames = read(folder, fps=4)
    assert grey(frames) == [0, 1, 2, 3]
    assert [f.time for f in frames] == [0, 0.25, 0.5, 0.75]
    assert source.info.frame_count == 4
    _, frames = read(f"{folder}/frame1*.png")
    assert grey(frames) == [0, 2, 3]
    _, frames = read(folder / "frame2.png")
    assert grey(frames) == [1]


def test_a_broken_image_is_skipped_and_reported(tmp_path, grey):
    folder = write_images(tmp_path / "images", ["a1.png", "a2.png", "a3.png"])
    (folder / "a2.png").write_bytes(b"broken")
    source, frames = read(folder)
    assert [f.index for f in frames] == [0, 2]
    assert source.report.bad_packets == 1
    assert source.report.notes == ["a2.png cannot be read"]


def test_a_folder_without_images(tmp_path):
    with pytest.raises(SourceError, match="the folder holds no images"):
        open_source(tmp_path)
    with pytest.raises(SourceError, match="matches no image"):
        open_source(str(tmp_path / "*.jpg"))


def test_natural_order():
    names = ["b1", "a10", "a9", "A2", "a"]
    assert sorted(names, key=natural_key) == ["a", "A2", "a9", "a10", "b1"]


# ---- standard input, cameras, URLs ----------------------------------------------------------


def test_standard_input(make_video):
    script = "from tracker.video.source import open_source\nprint(len(list(open_source('-'))))\n"
    with make_video(name="pipe.mkv", frames=12).open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", script], stdin=file, capture_output=True, text=True, check=False
        )
    assert done.stdout.strip() == "12", done.stderr


@pytest.fixture
def serve(make_video):
    """Serve a transport stream without a length, as a camera's server does."""
    data = make_video(name="live.ts", frames=30).read_bytes()
    servers = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.headers.get("Authorization") is None and "private" in self.path:
                self.send_error(401)
                return
            files = self.server.files
            content = files.get(self.path) if files else data
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            if files:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    def start(files=None):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.files = files
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_address[1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_stream_gives_frames_and_its_end_is_a_fault(serve, grey):
    source = open_source(f"http://127.0.0.1:{serve()}/live.ts")
    assert source.info.live
    frames = []
    with pytest.raises(SourceError, match=r"the stream ended|the connection broke"):
        for frame in source:
            frames.append(frame)
    assert grey(frames) == [k % 24 for k in range(30)]
    assert [f.time for f in frames] == pytest.approx([k / 10 for k in range(30)], abs=1e-3)


@pytest.mark.parametrize("missing", [False, True])
def test_a_url_that_gives_less_than_it_declares_says_so(make_video, serve, missing):
    """A playlist of two pieces of two seconds, of which one may be missing."""
    piece = make_video(name="piece.ts", frames=20).read_bytes()
    entry = "#EXTINF:2.0,\n{}.ts\n"
    head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-PLAYLIST-TYPE:VOD\n"
    both = entry.format("a") + "#EXT-X-DISCONTINUITY\n" + entry.format("none" if missing else "b")
    playlist = f"{head}{both}#EXT-X-ENDLIST\n".encode()
    port = serve({"/x.m3u8": playlist, "/a.ts": piece, "/b.ts": piece})
    source, frames = read(f"http://127.0.0.1:{port}/x.m3u8")
    assert (len(frames), source.info.live) == ((20, False) if missing else (40, False))
    assert source.report.notes == (["the video ends at 2.0 s of 4.0 s"] if missing else [])


@pytest.mark.parametrize("password", ["hunter2", "hun@ter2", "hunter2@"])
def test_a_password_is_in_no_file_of_a_run(serve, tmp_path, caplog, capsys, password):
    """A camera whose stream breaks off: what came is kept, and nobody learns the password."""
    url = f"http://operator:{password}@127.0.0.1:{serve()}/live.ts?token=hunter2"
    with pytest.raises(SourceError) as error:
        run_to_folder(
            url, load_config(None, []), tmp_path / "run", get_detector=stubbed.BlankDetector
        )
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"tracks.jsonl", "report.json", "run.toml", "counts.json", "video.mp4"} <= names
    for path in (tmp_path / "run").iterdir():
        assert b"hun" not in path.read_bytes(), path
    out, err = capsys.readouterr()
    chain = "".join(traceback.format_exception(error.value))
    for text in (out, err, caplog.text, str(error.value), repr(error.value.__cause__)):
        assert "hun" not in text
    assert "hunter2" not in chain.replace(f"{url!r}", "")


@pytest.mark.parametrize("password", ["secret", "se@cr/et", "s#e?cret"])
def test_a_password_never_appears(serve, password):
    url = f"http://operator:{password}@127.0.0.1:{serve()}/private.ts"
    with pytest.raises(SourceError) as error:
        open_source(url, SourceConfig(open_timeout_s=2, read_timeout_s=2))
    text = str(error.value)
    assert error.value.__context__ is None  # which would have the address
    assert "cannot be opened" in text
    assert "***@" in text
    for part in (password, "operator", "cret"):
        assert part not in text


def test_nobody_answers():
    with pytest.raises(SourceError, match="connection refused"):
        open_source("rtsp://127.0.0.1:9/stream")


def test_a_missing_camera():
    with pytest.raises(SourceError, match=r"^97: cannot be opened"):
        open_source("97")


def test_an_unknown_scheme():
    with pytest.raises(SourceError, match="URLs may start with rtsp"):
        open_source("gopher://127.0.0.1/x")


def test_a_cut_jpeg_is_suspect_and_a_bad_first_image_is_skipped(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "0.jpg").write_bytes(b"junk")
    for k in (1, 2):
        noise = np.random.default_rng(k).integers(0, 255, (64, 96, 3), np.uint8)
        cv2.imwrite(str(folder / f"{k}.jpg"), noise)
    whole = (folder / "2.jpg").read_bytes()
    (folder / "2.jpg").write_bytes(whole[: len(whole) // 2])
    source, frames = read(folder)
    assert [(f.index, f.suspect) for f in frames] == [(1, False), (2, True)]
    assert source.report.suspect == 1
    assert not source.report.complete
    for path in folder.iterdir():
        path.write_bytes(b"junk")
    with pytest.raises(SourceError, match="none of 3 images can be read"):
        open_source(folder)


def test_a_glob_over_folders_keeps_them_apart(tmp_path, grey):
    write_images(tmp_path / "a10", ["1.png"])
    write_images(tmp_path / "a2", ["1.png", "2.png"])
    _, frames = read(str(tmp_path / "*" / "*.png"))
    assert grey(frames) == [0, 1, 0]


def test_two_pictures_in_the_wrong_order_do_not_stretch_the_rest():
    from fractions import Fraction

    from tracker.types import SourceReport
    from tracker.video.picture import Clock

    report = SourceReport()
    clock = Clock(Fraction(10), report)
    times = [clock.tell(t) for t in (5.0, 5.1, 5.2, 5.19, 5.3, 5.4)]
    assert times == pytest.approx([0, 0.1, 0.2, 0.2, 0.3, 0.4])
    assert report.clock_jumps == 0
    assert clock.tell(2.0) == pytest.approx(0.5)  # another clock
    assert report.clock_jumps == 1


def test_the_part_says_how_many_frames_it_will_have(make_video):
    video = make_video(frames=20, fps=10)
    for settings, count in (
        (dict(), 20),
        (dict(start=0.5, end="15f"), 10),
        (dict(stride="0.5s"), 4),
        (dict(start="5f", stride=2), 8),
    ):
        source, frames = read(video, **settings)
        assert source.info.frame_count == len(frames) == count


def test_a_very_long_name(tmp_path):
    with pytest.raises(SourceError, match="File name too long"):
        open_source(tmp_path / ("x" * 300 + ".mp4"))


# ---- going on -------------------------------------------------------------------------------


def everything(source):
    """Read a source to its end: what each frame is, with its mark, and the report."""
    frames = []
    for frame in source:
        mark = through_json(source.mark())
        assert mark.picture == checksum(frame.image)
        frames.append(((frame.index, frame.time, frame.suspect, mark.picture), mark))
    source.close()
    return frames, source.report


def what(item):
    (index, time, suspect, picture), _ = item
    return index, time, suspect, None if suspect else picture


def check_going_on(uri, config=None):
    frames, report = everything(open_source(uri, config))
    for k in {0, len(frames) // 3, len(frames) // 2, len(frames) - 2} & set(range(len(frames) - 1)):
        mark = frames[k][1]
        if mark.suspect:  # how a damaged picture is mended depends on what memory held before
            mark = mark.model_copy(update={"picture": None})
        rest, same = everything(open_source(uri, config, mark))
        assert [what(frame) for frame in rest] == [what(f) for f in frames[k + 1 :]], (uri, k)
        if not report.complete:  # what is odd about a damaged file may lie before the place sought
            same.notes = report.notes
        assert same == report, (uri, k)
    return len(frames)


@pytest.mark.parametrize(
    "settings",
    [{}, {"stride": 3}, {"stride": "0.35s"}, {"start": "5f", "end": 1.6}],
    ids=lambda s: " ".join(f"{k}={v}" for k, v in s.items()),
)
def test_a_source_goes_on_where_it_was(make_video, settings):
    assert check_going_on(make_video(texture=20), SourceConfig(**settings)) > 2


def test_every_readable_file_of_the_corpus_goes_on(odd_files):
    folder, cases = odd_files
    good = [name for name, case in cases.items() if case.kind in ("ok", "partial")]
    assert len(good) > 35
    for name in good:
        assert check_going_on(folder / name) > 0


def test_a_folder_of_images_goes_on(tmp_path):
    write_images(tmp_path, [f"{k}.png" for k in range(9)])
    (tmp_path / "3.png").write_bytes(b"no picture")
    assert check_going_on(tmp_path) == 8


@pytest.mark.parametrize("moving", [False, True])
def test_pictures_of_one_time_go_on(tmp_path, moving):
    """Every time twice, as some recorders write: of what looks the same one is not the other."""
    path = tmp_path / "twins.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuvj420p"
        for k in range(40):
            image = np.full((72, 96, 3), 40 + 4 * k if moving else 60, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuvj420p")
            frame.pts = k
            for packet in stream.encode(frame):
                packet.pts = packet.dts = k // 2
                output.mux(packet)
    frames, _ = everything(open_source(path))
    assert len(frames) == 40
    for k in (10, 11, 20, 21, 37):
        rest, _ = everything(open_source(path, None, frames[k][1]))
        assert [what(frame) for frame in rest] == [what(frame) for frame in frames[k + 1 :]], k


def test_another_video_is_refused(make_video):
    one, other = make_video("one.mp4"), make_video("other.mp4", texture=30)
    frames, _ = everything(open_source(one))
    with pytest.raises(SourceError, match="frame 7 is another"):
        list(open_source(other, None, frames[7][1]))


def test_seeking_reads_little(make_video, monkeypatch):
    path = make_video(frames=200, texture=20)
    frames, _ = everything(open_source(path))
    source = open_source(path, None, frames[150][1])
    read = []
    decode = VideoFile.decode
    monkeypatch.setattr(
        VideoFile, "decode", lambda self, by=None: (read.append(p) or p for p in decode(self, by))
    )
    assert next(iter(source)).index == 151
    assert len(read) < 30  # from the key frame before, and not from the beginning


def test_a_recording_that_repeats_itself_goes_on_at_its_own_place(make_video, tmp_path):
    """Twice the same transport stream: every time and every picture comes again."""
    once = make_video("once.ts", frames=40)
    path = tmp_path / "twice.ts"
    path.write_bytes(once.read_bytes() * 2)
    frames, _ = everything(open_source(path))
    assert len(frames) > 70
    for k in (50, 60):
        rest, _ = everything(open_source(path, None, frames[k][1]))
        assert [what(frame) for frame in rest] == [what(frame) for frame in frames[k + 1 :]], k


def test_the_sound_of_an_address_is_kept(make_video, serve, tmp_path):
    """It is opened a second time, by its address as the pictures were."""
    path = make_video("tone.mp4", frames=20, audio="aac")
    port = serve({"/tone.mp4": path.read_bytes()})
    frames = {}
    for place in (str(path), f"http://127.0.0.1:{port}/tone.mp4"):
        source = open_source(place)
        writer = VideoWriter(tmp_path / "out.mp4", 96, 64, audio=source.info.audio)
        for frame in source:
            writer.write(frame.image, frame.time)
        writer.close()
        assert writer.notes == []
        with av.open(str(tmp_path / "out.mp4")) as made:
            frames[place] = sum(frame.samples for frame in made.decode(audio=0))
    assert len(set(frames.values())) == 1
    assert min(frames.values()) > 40_000
