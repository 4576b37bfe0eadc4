"""`tracker evaluate`: score results against ground truth."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tracker.cli.options import split_names, split_numbers, split_pair
from tracker.errors import ConfigError
from tracker.files import read_rows
from tracker.formats.mot import names_fields
from tracker.formats.mots import holds_masks
from tracker.measure.classes import BENCHMARKS
from tracker.measure.plot import plot
from tracker.measure.scores import Evaluation, Score, Wishes
from tracker.measure.scores import evaluate as score

# Where a result may keep a sequence, first come; the second place is TrackEval's own.
_PLACES = (
    "{}.txt",
    "data/{}.txt",
    "{}/tracks.jsonl",
    "{}.jsonl",
    "{}.json",
    "{}.csv",
    "{}.parquet",
    "{}/tracks-mots.txt",
    "{}/tracks-mots-challenge.txt",
    "{}/tracks-mot.txt",
)
_NUMBERS = ("IDSW", "Frag", "IDs", "GT_IDs")
_LESS_IS_BETTER = ("IDSW", "Frag")


def evaluate(
    ground_truth: Annotated[
        Path,
        typer.Argument(
            help="MOTChallenge or MOTS text, a log, or a folder of sequences: SEQ.txt or "
            "SEQ/gt/gt.txt.",
            metavar="GROUND_TRUTH",
        ),
    ],
    results: Annotated[
        list[str],
        typer.Argument(
            help="The same of a tracker, a log in any format of `tracker export`, a folder with a "
            "file a sequence, or a run folder; NAME=PATH "
            "names it.",
            metavar="RESULT...",
        ),
    ],
    classes: Annotated[
        str | None,
        typer.Option(help="Class numbers to score, as 1,2; by default all of the truth."),
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="Which class of a result is which of the truth's, as vehicle=car, by names or "
            "numbers; may be repeated. Names for the same, as person and pedestrian, are known.",
            metavar="NAME=NAME",
        ),
    ] = None,
    shift: Annotated[
        int | None,
        typer.Option(
            help="Added to the frames' numbers in the results: 1 where they count from 0 and the "
            "truth from 1. \\[default: what is certain is taken, and said]"
        ),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(BENCHMARKS)}: whose classes of boxes are distractors. "
            "\\[default: as the sequences' names say]",
            show_default=False,
        ),
    ] = None,
    plot_file: Annotated[
        Path | None,
        typer.Option("--plot", help="PNG to draw: HOTA, DetA and AssA over alpha.", metavar="FILE"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: class, result, combined and sequences.")
    ] = False,
) -> None:
    """Score tracking results against ground truth: HOTA, IDF1, MOTA and, of masks, sMOTSA.

    The figures are TrackEval's, prepared as its KittiMOTS and MotChallenge2DBox
    do: ignore regions and distractors take out what the benchmarks take out.

    [bold]Examples[/bold]

      tracker evaluate gt.txt tracks.txt                 one sequence

      tracker evaluate instances_txt out --plot c.png    KITTI MOTS, all sequences

      tracker evaluate gt.txt old=a.txt new=b.txt        the best figures in bold

      tracker evaluate MOT17/train out --json            SEQ/gt/gt.txt, SEQ.txt

      tracker evaluate gt.txt out.txt --map truck=car    classes by other names
    """
    if plot_file and plot_file.suffix.lower() != ".png":
        raise ConfigError(f"{plot_file}: --plot draws PNG; give a name that ends in .png")
    numbers = split_numbers(classes, "--classes")
    pairs = [split_pair(text, "--map") for texts in mapping or () for text in split_names(texts)]
    if benchmark and benchmark.upper() not in BENCHMARKS:
        raise ConfigError(f"--benchmark must be one of {', '.join(BENCHMARKS)}, got {benchmark!r}")
    wishes = Wishes(shift, dict(pairs), benchmark and benchmark.upper())
    named = name_results(results)
    for path in (ground_truth, *named.values()):
        if not path.exists():
            raise ConfigError(f"{path}: no such file or folder")
    truth = find_truth(ground_truth)
    found = {name: find_result(path, list(truth)) for name, path in named.items()}
    evaluation = score(truth, found, numbers, wishes)
    for note in evaluation.notes:
        sys.stderr.write(f"note: {note}\n")
    if as_json:
        typer.echo(json.dumps(_to_json(evaluation), indent=2))
    else:
        _print(evaluation)
    if plot_file:
        plot(evaluation, plot_file)
        if not as_json:
            typer.echo(str(plot_file))


def find_truth(path: Path) -> dict[str, Path]:
    """Return each sequence's file by name. Raises ConfigError for a folder that holds none."""
    if not path.is_dir():
        return {_stem(path): path}
    if (path / "gt" / "gt.txt").is_file():
        return {path.resolve().name: path / "gt" / "gt.txt"}
    texts = [file for file in path.glob("*.txt") if not file.name.startswith(".")]
    files = {file.stem: file for file in texts if _may_be_sequence(file)}
    for folder in path.glob("*/gt"):
        halves = [file for file in folder.glob("gt_*.txt") if (folder / "gt.txt") != file]
        usual = folder / "gt.txt"
        if usual.is_file() or len(halves) == 1:
            files[folder.parent.name] = usual if usual.is_file() else halves[0]
    if not files:
        raise ConfigError(f"{path}: holds neither SEQ.txt nor SEQ/gt/gt.txt")
    return dict(sorted(files.items()))


def _may_be_sequence(path: Path) -> bool:
    """Whether text is not about the sequences, as README.txt and seqmap.txt are; say if so."""
    first = next((text for _, text in read_rows(path)), "")
    names = re.fullmatch(r"(?i)(read_?me|licen[cs]e|.*seqmaps?|seqs?|classes|labels)", path.stem)
    is_table = not first or first.lstrip("\"'")[0] in "-.0123456789" or "," in first
    if names is None and (is_table or names_fields(first) or holds_masks(path)):
        return True
    sys.stderr.write(f"note: {path}: is left out: it holds no objects\n")
    return False


def find_result(path: Path, sequences: Sequence[str]) -> dict[str, Path]:
    """Return a result's file of each sequence. Raises ConfigError for one that is not there."""
    if not path.is_dir():
        if len(sequences) > 1:
            raise ConfigError(
                f"{path}: is one file, but the ground truth has {len(sequences)} sequences, "
                f"{sequences[0]} to {sequences[-1]}; give a folder with a file for each"
            )
        return {sequences[0]: path}
    if len(sequences) == 1 and (path / "tracks.jsonl").is_file():
        return {sequences[0]: path / "tracks.jsonl"}
    files = {}
    for name in sequences:
        places = [path / place.format(name) for place in _PLACES]
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            raise ConfigError(f"{path}: lacks the sequence {name}; there is no {places[0]}")
        files[name] = file
    return files


def name_results(results: Sequence[str]) -> dict[str, Path]:
    """Return the path of each NAME=PATH or PATH by its name, which is made unique."""
    named: dict[str, Path] = {}
    for text in results:
        name, equals, rest = text.partition("=")
        if not (equals and name and rest) or Path(text).exists():
            name, rest = _stem(Path(text)), text
        unique, number = name, 1
        while unique in named:
            number += 1
            unique = f"{name}-{number}"
        named[unique] = Path(rest)
    return named


def _stem(path: Path) -> str:
    """Return what a path is called; the fixed names of a layout say less than their folder."""
    path = path.resolve()
    if path.is_dir():
        return path.name
    if path.parent.name == "gt" and path.name.startswith("gt"):
        return path.parents[1].name
    if path.name == "tracks.jsonl":
        return path.parent.name
    return path.stem


def _to_json(evaluation: Evaluation) -> dict[str, dict[str, dict[str, object]]]:
    return {
        label: {
            name: {
                "combined": scores[None].values,
                "sequences": {key: part.values for key, part in scores.items() if key is not None},
            }
            for name, scores in results.items()
        }
        for label, results in evaluation.scores.items()
    }


def _print(evaluation: Evaluation) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=250)  # a pipe has no width that a table must be cut to
    for label, results in evaluation.scores.items():
        console.print(f"[bold]{escape(label)}[/bold]")
        console.print(_table(results))
    console.print(
        "[dim]IDSW switches, Frag fragments, IDs of the result, GT_IDs of the truth[/dim]"
    )


def _table(results: Mapping[str, Mapping[str | None, Score]]) -> Table:
    """Return the figures of one class: of all sequences combined, then of each."""
    sequences = [key for key in next(iter(results.values())) if key is not None]
    combined = {name: scores[None] for name, scores in results.items()}
    figures = list(next(iter(combined.values())).values)
    if "MOTSA" in figures:
        figures.remove("MOTA")  # the same number, by its name for boxes
    if len(sequences) < 2:
        table = _empty_table(["result"], figures)
        _add_rows(table, combined, figures, None)
        return table
    table = _empty_table(["result", "sequence"], figures)
    _add_rows(table, combined, figures, "all")
    for key in sequences:
        parts = {name: scores[key] for name, scores in results.items()}
        if any(part.values["GT_IDs"] or part.values["IDs"] for part in parts.values()):
            _add_rows(table, parts, figures, key)
    return table


def _empty_table(names: Sequence[str], figures: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="dim")
    for name in names:
        table.add_column(name, overflow="fold")
    for figure in figures:
        table.add_column(figure, justify="right", no_wrap=True)
    return table


def _add_rows(
    table: Table, parts: Mapping[str, Score], figures: Sequence[str], sequence: str | None
) -> None:
    best = {figure: _best([part.values for part in parts.values()], figure) for figure in figures}
    for name, part in parts.items():
        cells = [escape(name)] if sequence is None else [escape(name), escape(sequence)]
        for figure in figures:
            value = round(part.values[figure], 2)
            text = f"{value}" if figure in _NUMBERS else f"{value:.2f}"
            cells.append(f"[bold]{text}[/bold]" if value == best[figure] else text)
        table.add_row(*cells)


def _best(values: Sequence[Mapping[str, float]], figure: str) -> float | None:
    """Return the best value of a column; None where all are alike or none is better."""
    column = [round(value[figure], 2) for value in values]
    if len(set(column)) == 1 or figure == "GT_IDs":
        return None
    if figure == "IDs":
        return min(column, key=lambda ids: abs(ids - values[0]["GT_IDs"]))
    return min(column) if figure in _LESS_IS_BETTER else max(column)
