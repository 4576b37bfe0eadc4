"""What a user sees while a run goes on, and at its end."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from tracker.cli.signals import Signals
from tracker.errors import redact
from tracker.files import JsonObject
from tracker.pipeline import RunStats
from tracker.runs.run import RunResult
from tracker.types import FrameResult
from tracker.types.stages import Source

_LOSSES = ("bad_packets", "missing", "suspect", "dropped", "clock_jumps", "size_changes")
_VIEW_EVERY_S = 0.25
_PLAIN_EVERY_S = 10.0  # a line so often where there is no terminal


class Progress:
    """A bar with speeds and live counts on a terminal, a plain line now and then elsewhere.

    While frames flow, a signal is only noted: the run then ends in good order.
    """

    def __init__(self, uri: str, signals: Signals, *, show: bool, alone: bool = True) -> None:
        self._name, self._signals = redact(uri), signals
        self._console = Console(stderr=True)
        self._show = show
        self._rich = show and alone and self._console.is_terminal  # bars need it for themselves
        self._last_line = time.monotonic()
        self._total: int | None = None
        self._categories: Sequence[str] = ()
        self._newest = 0  # the highest id so far
        self._bar = Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[fps]}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task(escape(self._name), total=None, fps="")
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._signals.flowing = False
        if self._rich and self._live.is_started:
            self._live.stop()

    def loading(self) -> None:
        """Say that the model is loaded: the source is known to be good by then."""
        if self._show:
            self._say(f"{self._name}: loading the model")

    def started(self, source: Source, categories: Sequence[str]) -> None:
        """Show the source's facts: frames begin to flow."""
        self._signals.flowing = True
        info = source.info
        self._categories, self._total = categories, info.frame_count
        self._bar.update(self._task, total=info.frame_count)
        if not self._show:
            return
        rate = f", {float(info.rate):.4g} fps" if info.rate else ""
        length = f", {info.frame_count} frames" if info.frame_count else ""
        self._say(f"{self._name}: {info.width}x{info.height} px{rate}{length}")
        if self._rich:
            self._live.start()

    def advanced(self, result: FrameResult, stats: RunStats) -> None:
        """Show the newest frame."""
        self._newest = max([self._newest, *result.tracks.ids.tolist()])
        since = time.monotonic() - self._last_line
        fps = stats.frames / stats.wall_s if stats.wall_s else 0.0
        if self._rich:
            self._bar.update(self._task, completed=stats.frames, fps=f"{fps:.1f} fps")
            if since > _VIEW_EVERY_S:
                self._last_line = time.monotonic()
                self._live.update(self._view(result, stats))
        elif self._show and since >= _PLAIN_EVERY_S:
            self._last_line = time.monotonic()
            of = f"/{self._total}" if self._total else ""
            seen = self._in_view(result)
            self._say(f"{self._name}: {stats.frames}{of} frames, {fps:.1f} fps, {seen}")

    def _view(self, result: FrameResult, stats: RunStats) -> Table:
        view = Table.grid()
        view.add_row(self._bar)
        speeds = "  ".join(f"{name} {stage.fps:.1f}" for name, stage in stats.stages.items())
        view.add_row(
            f"  [dim]in view: {escape(self._in_view(result))}   newest id {self._newest}[/dim]"
        )
        view.add_row(f"  [dim]fps of each stage alone: {speeds}[/dim]")
        return view

    def _in_view(self, result: FrameResult) -> str:
        counts = Counter(self._categories[label] for label in result.tracks.labels.tolist())
        return ", ".join(f"{n} {name}" for name, n in counts.most_common(6)) or "nothing"

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_summary(result: RunResult) -> None:
    """Print what was counted, how fast it went, what was lost, and where the files are."""
    console = Console(file=sys.stdout)
    report, counts = result.report, result.counts

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    if counts["classes"]:
        console.print(_class_table(counts["classes"]))
    else:
        console.print("no objects found")
    for name, ways in counts["lines"].items():
        of_ways = [f"{sum(ways[way].values())} {way}" for way in ("in", "out")]
        say(f"line {name}: {', '.join(of_ways)}")
    read = report.input.model_dump(include=set(_LOSSES))
    facts = [f"{read[key]} {key.replace('_', ' ')}" for key in _LOSSES if read[key]]
    notes = report.input.notes
    if facts or notes:
        say(f"input: {'; '.join([', '.join(facts), *notes] if facts else notes)}")
    for part, said in (
        ("input", report.input.remarks),
        ("detector", report.detector.notes),
        ("output", report.output.notes),
    ):
        for note in said:
            say(f"{part}: {note}")
    end = "" if report.finished else ", stopped before the end"
    speed = report.speed
    say(
        f"{report.frames} frames in {speed.wall_s:.1f} s ({speed.fps:.1f} fps{end}) -> "
        f"{result.folder}/"
    )


def _class_table(classes: JsonObject) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("class")
    for name in ("objects", "at once", "first seen", "last seen"):
        table.add_column(name, justify="right")
    for name, item in sorted(classes.items(), key=lambda item: (-item[1]["unique"], item[0])):
        table.add_row(
            escape(name),
            str(item["unique"]),
            str(item["max_at_once"]),
            f"{item['first_seen']:.2f} s",
            f"{item['last_seen']:.2f} s",
        )
    return table
