"""The annotated video in a real browser: it plays to its end, and shows each frame at its time."""

import json
import queue
import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest
from test_resume import blank, lines_in, phone_clip, start, uneven, wait_for

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
PAGE = """<!doctype html><video src="/video.mp4" muted></video><script>
const video = document.querySelector("video"), times = TIMES;
const canvas = new OffscreenCanvas(1, 1), pen = canvas.getContext("2d");
const event = name => new Promise(done => video.addEventListener(name, done, {once: true}));
const look = () => {
  const w = video.videoWidth, h = video.videoHeight;
  pen.drawImage(video, w / 4, h / 2, w / 2, h / 4, 0, 0, 1, 1);
  return pen.getImageData(0, 0, 1, 1).data[1];
};
(async () => {
  const said = {shown: [], seen: []};
  video.addEventListener("error", () => {
    fetch("/said", {method: "POST", body: JSON.stringify({error: video.error.message})});
  });
  const next = (_, frame) => {
    said.shown.push(frame.mediaTime);
    video.requestVideoFrameCallback(next);
  };
  video.requestVideoFrameCallback(next);
  const ended = event("ended");
  await video.play();
  await ended;
  said.size = [video.videoWidth, video.videoHeight];
  said.duration = video.duration;
  said.sound = video.webkitAudioDecodedByteCount;
  const shown = said.shown;
  said.shown = [];
  for (const time of times) {
    const sought = event("seeked");
    video.currentTime = time;
    await sought;
    said.seen.push(look());
  }
  await fetch("/said", {method: "POST", body: JSON.stringify({...said, shown})});
})();
</script>"""


@pytest.fixture
def play(tmp_path):
    """Return what plays a video in a browser, then looks at some moments, and tells."""
    if BROWSER is None:
        pytest.skip("there is no Chromium here (apt install chromium)")

    def in_browser(video, times):
        data, said = video.read_bytes(), queue.Queue()
        page = PAGE.replace("TIMES", json.dumps(times)).encode()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                content, kind = (page, "text/html") if self.path == "/" else (data, "video/mp4")
                asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
                first = int(asked[1]) if asked else 0
                last = min(int(asked[2]) if asked and asked[2] else len(content), len(content) - 1)
                self.send_response(206 if asked else 200)
                self.send_header("Content-Type", kind)
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(last + 1 - first))
                if asked:
                    self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
                self.end_headers()
                self.wfile.write(content[first : last + 1])

            def do_POST(self):
                said.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        process = subprocess.Popen(
            [BROWSER, *options, profile, f"http://127.0.0.1:{server.server_address[1]}/"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return said.get(timeout=60)
        finally:
            process.terminate()
            process.wait(timeout=10)
            server.shutdown()
            server.server_close()

    return in_browser


def levels(numbers):
    """Return how bright the frames of `make_video` are."""
    return [40 + 8 * (number % 24) for number in numbers]


def test_a_resumed_video_plays(make_video, tmp_path, play):
    """A phone's clip: sound, uneven times, turned; broken off twice."""
    video, run = phone_clip(make_video), tmp_path / "run"
    for until in (35, 70, None):
        blank(video, run, until)
    times = uneven()
    moments = [(a + b) / 2 for a, b in pairwise(times)]
    said = play(run / "video.mp4", moments)
    assert "error" not in said
    assert said["size"] == [64, 96]
    assert said["duration"] == pytest.approx(times[-1] + 1 / 30, abs=0.05)
    assert said["sound"] > 1000
    assert all(b > a for a, b in pairwise(said["shown"]))
    assert len(said["shown"]) > 10
    for shown in said["shown"]:  # at the time that the log has
        assert min(abs(shown - time) for time in times) < 0.001
    assert said["seen"] == pytest.approx(levels(range(89)), abs=4)


def test_a_killed_runs_video_plays(make_video, tmp_path, play):
    """What a kill leaves is a fragmented file; it plays up to a second or two before the end."""
    video, run = phone_clip(make_video), tmp_path / "run"
    process = start(video, "-q", "-o", run, scene="none")
    log = run / "tracks.jsonl.part"
    wait_for(process, lambda: lines_in(log) > 85)
    process.kill()
    process.communicate()
    said = play(run / "video.part.mp4", [])
    assert "error" not in said
    assert uneven()[85] - said["shown"][-1] < 2.5
    assert said["sound"] > 1000
