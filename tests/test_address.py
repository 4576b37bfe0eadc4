"""Where a video lies, and passwords: as hard as they come, and seen by nobody."""

import base64
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import ROOT

from tracker.errors import SourceError
from tracker.video.address import advice, on_disk, to_address

PASSWORD = "w/p@s#s?o%rd:x"
ENVIRONMENT = {"CAM": PASSWORD}
WRITTEN = quote(PASSWORD, safe="")


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("street.mp4", "street.mp4"),
        ("frames/*.jpg", "frames/*.jpg"),
        ("file:///videos/a%20b.mp4", "/videos/a b.mp4"),
        ("FILE://localhost/videos/a.mp4", "/videos/a.mp4"),
        ("-", None),
        ("0", None),
        ("/dev/video2", None),
        ("rtsp://camera/1", None),
    ],
)
def test_what_lies_on_the_disk(uri, place):
    assert on_disk(uri) == place


def test_a_name_with_a_percent_sign(tmp_path):
    (tmp_path / "50%20.mp4").touch()
    assert on_disk(f"file://{tmp_path}/50%20.mp4") == str(tmp_path / "50%20.mp4")


def test_a_file_of_another_machine():
    with pytest.raises(SourceError, match="lies on another machine"):
        on_disk("file://server/share/a.mp4")


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("rtsp://camera/1", "rtsp://camera/1"),
        ("rtsp://me:secret@camera:554/1", "rtsp://me:secret@camera:554/1"),
        ("rtsp://me:a@b@camera/1", "rtsp://me:a%40b@camera/1"),
        ("rtsp://me:a/b?c#d@camera/1", "rtsp://me:a%2Fb%3Fc%23d@camera/1"),
        ("rtsp://me:a%2Fb@camera/1", "rtsp://me:a%2Fb@camera/1"),
        ("rtsp://me:100%@camera/1", "rtsp://me:100%25@camera/1"),
        ("rtsp://me:${CAM}@camera/1", f"rtsp://me:{WRITTEN}@camera/1"),
        ("rtsp://${CAM}:x${CAM}y@camera/1", f"rtsp://{WRITTEN}:x{WRITTEN}y@camera/1"),
        ("rtsp://me:secret@[fe80::1]:554/1", "rtsp://me:secret@[fe80::1]:554/1"),
        ("http://camera/@me/${CAM}", "http://camera/@me/${CAM}"),
        ("udp://@239.0.0.1:1234", "udp://@239.0.0.1:1234"),
        ("udp://@:1234", "udp://@:1234"),
    ],
)
def test_as_ffmpeg_takes_it(uri, address):
    assert to_address(uri, ENVIRONMENT) == address


def test_a_variable_that_is_not_there():
    with pytest.raises(SourceError, match=r"\*\*\*@camera/1: the environment has no variable NONE"):
        to_address("rtsp://me:${NONE}@camera/1", ENVIRONMENT)


@pytest.mark.parametrize(
    ("uri", "ambiguous"),
    [("rtsp://me:12/3@camera/1", True), ("rtsp://me:secret@camera/1", False), ("0", False)],
)
def test_advice(uri, ambiguous):
    assert ("%2F %3F %23 %40" in advice(uri)) is ambiguous


@pytest.fixture
def camera(make_video):
    """Serve a video, slowly, to who knows the password; yield the port and who came in."""
    data, came_in = make_video(name="live.mp4", frames=40).read_bytes(), []
    expected = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.headers.get("Authorization") != expected:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            came_in.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            time.sleep(1.0)
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], came_in
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("password", [PASSWORD, WRITTEN, "${CAM}"], ids=["raw", "%XX", "variable"])
def test_a_stream_that_works_tells_nobody_its_password(camera, tmp_path, password):
    """No file of the run, no line on a screen, and not the list of processes."""
    port, came_in = camera
    url = f"http://me:{password}@127.0.0.1:{port}/live.mp4"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "demos"), str(ROOT / "tests")])
    start = (
        "import sys, tracker.__main__, tracker.cli, stubbed; "
        "sys.modules['tracker.cli.run'].load_detector = lambda _: stubbed.BlankDetector(); "
        "sys.argv[0] = 'tracker'; tracker.__main__.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", start, "run", url, "-o", tmp_path / "run"],
        env=os.environ | {"PYTHONPATH": paths, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    listed = Path(f"/proc/{process.pid}/cmdline")
    began, shown = time.monotonic(), ""
    while not came_in and process.poll() is None and time.monotonic() - began < 60:
        time.sleep(0.02)
    if listed.exists():
        shown = listed.read_text()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert came_in
    assert "http://***@127.0.0.1" in err
    if sys.platform == "linux":
        assert shown.startswith(f"tracker run http://***@127.0.0.1:{port}/live.mp4 -o")
    files = [path.read_text(errors="replace") for path in (tmp_path / "run").iterdir()]
    assert len(files) >= 6
    for text in (out, err, shown, *files):
        assert not any(
            part in text for part in (PASSWORD, WRITTEN, "p@s", "o%rd", "p%40s", "o%25rd")
        )
