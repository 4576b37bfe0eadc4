"""Score results against ground truth with TrackEval's metrics: HOTA, CLEAR and Identity.

Truth is MOTChallenge text (frames from 1: frame,id,x,y,w,h,considered,class,visibility), MOTS text
(frame id class height width rle; class 10 = ignore region; frames from 0, of MOTSChallenge from 1)
or a run's log.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tracker.errors import FormatError, MissingExtraError
from tracker.measure.classes import Classes, Translation, check_mapping, choose
from tracker.measure.mix_ups import frame_shift, wrong_frames
from tracker.measure.preparing import prepare
from tracker.measure.truth import Sequence, read

FloatArray = npt.NDArray[np.float64]

ALPHAS = np.arange(0.05, 0.99, 0.05)  # IoU from which a pair counts, (19,), as TrackEval's HOTA
Figures = dict[str, Any]  # of TrackEval: its metrics by name, or what they found
PANELS = ("HOTA", "DetA", "AssA")
_NUMBERS = ("IDSW", "Frag", "IDs", "GT_IDs")


class Score(NamedTuple):
    """The figures of one result for one class, on one sequence or on all."""

    # Per cent: PANELS, MOTA, IDF1, of masks sMOTSA, MOTSA; numbers: IDSW, Frag, IDs, GT_IDs (truth)
    values: dict[str, float]
    curves: dict[str, FloatArray]  # PANELS over ALPHAS, (19,) per cent


class Evaluation(NamedTuple):
    """All figures: class name -> result name -> sequence name, None for all combined."""

    scores: dict[str, dict[str, dict[str | None, Score]]]
    notes: tuple[str, ...]  # what was left out, taken otherwise, or is doubtful

    @property
    def note(self) -> str:
        """All notes in one line; empty if there are none."""
        return "; ".join(self.notes)


class Wishes(NamedTuple):
    """How to read results and truth where the files do not tell."""

    shift: int | None = None  # added to the results' frames; None = where it is certain, by one
    mapping: Mapping[str, str] = {}  # a result's class -> the truth's, by names or numbers
    benchmark: str | None = None  # MOT15, MOT16, MOT17 or MOT20; None = as the names say


def evaluate(
    truth_files: Mapping[str, Path],
    result_files: Mapping[str, Mapping[str, Path]],
    classes: Collection[int] = (),
    wishes: Wishes | None = None,
) -> Evaluation:
    """Score results (name -> sequence -> file) against the truth (sequence -> file).

    A result may also be a run's log, in any format, frame by index; its classes go by their names.
    `classes` are the numbers to score, by default all of the truth. Raises FormatError that names
    file and line, ConfigError for a class that is not there, and MissingExtraError.
    """
    wishes = wishes or Wishes()
    metrics = _metrics()
    paths = [path for files in result_files.values() for path in files.values()]
    chosen = choose(truth_files, classes, wishes.benchmark, paths)
    translations = {name: Translation(chosen, wishes.mapping) for name in result_files}
    notes = list(chosen.notes)
    # A result's classes must be known before the first of its sequences is scored; boxes are
    # small enough to be kept until then, of masks it makes no difference.
    kept: dict[tuple[str, str], Sequence] = {}
    for name, files in result_files.items() if not chosen.masks else ():
        for key in truth_files:
            kept[name, key] = _read_result(files[key], chosen, translations[name], wishes)
    raw: dict[tuple[int, str], Figures] = defaultdict(dict)
    for key, path in truth_files.items():
        truth = read(path, masks=chosen.masks)
        for name, files in result_files.items():
            found = kept.pop((name, key), None)
            if found is None:
                found = _read_result(files[key], chosen, translations[name], wishes)
            about = _align(truth, found, wishes.shift)
            notes += [f"{name}, {key}: {why}" for why in about]
            labels = set(translations[name].seen)
            for label, figures in _score_sequence(truth, found, key, labels, chosen, metrics):
                raw[label, name][key] = figures
    check_mapping(translations.values(), wishes.mapping)
    for name, translation in translations.items():
        notes += [f"{name}: {why}" for why in translation.notes()]
    scores: dict[str, dict[str, dict[str | None, Score]]] = defaultdict(dict)
    for label in chosen.wanted:
        for name in result_files:
            scores[chosen.title(label)][name] = _combine(
                raw[label, name], metrics, masks=chosen.masks
            )
    return Evaluation(scores, tuple(notes))


def _read_result(path: Path, chosen: Classes, translation: Translation, wishes: Wishes) -> Sequence:
    """Read one sequence of a result, with the truth's labels."""
    found = read(path, masks=chosen.masks, shift=wishes.shift or 0)
    translation.apply(found)
    return found


def _align(truth: Sequence, found: Sequence, shift: int | None) -> list[str]:
    """Let both count their frames alike, where that is certain; say what was done or is odd."""
    if not found.is_sure and not truth.is_log:
        found.count_from(truth.first)
    notes = []
    supposed = frame_shift(truth, found) if shift is None else None
    if supposed:
        notes.append(supposed.note())
        if supposed.certain:
            found.move(supposed.by)
    return [*notes, *wrong_frames(truth, found)]


def _score_sequence(
    truth: Sequence,
    found: Sequence,
    key: str,
    labels: set[int],
    chosen: Classes,
    metrics: Figures,
) -> list[tuple[int, Figures]]:
    """Return of each class TrackEval's figures of one sequence; `labels` are all of the result."""
    if not chosen.masks and 0 in {item.label for item in found} - chosen.unnamed - chosen.present:
        raise FormatError(f"{found.path}: has rows without a class; choose one: --classes")
    figures = []
    for label in chosen.wanted:
        mine = chosen.mine(label, labels)
        data = prepare(truth, found, label, mine, chosen.distractors[key]).for_trackeval()
        with redirect_stdout(StringIO()):
            figures.append((label, {k: m.eval_sequence(data) for k, m in metrics.items()}))
    return figures


def _combine(
    parts: dict[str, Figures], metrics: Figures, *, masks: bool
) -> dict[str | None, Score]:
    """Return the scores of all sequences together, under None, and of each."""
    whole = {
        name: metric.combine_sequences({key: part[name] for key, part in parts.items()})
        for name, metric in metrics.items()
    }
    return {key: _to_score(part, masks=masks) for key, part in ((None, whole), *parts.items())}


def _metrics() -> Figures:
    """Return TrackEval's metrics by name; raise MissingExtraError where it is not installed."""
    try:
        with redirect_stdout(StringIO()):  # it prints settings, and what it cannot import
            from trackeval.metrics import CLEAR, HOTA, Count, Identity

            return {"HOTA": HOTA(), "CLEAR": CLEAR(), "Identity": Identity(), "Count": Count()}
    except ImportError as exc:
        raise MissingExtraError("tracker evaluate", "eval") from exc


def _to_score(raw: Figures, *, masks: bool) -> Score:
    curves = {panel: 100 * np.asarray(raw["HOTA"][panel], np.float64) for panel in PANELS}
    values = {panel: float(curve.mean()) for panel, curve in curves.items()}
    numbers = raw["CLEAR"] | raw["Identity"] | raw["Count"]
    shares = {"sMOTSA": "sMOTA", "MOTSA": "MOTA"} if masks else {}
    for name, of in (shares | {"MOTA": "MOTA", "IDF1": "IDF1"}).items():
        values[name] = 100 * float(numbers[of])
    return Score(values | {k: int(numbers[k]) for k in _NUMBERS}, curves)
