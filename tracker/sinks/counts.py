"""Write counts: totals, time bins, line crossings."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracker.config import CountConfig
from tracker.count.lines import Crossing, LineCounter, line_counter
from tracker.count.totals import Totals
from tracker.formats.text import new_file, write_json
from tracker.sinks.folder import GrowingFile, Refresh
from tracker.types import FrameResult


class CountsSink:
    """Count objects and write counts.json, counts.csv and, where there are lines, events.jsonl.

    events.jsonl grows line by line, one crossing each; the other two are replaced every few
    seconds, and counts.json says up to when they count.
    """

    def __init__(
        self,
        folder: Path,
        categories: Sequence[str],
        config: CountConfig | None = None,
        *,
        state: dict[str, Any] | None = None,
    ) -> None:
        self._folder, self._categories = folder, categories
        self._config = config or CountConfig()
        self._totals = Totals(self._config.bin_s)
        self._lines: LineCounter | None = None
        kept = state["events"] if state else 0
        self._events = GrowingFile(folder / "events.jsonl", kept) if self._config.lines else None
        self._crossings_per_bin: dict[tuple[int, int], dict[str, int]] = {}  # bin, label -> column
        self._frames = 0
        self._end = 0.0
        self._closed = False
        self._refresh = Refresh(self._write_tables)
        if state:
            self._frames, self._end = state["frames"], state["end"]
            self._totals.restore(state["totals"])
            self._lines = LineCounter(
                [], anchor=self._config.anchor, hysteresis=self._config.hysteresis
            )
            self._lines.restore(state["lines"])
            self._crossings_per_bin = {(n, label): row for n, label, row in state["crossings"]}

    def write(self, result: FrameResult) -> None:
        """Take in one frame."""
        frame, tracks = result.frame, result.tracks
        if self._lines is None:
            self._lines = line_counter(self._config, frame.width, frame.height)
        self._lines.resize(frame.width, frame.height)
        self._frames += 1
        self._end = frame.time
        self._totals.update(tracks, frame.time)
        for crossing in self._lines.update(tracks, frame.index, frame.time):
            self._note(crossing)
        self._refresh()

    def close(self) -> None:
        """Write the totals; without a frame, leave no file."""
        if self._closed:
            return
        self._closed = True
        if self._events:
            self._events.close(keep=self._frames > 0)
        if not self._frames:
            return
        self._write_tables()

    def abandon(self) -> None:
        """Let `close` write nothing: the folder is another run's by now."""
        self._frames = 0

    def state(self) -> dict[str, Any] | None:
        """Return what counting on needs, as JSON types; the events are on the disk by then."""
        if self._lines is None:
            return None
        if self._events:
            self._events.sync()
        return {
            "frames": self._frames,
            "end": self._end,
            "totals": self._totals.state(),
            "lines": self._lines.state(),
            "crossings": [[*key, row] for key, row in self._crossings_per_bin.items()],
            "events": self._events.size if self._events else 0,
        }

    def summary(self) -> dict[str, Any]:
        """Return the content of counts.json."""
        unique = +self._totals.unique  # without classes that lost all their votes
        objects = sorted(self._totals.objects.values(), key=lambda item: item.id)
        classes = {}
        for label in sorted(unique):
            own = [item for item in objects if item.label == label]
            classes[self._categories[label]] = {
                "unique": unique[label],
                "max_at_once": self._totals.max_at_once[label],
                "first_seen": round(min(item.first_seen for item in own), 6),
                "last_seen": round(max(item.last_seen for item in own), 6),
            }
        return {
            "version": 1,
            "frames": self._frames,
            "end": round(self._end, 6),
            "classes": classes,
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

    def _line_summary(self) -> dict[str, dict[str, dict[str, int]]]:
        summary: dict[str, dict[str, dict[str, int]]] = {
            name: {"in": {}, "out": {}} for name in self._config.lines
        }
        counts = self._lines.counts if self._lines else {}
        for (line, direction, label), number in sorted(counts.items()):
            summary[line][direction][self._categories[label]] = number
        return summary

    def _note(self, crossing: Crossing) -> None:
        key = (self._totals.bin_of(crossing.time), crossing.label)
        column = f"{crossing.line}_{crossing.direction}"
        row = self._crossings_per_bin.setdefault(key, {})
        row[column] = row.get(column, 0) + 1
        event = {
            "event": "line",
            "line": crossing.line,
            "direction": crossing.direction,
            "id": crossing.id,
            "class": self._categories[crossing.label],
            "frame": crossing.frame,
            "time": round(crossing.time, 6),
            "point": [round(value, 1) for value in crossing.point],
        }
        if self._events:
            self._events.append(json.dumps(event, ensure_ascii=False) + "\n")

    def _write_tables(self) -> None:
        self._write_table()
        write_json(self._folder / "counts.json", self.summary())

    def _write_table(self) -> None:
        columns = [f"{name}_{way}" for name in self._config.lines for way in ("in", "out")]
        seen = {
            (item.number, item.label): (item.unique, item.new, item.max_at_once)
            for item in self._totals.table()
        }
        # An object may have crossed under a class that it was voted out of in the same bin.
        keys = sorted(seen.keys() | self._crossings_per_bin.keys())
        width = self._config.bin_s
        with new_file(self._folder / "counts.csv") as file:
            table = csv.writer(file)
            table.writerow(["start", "end", "class", "unique", "new", "max_at_once", *columns])
            for number, label in keys:
                crossed = self._crossings_per_bin.get((number, label), {})
                table.writerow(
                    [
                        _seconds(number * width),
                        _seconds((number + 1) * width),
                        self._categories[label],
                        *seen.get((number, label), (0, 0, 0)),
                        *(crossed.get(column, 0) for column in columns),
                    ]
                )


def _seconds(value: float) -> str:
    """Return a time as short as it can be without loss of a us."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
