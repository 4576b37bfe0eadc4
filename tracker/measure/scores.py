"""Score results against ground truth with TrackEval's metrics: HOTA, CLEAR and Identity.

Truth is MOTChallenge text (frames from 1: frame,id,x,y,w,h,considered,class,visibility) or MOTS
text (frames from 0: frame id class height width rle; class 10 = ignore region).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tracker.errors import ConfigError, FormatError, MissingExtraError
from tracker.formats import is_log
from tracker.formats.mots import holds_masks
from tracker.measure.preparing import mix_ups, prepare
from tracker.measure.truth import Sequence, read

FloatArray = npt.NDArray[np.float64]

ALPHAS = np.arange(0.05, 0.99, 0.05)  # IoU from which a pair counts, (19,), as TrackEval's HOTA
Figures = dict[str, Any]  # of TrackEval: its metrics by name, or what they found
PANELS = ("HOTA", "DetA", "AssA")
# By whether there are masks: MOTS, MOTChallenge; 0 = the file tells no class
_NAMES = {True: {1: "car", 2: "pedestrian"}, False: {0: "object", 1: "pedestrian"}}
_DISTRACTORS = frozenset({2, 7, 8, 12})  # person on vehicle, static person, distractor, reflection
_NUMBERS = ("IDSW", "Frag", "IDs", "GT_IDs")


class Score(NamedTuple):
    """The figures of one result for one class, on one sequence or on all."""

    # Per cent: PANELS, MOTA, IDF1, of masks sMOTSA, MOTSA; numbers: IDSW, Frag, IDs, GT_IDs (truth)
    values: dict[str, float]
    curves: dict[str, FloatArray]  # PANELS over ALPHAS, (19,) per cent


class Evaluation(NamedTuple):
    """All figures: class name -> result name -> sequence name, None for all combined."""

    scores: dict[str, dict[str, dict[str | None, Score]]]
    note: str  # what was left out; empty if nothing


@dataclass(frozen=True, slots=True)
class _Classes:
    """Which classes are scored, and which results count as them."""

    masks: bool
    wanted: list[int]
    present: frozenset[int]  # classes of the truth that may be scored
    distractors: frozenset[int]  # boxes matched to them are no mistakes
    lost: list[int]  # distractors of the truth, which are not scored

    @property
    def unnamed(self) -> set[int]:
        """Labels of rows that tell no class, where these are welcome."""
        return {0} if not self.masks and len(self.wanted) == 1 else set()

    def mine(self, label: int, labels: set[int]) -> set[int]:
        """Return which of a result's labels count as the class `label`."""
        return labels if not self.masks and len(self.present) == 1 else {label} | self.unnamed


def evaluate(
    truth_files: Mapping[str, Path],
    result_files: Mapping[str, Mapping[str, Path]],
    classes: Collection[int] = (),
) -> Evaluation:
    """Score results (name -> sequence -> file) against the truth (sequence -> file).

    A result may also be a run's log, in any format, frame by index. Where box truth has one class,
    all of a result counts as it. `classes` are the numbers to score, by default all of the truth.
    Raises FormatError that names file and line, ConfigError for a missing class, and
    MissingExtraError.
    """
    metrics = _metrics()
    chosen = _choose(truth_files, classes)
    raw: dict[tuple[int, str], Figures] = defaultdict(dict)
    notes: list[str] = []
    if chosen.lost:
        notes.append(
            f"classes {chosen.lost} are distractors in MOTChallenge: they are not scored unless "
            "named"
        )
    for key, path in truth_files.items():
        truth = read(path, masks=chosen.masks)
        for name, files in result_files.items():
            found = read(files[key], masks=chosen.masks)
            notes += [f"{name}, {key}: {why}" for why in mix_ups(truth, found)]
            for label, figures in _score_sequence(truth, found, chosen, metrics):
                raw[label, name][key] = figures
    scores: dict[str, dict[str, dict[str | None, Score]]] = defaultdict(dict)
    for label in chosen.wanted:
        for name in result_files:
            title = _NAMES[chosen.masks].get(label, str(label))
            scores[title][name] = _combine(raw[label, name], metrics, masks=chosen.masks)
    return Evaluation(scores, "; ".join(notes))


def _choose(truth_files: Mapping[str, Path], classes: Collection[int]) -> _Classes:
    """Look at the truth's classes; raise ConfigError where one that is asked for is not there."""
    masks = any(not is_log(path) and holds_masks(path) for path in truth_files.values())
    first_look = (read(path, masks=masks, decode=False) for path in truth_files.values())
    counted = {item.label for truth in first_look for item in truth if item.counted}
    distractors = frozenset() if masks else _DISTRACTORS - set(classes)
    present = frozenset(counted - distractors)
    if not present or not present.issuperset(classes):
        lacking = f"class {min(set(classes) - present)}" if present else "objects that count"
        raise ConfigError(f"the ground truth has no {lacking}; its classes are {sorted(present)}")
    wanted = sorted(set(classes) or present)
    return _Classes(masks, wanted, present, distractors, sorted(counted & distractors))


def _score_sequence(
    truth: Sequence, found: Sequence, chosen: _Classes, metrics: Figures
) -> list[tuple[int, Figures]]:
    """Return of each class TrackEval's figures of one sequence."""
    labels = {item.label for item in found}
    if not chosen.masks and 0 in labels - chosen.unnamed - chosen.present:
        raise FormatError(f"{found.path}: has rows without a class; choose one: --classes")
    figures = []
    for label in chosen.wanted:
        mine = chosen.mine(label, labels)
        data = prepare(truth, found, label, mine, chosen.distractors).for_trackeval()
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
