"""Where a run stands, on the disk every few seconds, so that a killed run can go on.

checkpoint.json is plain JSON: "frames" (how many are done), "made" (what the run is made of, see
made.py), "snapshot" (what every stage knows after exactly these frames, see snapshot.py; null
before the first) and "sha256" of all before it, as it stands there. All that it speaks of is on the
disk before it is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from tracker.errors import FormatError, SinkError
from tracker.files import new_file, read_json
from tracker.runs.made import Made
from tracker.snapshot import SinkStates, Snapshot, State

FORMAT, VERSION = "tracker-checkpoint", 4
NAME = "checkpoint.json"
_FEWEST = 12  # frames between two: some wait in memory until the video has their frames
_SHARE = 0.05  # of the time that checkpoints may take
_SEAL = ',"sha256":"'
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a run that is not finished left of itself."""

    made: Made
    snapshot: Snapshot | None = None  # None before its first frames


class Checkpointer:
    """Says when a snapshot is due, and writes each once all it speaks of is on the disk."""

    def __init__(
        self,
        path: Path,
        made: Made,
        sinks: Callable[[], SinkStates],
        *,
        durable: Callable[[], int | None] = lambda: None,
        check: Callable[[], None] = lambda: None,
        done: int = 0,
        every_s: float = 2.0,
    ) -> None:
        """Begin after `done` frames.

        `sinks` gives their states, `durable` the number of frames that a kill can no longer take
        (None for all); `check` raises SinkError where the folder is another run's by now.
        """
        self._path, self._made, self._sinks = path, made, sinks
        self._durable, self._check, self._every_s = durable, check, every_s
        self._noted = done  # frames, at the latest snapshot
        self._last = time.monotonic()
        self._cost = 0.0  # s, of the latest one written, in all stages
        self._pending: list[Snapshot] = []  # of frames that the encoder still holds
        self._over = False  # an output has failed: what comes now is not all on the disk
        self._failing = False  # the latest checkpoint could not be written

    def due(self, frames: int) -> bool:
        """Whether a snapshot should travel with frame number `frames`."""
        wait = max(self._every_s, self._cost / _SHARE)
        early = time.monotonic() - self._last < wait or frames - self._noted < _FEWEST
        if early or self._over:
            return False
        self._last, self._noted = time.monotonic(), frames
        return True

    def publish(self, snapshot: Snapshot) -> None:
        """Add the sinks' states to a snapshot and write it when it is safe."""
        self._check()
        if self._over:
            return
        began = time.perf_counter()
        try:
            sinks = self._sinks()
        except SinkError as exc:
            self._over = True
            self._pending.clear()
            log.warning("%s; no checkpoint is taken any more", exc)
            return
        self._pending.append(snapshot.adding(sinks=sinks, spent_s=time.perf_counter() - began))
        self.advance()

    def advance(self) -> None:
        """Write the newest snapshot of which every frame is on the disk; what fails is told."""
        if not self._pending:
            return
        durable, newest = self._durable(), None
        while self._pending and (durable is None or self._pending[0].frames <= durable):
            newest = self._pending.pop(0)
        if newest is None:
            return
        began = time.perf_counter()
        try:
            write(self._path, Checkpoint(self._made, newest))
            self._failing = False
        except SinkError as exc:  # the next one may get through
            if not self._failing:
                log.warning("%s; a run that is killed now goes on from before", exc)
            self._failing = True
        self._cost = newest.cost_s + time.perf_counter() - began


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint durably; raise SinkError."""
    made, snapshot = checkpoint.made, checkpoint.snapshot
    head = {"format": FORMAT, "version": VERSION, "frames": snapshot.frames if snapshot else 0}
    said = json.dumps(head, separators=(",", ":"))
    text = (
        f'{said[:-1]},"made":{_dump(made)},"snapshot":{_dump(snapshot) if snapshot else "null"}}}'
    )
    with new_file(path, durable=True) as file:
        file.write(f'{text[:-1]}{_SEAL}{_digest(text)}"}}\n')


def read(path: Path) -> Checkpoint:
    """Read a checkpoint; raise FormatError, with what to do."""
    content = read_json(path)
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise FormatError(
            f"{path}: is no checkpoint of version {VERSION}; --force starts the run over"
        )
    try:
        text, _, seal = path.read_text("utf-8").rpartition(_SEAL)
        if seal.partition('"')[0] != _digest(text + "}"):
            raise FormatError(f"{path}: is damaged; --force starts the run over")
        # Not strict: JSON knows no tuples. The seal shows that it is what was written.
        snapshot = content["snapshot"]
        return Checkpoint(
            Made.model_validate(content["made"], strict=False),
            Snapshot.model_validate(snapshot, strict=False) if snapshot else None,
        )
    except (OSError, UnicodeDecodeError, KeyError, ValidationError) as exc:
        raise FormatError(f"{path}: is damaged; --force starts the run over") from exc


def _dump(state: State) -> str:
    try:
        return state.model_dump_json()
    except PydanticSerializationError:  # names of files need not be UTF-8
        return json.dumps(state.model_dump(), separators=(",", ":"), ensure_ascii=False)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
