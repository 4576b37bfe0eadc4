"""Where a run stands, on the disk every few seconds, so that a killed run can go on.

checkpoint.json is plain JSON: "frames" (how many are done), "began" (what the run is made of, see
`report.made_of`), "source", "associator", "log", "counts", "video" and "archive" (the state of each
part after exactly these frames), "stats" and "sha256" of all before it, as it stands there. All
that it speaks of is on the disk before it is.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from tracker.config import RunConfig, load_config
from tracker.errors import ConfigError, FormatError, SinkError, redact
from tracker.formats.text import new_file, read_json
from tracker.pipeline import RunStats, Stage
from tracker.sinks.folder import present_in
from tracker.types import Associator, Detections, FrameResult, Image, Source, Tracks
from tracker.video.address import on_disk
from tracker.video.images import is_image
from tracker.video.picture import checksum

FORMAT, VERSION = "tracker-checkpoint", 2
NAME = "checkpoint.json"
_REPORTED = {"source": str, "frames": int, "stopped": bool, "input": dict, "speed": dict}
_LOOK = 1 << 20  # bytes at either end of a file
_GLANCE, _SAMPLE = 1 << 11, 1000  # the same of an image, and of how many images at least
_FEWEST = 12  # frames between two: some wait in memory until the video has their frames
_SHARE = 0.05  # of the time that checkpoints may take
log = logging.getLogger(__name__)


class Part(Protocol):
    """A sink that can go on."""

    def state(self) -> dict[str, Any] | None:
        """Return all that going on needs, as JSON types; what it wrote is on the disk by then."""


class Spill(Part, Protocol):
    """What a tracker remembers and need not hold in its state: it grows with the video."""

    def take(self) -> str:
        """Return what has come since it was last asked; called where the tracker works."""

    def keep(self, lines: str) -> None:
        """Write it down; called where the sinks write."""


class Checkpointer:
    """Takes part in a run twice: in its tracker's place, and behind its sinks.

    The tracker works ahead of the sinks, so its state is taken when it has seen a frame, and put
    to the others' when that frame has been written. `span` is the number of frames that are
    detected together: a run goes on where such a group begins, so that the results are the same.
    """

    def __init__(
        self,
        path: Path,
        associator: Associator,
        source: Source,
        parts: Mapping[str, Part],
        stats: RunStats,
        *,
        spill: Spill | None = None,
        began: dict[str, Any],
        span: int,
        durable: Callable[[], int] | None = None,
        done: int = 0,
        every_s: float = 2.0,
    ) -> None:
        self._path, self._associator, self._source, self._parts = path, associator, source, parts
        self._stats, self._began, self._span, self._durable = stats, began, span, durable
        self._every_s, self._spill = every_s, spill
        self._seen = self._written = self._noted = done  # frames
        self._states: deque[tuple[int, dict[str, Any], str]] = deque()
        self._waiting: deque[tuple[int, str]] = deque()
        self._last = time.monotonic()
        self._cost = 0.0  # s, of the latest one
        self._over = False  # an output has failed: what comes now is not all on the disk
        self._failing = False  # the latest checkpoint could not be written

    # ---- in the tracker's place -------------------------------------------------------------

    def update(self, detections: Detections, time: float, image: Image | None = None) -> Tracks:
        """Let the tracker see a frame."""
        tracks = self._associator.update(detections, time, image)
        self._note()
        return tracks

    def carry(self, time: float, image: Image | None = None) -> Tracks:
        """Let the tracker carry its tracks over a frame."""
        tracks = self._associator.carry(time, image)
        self._note()
        return tracks

    def state(self) -> dict[str, Any]:
        """Return the tracker's state."""
        return self._associator.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Continue the tracker where `state` was taken."""
        self._associator.restore(state)

    def _note(self) -> None:
        self._seen += 1
        if self._over:
            return
        passed, frames = time.monotonic() - self._last, self._seen - self._noted
        wait = max(self._every_s, self._cost / _SHARE)
        if passed >= wait and frames >= _FEWEST and self._seen % self._span == 0:
            self._last, self._noted = time.monotonic(), self._seen
            state = self._associator.state()
            self._states.append((self._seen, state, self._spill.take() if self._spill else ""))
            self._cost = time.monotonic() - self._last

    # ---- behind the sinks -------------------------------------------------------------------

    def write(self, result: FrameResult) -> None:
        """Take in that a frame has gone through all sinks; what fails is told and ends nothing."""
        self._written += 1
        began = time.monotonic()
        try:
            self._take(result)
        except SinkError as exc:
            self._over = True
            self._states.clear()
            self._waiting.clear()
            log.warning("%s; no checkpoint is taken any more", exc)
        self._publish_safe()
        if self._waiting or self._states:
            self._cost = max(self._cost, time.monotonic() - began)

    def _take(self, result: FrameResult) -> None:
        if not self._over and self._states and self._states[0][0] == self._written:
            _, state, lines = self._states.popleft()
            if self._spill:
                self._spill.keep(lines)
            mark = self._source.mark(result.frame.index)
            if mark is not None:
                mark["picture"] = checksum(result.frame.image)
                self._waiting.append((self._written, self._content(mark, state)))

    def close(self) -> None:
        """Write down what the sinks have finished."""
        self._publish_safe()

    def _publish_safe(self) -> None:
        """Write the newest state of which every frame is on the disk."""
        durable = self._durable() if self._durable else self._written
        newest = None
        while self._waiting and self._waiting[0][0] <= durable:
            _, newest = self._waiting.popleft()
        if not newest:
            return
        try:
            _write(self._path, newest)
            self._failing = False
        except SinkError as exc:  # the next one may get through
            if not self._failing:
                log.warning("%s; a run that is killed now goes on from before", exc)
            self._failing = True

    def _content(self, mark: dict[str, Any], associator: dict[str, Any]) -> str:
        parts = {**self._parts, "archive": self._spill} if self._spill else self._parts
        states = {name: part.state() for name, part in parts.items()}
        states |= {"source": mark, "associator": associator, "stats": asdict(self._stats)}
        return _to_text(self._written, self._began, states)


def begin(path: Path, began: dict[str, Any]) -> None:
    """Write the checkpoint of a run that has not done a frame; raise SinkError."""
    _write(path, _to_text(0, began, {"stats": {}}))


def _to_text(frames: int, began: dict[str, Any], states: dict[str, Any]) -> str:
    content = {"format": FORMAT, "version": VERSION, "frames": frames, "began": began, **states}
    text = _dump(content)
    return f'{text[:-1]},"sha256":"{_digest(text)}"}}'


def _dump(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _write(path: Path, text: str) -> None:
    with new_file(path, durable=True) as file:
        file.write(text + "\n")


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint; raise FormatError, SinkError."""
    content = read_json(path)
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise FormatError(
            f"{path}: is no checkpoint of version {VERSION}; --force starts the run over"
        )
    if content.pop("sha256", None) != _digest(_dump(content)):
        raise FormatError(f"{path}: is damaged; --force starts the run over")
    return content


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a run that once began."""

    uri: str
    report: dict[str, Any] | None = None  # of one that is finished


def begun(folder: Path) -> Past | None:
    """Return the run that is in a folder, where one that can be resumed is; raise FormatError."""
    if (folder / NAME).is_file():
        return Past(str(read(folder / NAME)["began"]["source"]["uri"]))
    if (folder / "report.json").is_file():
        report = read_json(folder / "report.json")
        if report.get("finished"):
            if any(not isinstance(report.get(key), kind) for key, kind in _REPORTED.items()):
                raise FormatError(f"{folder / 'report.json'}: is malformed; --force starts over")
            file = report["input"].get("file")
            named = file.get("uri") if isinstance(file, dict) else None
            return Past(str(named or report["source"]), report)
    return None


def find(folder: Path) -> dict[str, Any] | None:
    """Return the checkpoint of the run in a folder; None if there is none and nothing else either.

    Raises ConfigError where the run is finished or cannot go on, FormatError.
    """
    if (folder / NAME).is_file():
        return read(folder / NAME)
    if (folder / "report.json").is_file():
        finished = read_json(folder / "report.json").get("finished")
        raise ConfigError(
            f"{folder}: the run is finished, there is nothing to resume; --force does it again"
            if finished
            else f"{folder}: cannot be resumed: it has no {NAME}, as those of cameras, URLs and "
            "standard input have none; --force does it again"
        )
    if present_in(folder) not in ([], ["run.toml"]):  # which comes before the first checkpoint
        raise ConfigError(
            f"{folder}: holds no {NAME}, so it cannot be resumed; --force starts over"
        )
    return None


def fingerprint(uri: str) -> dict[str, Any]:
    """Return what tells a file, or a folder of images, from another, as JSON types."""
    text = on_disk(uri)
    if text is None:
        return {"uri": redact(uri)}
    path = Path(text)
    place = {"uri": str(path.absolute())}
    try:
        if path.is_file():
            size, digest = path.stat().st_size, hashlib.sha256(_ends(path, _LOOK)).hexdigest()
            return place | {"bytes": size, "sha256_of_ends": digest}
        found = path.iterdir() if path.is_dir() else map(Path, glob.glob(text))  # noqa: PTH207
        images = sorted(one for one in found if is_image(one))
        if not images:
            return place
        told = hashlib.sha256(repr([(one.name, one.stat().st_size) for one in images]).encode())
        for one in images[:: max(1, len(images) // _SAMPLE)]:
            told.update(_ends(one, _GLANCE))
        return place | {"images": len(images), "sha256_of_images": told.hexdigest()}
    except OSError:
        return place


def _ends(path: Path, look: int) -> bytes:
    """Return the first and the last `look` bytes of a file."""
    with path.open("rb") as file:
        first = file.read(look)
        file.seek(max(0, path.stat().st_size - look))
        return first + file.read(look)


def check_finished(
    folder: Path, report: dict[str, Any], uri: str | None, config: RunConfig
) -> None:
    """Raise ConfigError where the finished run in a folder is not the one that is asked for.

    `uri` is None where no video is named, only the run.
    """
    if uri is not None and not _is_of(report, uri):
        raise ConfigError(
            f"{folder}: holds the finished run of {report['source']}; give {uri} another --output"
        )
    if (folder / "run.toml").is_file():
        was = load_config(folder / "run.toml").telling()
        if found := _listed(was, config.telling()):
            raise ConfigError(
                f"{folder}: holds a run that was finished with other settings: {found}; give "
                "another --output, or --force to do it again"
            )


def _is_of(report: dict[str, Any], uri: str) -> bool:
    """Whether a finished run is known to be that of a video."""
    before, now = report["input"].get("file"), fingerprint(uri)
    if on_disk(uri) is None or not isinstance(before, dict):
        return False  # what a URL shows today may be something else
    if len(now) == 1:  # the file is gone: its name must do
        return bool(before.get("uri") == now["uri"])
    return {**before, "uri": ""} == {**now, "uri": ""}  # it may have moved


def compare(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Raise ConfigError that names what a run is made of now that it was not made of before."""
    now = json.loads(json.dumps(now))
    now["source"]["uri"] = before["source"].get("uri")  # a file may have moved
    if found := _listed(before, now):
        raise ConfigError(
            f"{folder}: cannot be resumed: {found}; use what it began with, or --force to start "
            "over"
        )


def restore_stats(stats: RunStats, past: dict[str, Any]) -> None:
    """Let a run's figures go on from those of a checkpoint."""
    stats.frames, stats.wall_s = int(past["frames"]), float(past["stats"]["wall_s"])
    for name, stage in past["stats"]["stages"].items():
        stats.stages[name] = Stage(float(stage["seconds"]), int(stage["frames"]))


def differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """Yield a sentence for each value in which two JSON values differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif before != now:
        yield f"{name} was {_shown(before)}, is {_shown(now)}"


def _listed(before: Any, now: Any) -> str:
    found = list(differences(before, now))
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return "; ".join(found[:3]) + more


def _shown(value: Any) -> str:
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
