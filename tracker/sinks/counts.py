"""Write counts: totals, time bins, line crossings."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from tracker.config import CountConfig
from tracker.count.stage import CountStage
from tracker.count.totals import SeenObject
from tracker.files import GrowingFile, JsonObject, Refresh, new_file, write_json
from tracker.formats.events import event_line
from tracker.snapshot import FileState
from tracker.types import Event, FrameResult


class CountsSink:
    """Write what was counted: counts.json, counts.csv and, where there are lines, events.jsonl.

    events.jsonl grows line by line, one event each; the other two are replaced every few seconds,
    and counts.json says up to when they count.
    """

    def __init__(
        self,
        folder: Path,
        categories: Sequence[str],
        config: CountConfig | None = None,
        *,
        counting: CountStage | None = None,
        state: FileState | None = None,
    ) -> None:
        """Begin in a folder, or go on with the events that `state` tells of; raise SinkError."""
        self.counting = counting or CountStage(config)
        self._folder, self._categories = folder, categories
        self._lines = self.counting.config.lines
        kept = state.bytes if state else 0
        self._events = GrowingFile(folder / "events.jsonl", kept) if self._lines else None
        self._abandoned = self._closed = False
        self._refresh = Refresh(self._write_tables)

    def write(self, result: FrameResult) -> None:
        """Take in one frame."""
        result = self.counting.count(result)  # once, whoever asks first
        self._append(result.events)
        self._refresh()

    def close(self) -> None:
        """Write the totals; without a frame, leave no file."""
        if self._closed:
            return
        self._closed = True
        has_frames = self.counting.frames > 0 and not self._abandoned
        try:
            self._append(self.counting.finish())
        finally:
            if self._events:
                self._events.close(keep=has_frames)
            if has_frames:
                self._write_tables()

    def abandon(self) -> None:
        """Let `close` write nothing: the folder is another run's by now."""
        self._abandoned = True

    def state(self) -> FileState | None:
        """Return how far the events go, which are on the disk by then; None without lines."""
        if self._events is None:
            return None
        self._events.sync()
        return FileState(bytes=self._events.size)

    def summary(self) -> JsonObject:
        """Return the content of counts.json."""
        counting = self.counting
        objects = sorted(counting.totals.objects.values(), key=lambda item: item.id)
        return {
            "version": 1,
            "frames": counting.frames,
            "end": round(counting.end, 6),
            "classes": self._class_summary(objects),
            "lines": self._line_summary(),
            "objects": [
                {
                    "id": item.id,
                    "class": self._categories[item.label],
                    "first_seen": round(item.first_seen, 6),
                    "last_seen": round(item.last_seen, 6),
                    "frames": item.frames,
                }
                for item in objects
            ],
        }

    def _append(self, events: Sequence[Event]) -> None:
        if self._events:
            for event in events:
                self._events.append(event_line(event, self._categories))

    def _class_summary(self, objects: Sequence[SeenObject]) -> dict[str, dict[str, float]]:
        totals, classes = self.counting.totals, {}
        for label in sorted(+totals.unique):  # without classes that lost all their votes
            own = [item for item in objects if item.label == label]
            classes[self._categories[label]] = {
                "unique": totals.unique[label],
                "max_at_once": totals.max_at_once[label],
                "first_seen": round(min(item.first_seen for item in own), 6),
                "last_seen": round(max(item.last_seen for item in own), 6),
            }
        return classes

    def _line_summary(self) -> dict[str, dict[str, dict[str, int]]]:
        summary: dict[str, dict[str, dict[str, int]]] = {
            name: {"in": {}, "out": {}} for name in self._lines
        }
        counts = self.counting.lines.counts if self.counting.lines else {}
        for (line, direction, label), number in sorted(counts.items()):
            summary[line][direction][self._categories[label]] = number
        return summary

    def _write_tables(self) -> None:
        self._write_table()
        write_json(self._folder / "counts.json", self.summary())

    def _write_table(self) -> None:
        columns = [f"{name}_{way}" for name in self._lines for way in ("in", "out")]
        counting, width = self.counting, self.counting.config.bin_s
        seen = {
            (item.number, item.label): (item.unique, item.new, item.max_at_once)
            for item in counting.totals.table()
        }
        # An object may have crossed under a class that it was voted out of in the same bin.
        keys = sorted(seen.keys() | {(number, label) for number, label, _ in counting.crossings})
        with new_file(self._folder / "counts.csv") as file:
            table = csv.writer(file)
            table.writerow(["start", "end", "class", "unique", "new", "max_at_once", *columns])
            for number, label in keys:
                table.writerow(
                    [
                        _seconds(number * width),
                        _seconds((number + 1) * width),
                        self._categories[label],
                        *seen.get((number, label), (0, 0, 0)),
                        *(counting.crossings[number, label, column] for column in columns),
                    ]
                )


def _seconds(value: float) -> str:
    """Return a time as short as it can be without loss of a us."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
