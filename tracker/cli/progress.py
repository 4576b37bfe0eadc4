"""What a user sees while a run goes on, and at its end."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from tracker.assemble import RunResult
from tracker.errors import redact
from tracker.pipeline import RunStats
from tracker.types import FrameResult, Source, StreamInfo

T = TypeVar("T")
_PLAIN_EVERY_S = 10.0  # a line so often where there is no terminal


class Progress:
    """A bar with speeds and live counts on a terminal, a plain line now and then elsewhere."""

    def __init__(self, uri: str, *, show: bool) -> None:
        self._name = redact(uri)
        self._console = Console(stderr=True)
        self._show = show
        self._rich = show and self._console.is_terminal
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
        if self._rich and self._live.is_started:
            self._live.stop()

    def while_loading(self, load: Callable[[], T]) -> Callable[[], T]:
        """Return `load`, announced: the source is known to be good by then."""

        def announced() -> T:
            if self._show:
                self._say(f"{self._name}: loading the model")
            return load()

        return announced

    def when_started(self, also: Callable[[], None]) -> Callable[[Source, Sequence[str]], None]:
        """Return what shows the source's facts, after it has called `also`."""

        def start(source: Source, categories: Sequence[str]) -> None:
            also()
            self._start(source.info, categories)

        return start

    def _start(self, info: StreamInfo, categories: Sequence[str]) -> None:
        self._categories, self._total = categories, info.frame_count
        self._bar.update(self._task, total=info.frame_count)
        if not self._show:
            return
        rate = f", {float(info.rate):.4g} fps" if info.rate else ""
        length = f", {info.frame_count} frames" if info.frame_count else ""
        self._say(f"{self._name}: {info.width}x{info.height} px{rate}{length}")
        if self._rich:
            self._live.start()

    def advance(self, result: FrameResult, stats: RunStats) -> None:
        """Show the newest frame."""
        self._newest = max([self._newest, *result.tracks.ids.tolist()])
        if self._rich:
            fps = stats.frames / stats.wall_s if stats.wall_s else 0.0
            self._bar.update(self._task, completed=stats.frames, fps=f"{fps:.1f} fps")
            if time.monotonic() - self._last_line > 0.25:
                self._last_line = time.monotonic()
                self._live.update(self._view(result, stats))
        elif self._show and time.monotonic() - self._last_line >= _PLAIN_EVERY_S:
            self._last_line = time.monotonic()
            of = f"/{self._total}" if self._total else ""
            fps = stats.frames / stats.wall_s if stats.wall_s else 0.0
            self._say(
                f"{self._name}: {stats.frames}{of} frames, {fps:.1f} fps, {self._in_view(result)}"
            )

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
    speed, read = report["speed"], report["input"]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("class")
    for name in ("objects", "at once", "first seen", "last seen"):
        table.add_column(name, justify="right")
    ranked = sorted(counts["classes"].items(), key=lambda item: (-item[1]["unique"], item[0]))
    for name, item in ranked:
        table.add_row(
            escape(name),
            str(item["unique"]),
            str(item["max_at_once"]),
            f"{item['first_seen']:.2f} s",
            f"{item['last_seen']:.2f} s",
        )
    if ranked:
        console.print(table)
    else:
        console.print("no objects found")
    for name, ways in counts["lines"].items():
        of_ways = [f"{sum(ways[way].values())} {way}" for way in ("in", "out")]
        console.print(f"line {name}: {', '.join(of_ways)}", highlight=False, markup=False)
    counted = ("bad_packets", "missing", "suspect", "dropped", "clock_jumps", "size_changes")
    facts = [f"{read[key]} {key.replace('_', ' ')}" for key in counted if read[key]]
    if facts or read["notes"]:
        text = "; ".join([", ".join(facts), *read["notes"]] if facts else read["notes"])
        console.print(f"input: {text}", markup=False, highlight=False, soft_wrap=True)
    for part in ("detector", "output"):
        for note in report[part]["notes"]:
            console.print(f"{part}: {note}", markup=False, highlight=False, soft_wrap=True)
    end = "" if report["finished"] else ", stopped before the end"
    console.print(
        f"{report['frames']} frames in {speed['wall_s']:.1f} s "
        f"({speed['fps']:.1f} fps{end}) -> {result.folder}/",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
