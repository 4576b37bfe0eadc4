"""Score results against ground truth with TrackEval's metrics: HOTA, CLEAR and Identity.

Truth is MOTChallenge text (frames from 1: frame,id,x,y,w,h,considered,class,visibility) or MOTS
text (frames from 0: frame id class height width rle; class 10 = ignore region). Before they are
scored, results lose what TrackEval's datasets take from them: boxes matched to a distractor
(MotChallenge2DBox) and unmatched masks that lie in an ignore region (KittiMOTS).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from tracker.boxes import box_iou
from tracker.errors import ConfigError, FormatError, MissingExtraError
from tracker.files import new_file, read_lines
from tracker.formats import jsonl
from tracker.formats.mots import without_overlap
from tracker.masks import Mask, intersection, rle_to_mask

FloatArray = npt.NDArray[np.float64]

ALPHAS = np.arange(0.05, 0.99, 0.05)  # IoU from which a pair counts, (19,), as TrackEval's HOTA
PANELS = ("HOTA", "DetA", "AssA")
_MOTS_NUMBERS = {"car": 1, "pedestrian": 2, "person": 2}  # of the class names in a run's log
# By whether there are masks: MOTS, MOTChallenge; 0 = the file tells no class
_NAMES = {True: {1: "car", 2: "pedestrian"}, False: {0: "object", 1: "pedestrian"}}
_DISTRACTORS = frozenset({2, 7, 8, 12})  # person on vehicle, static person, distractor, reflection
_NOTHING = Mask(0, 0, np.zeros((0, 0), np.bool_))
_HALF = 0.5 - float(np.finfo("float").eps)  # as TrackEval compares


class Score(NamedTuple):
    """The figures of one result for one class, on one sequence or on all."""

    # Per cent: PANELS, MOTA, IDF1, of masks sMOTSA, MOTSA; numbers: IDSW, Frag, IDs, GT_IDs (truth)
    values: dict[str, float]
    curves: dict[str, FloatArray]  # PANELS over ALPHAS, (19,) per cent


class Evaluation(NamedTuple):
    """All figures: class name -> result name -> sequence name, None for all combined."""

    scores: dict[str, dict[str, dict[str | None, Score]]]
    note: str  # what was left out; empty if nothing


def evaluate(
    truth_files: Mapping[str, Path],
    result_files: Mapping[str, Mapping[str, Path]],
    classes: Collection[int] = (),
) -> Evaluation:
    """Score results (name -> sequence -> file) against the truth (sequence -> file).

    A result may also be a run's tracks.jsonl, frame by index. Where box truth has one class, all of
    a result counts as it. `classes` are the numbers to score, by default all of the truth. Raises
    FormatError that names file and line, ConfigError for a missing class, and MissingExtraError.
    """
    metrics = _metrics()
    masks = any(_holds_masks(path) for path in truth_files.values())
    first_look = (_read(path, masks=masks, decode=False) for path in truth_files.values())
    counted = {item.label for truth in first_look for item in truth if item.counted}
    distractors = frozenset() if masks else _DISTRACTORS - set(classes)
    present = counted - distractors
    if not present or not present.issuperset(classes):
        lacking = f"class {min(set(classes) - present)}" if present else "objects that count"
        raise ConfigError(f"the ground truth has no {lacking}; its classes are {sorted(present)}")
    wanted = sorted(set(classes) or present)
    unnamed = {0} if not masks and len(wanted) == 1 else set()  # rows without a class are welcome

    raw: dict[tuple[int, str], dict[str, Any]] = defaultdict(dict)
    notes: list[str] = []
    for key, path in truth_files.items():
        truth = _read(path, masks=masks)
        for name, files in result_files.items():
            found = _read(files[key], masks=masks)
            notes += [f"{name}, {key}: {why}" for why in _mix_ups(truth, found)]
            labels = {item.label for item in found}
            if not masks and 0 in labels - unnamed - present:
                raise FormatError(f"{found.path}: has rows without a class; choose one: --classes")
            for label in wanted:
                mine = labels if not masks and len(present) == 1 else {label} | unnamed
                data = _prepare(truth, found, label, mine, distractors)
                with redirect_stdout(StringIO()):
                    raw[label, name][key] = {k: m.eval_sequence(data) for k, m in metrics.items()}
    scores: dict[str, dict[str, dict[str | None, Score]]] = defaultdict(dict)
    for label, name in product(wanted, result_files):
        parts = raw[label, name]
        whole = {
            k: m.combine_sequences({key: part[k] for key, part in parts.items()})
            for k, m in metrics.items()
        }
        scores[_NAMES[masks].get(label, str(label))][name] = {
            key: _score(part, masks=masks) for key, part in ((None, whole), *parts.items())
        }
    lost = sorted(counted & distractors)
    if lost:
        notes.insert(
            0, f"classes {lost} are distractors in MOTChallenge: they are not scored unless named"
        )
    return Evaluation(scores, "; ".join(notes))


def plot(evaluation: Evaluation, path: Path) -> None:
    """Draw HOTA, DetA and AssA over alpha as PNG: a row of panels a class, a line a result.

    Raises SinkError, and MissingExtraError without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingExtraError("tracker evaluate --plot", "eval") from exc
    # Okabe and Ito's colours, which the colour-blind can tell apart; dashes go on where they end.
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
    dashes = [dash for dash in ("-", "--", ":") for _ in colours]
    rows = len(evaluation.scores)
    figure = Figure(figsize=(13.5, 0.4 + 4 * rows), dpi=120, layout="constrained")
    grid = figure.subplots(rows, len(PANELS), squeeze=False, sharey=True)
    for (label, results), row in zip(evaluation.scores.items(), grid, strict=True):
        for panel, axes in zip(PANELS, row, strict=True):
            axes.set_prop_cycle(color=colours * 3, linestyle=dashes)
            for name, scores in results.items():
                (line,) = axes.plot(ALPHAS, scores[None].curves[panel], marker="o", markersize=3)
                line.set_label(f"{scores[None].values[panel]:.1f}  {name}")
            axes.set(xlim=(0, 1), ylim=(0, 102), title=f"{label}: {panel}, %", xlabel="IoU alpha")
            axes.grid(color="#dddddd")
            for text in axes.legend(loc="lower left", title="mean", alignment="left").get_texts():
                text.set_parse_math(False)  # a name may hold a dollar
    with new_file(path, "wb") as file:
        figure.savefig(file, format="png")


class _Object(NamedTuple):
    """One object in one frame, as a file tells it."""

    id: int
    label: int  # 0 = the file tells no class
    box: tuple[float, float, float, float]  # xyxy px
    mask: Mask | None = None
    counted: bool = True  # false for a row of truth that is not to be considered


@dataclass(slots=True, eq=False)
class _Sequence:
    """All objects of one file; what adds to it raises ValueError."""

    path: Path
    masks: bool
    decode: bool  # false where only the classes are asked for
    frames: dict[int, dict[int, _Object]] = field(default_factory=lambda: defaultdict(dict))
    # Ignore regions are often as large as the frame: they stay RLE until one is asked for.
    ignored: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    size: tuple[int, int] | None = None  # height, width of the frames, px

    def __iter__(self) -> Iterator[_Object]:
        return (item for items in self.frames.values() for item in items.values())

    def add(self, index: int, item: _Object) -> None:
        items = self.frames[index]
        if item.id in items:
            raise ValueError(f"id {item.id} appears twice in frame {index + (not self.masks)}")
        for other in items.values() if item.mask else ():
            if item.mask and other.mask and intersection(item.mask, other.mask):
                raise ValueError(f"overlaps id {other.id} in frame {index}, which MOTS forbids")
        items[item.id] = item

    def add_mot(self, text: str) -> None:
        values: list[float] = []
        with suppress(ValueError):
            values = [float(value) for value in text.replace(",", " ").split()]
        if len(values) < 6 or not all(abs(value) < 1e9 for value in values):
            raise ValueError(f"must be numbers: frame,id,x,y,w,h and so on, got {text!r:.80}")
        frame, id_, x, y, w, h = values[:6]
        if frame != int(frame) or frame < 1 or id_ != int(id_) or id_ < 0:
            raise ValueError(f"frame and id must be whole, from 1 and 0, got {frame:g}, {id_:g}")
        if w < 0 or h < 0:
            raise ValueError(f"width and height must not be negative, got {w:g} x {h:g}")
        # In ten fields the last three are MOT15's place in the world, which is no class.
        has_class = len(values) in (8, 9) or values[8:] == [-1, -1]
        label = max(0, int(values[7])) if has_class else 0
        counted = len(values) < 7 or int(values[6]) != 0
        item = _Object(int(id_), label, (x, y, x + w, y + h), counted=counted)
        self.add(int(frame) - 1, item)

    def add_mots(self, text: str) -> None:
        fields = text.split()
        if len(fields) != 6 or not all(value.isdecimal() for value in fields[:5]):
            raise ValueError(f"must be frame id class height width rle, got {text!r:.80}")
        index, id_, label, height, width = (int(value) for value in fields[:5])
        if self.size not in (None, (height, width)):
            raise ValueError(f"frames must have one size, got {(height, width)} and {self.size}")
        self.size = height, width
        rle = {"size": [height, width], "counts": fields[5]}
        mask = rle_to_mask(rle) if self.decode else _NOTHING
        if label == 10:  # an ignore region
            self.ignored[index].append(rle)
        else:
            self.add(index, _Object(id_, label, mask.box, mask))

    def add_log(self) -> None:
        """Take a run's log as its export would be, but masks' classes go by their names."""
        log = jsonl.read(self.path)
        names = dict(enumerate(log.info.categories))
        for frame in log.frames:
            tracks, self.size = frame.tracks, (frame.height, frame.width)
            masks = dict(without_overlap(tracks)) if self.masks else {}
            for row in masks if self.masks else range(len(tracks)):
                label, mask = int(tracks.labels[row]), masks.get(row)
                if mask and label in names:
                    label = _MOTS_NUMBERS.get(names[label], 0)
                x1, y1, x2, y2 = mask.box if mask else tracks.boxes[row].tolist()
                self.add(frame.index, _Object(int(tracks.ids[row]), label, (x1, y1, x2, y2), mask))


def _read(path: Path, *, masks: bool, decode: bool = True) -> _Sequence:
    """Read a file of boxes or masks; raise FormatError that names file and line."""
    sequence = _Sequence(path, masks, decode)
    if path.suffix == ".jsonl":
        sequence.add_log()
        return sequence
    add = sequence.add_mots if masks else sequence.add_mot
    for number, text in read_lines(path):
        try:
            if text.strip():
                add(text)
        except (ValueError, OverflowError) as exc:
            raise FormatError(f"{path}:{number}: {exc}") from exc
    return sequence


def _holds_masks(path: Path) -> bool:
    """Tell MOTS from MOTChallenge text by the first line: five whole numbers and no sixth."""
    first = next((text for _, text in read_lines(path) if text.strip()), "")
    return bool(re.fullmatch(r"\s*(\d+\s+){5}(?![\d.]+\s*$)\S+\s*", first))


def _mix_ups(truth: _Sequence, found: _Sequence) -> Iterator[str]:
    """Say what makes a result score near nothing though its tracker may be good."""
    held = {index for index, items in found.frames.items() if items}
    if not held:
        yield "the result holds no objects"
        return
    if not held & truth.frames.keys():
        first, last = min(truth.frames, default=0), max(truth.frames, default=0)
        yield (
            f"no frame of the result ({min(held)} to {max(held)}, from 0) is one of the truth's "
            f"({first} to {last})"
        )
        return
    fits = {shift: _fit(truth, found, shift) for shift in (-1, 0, 1)}
    best = max(fits, key=lambda shift: fits[shift])
    if fits[best] > fits[0] + 0.03:
        way = "later" if best > 0 else "earlier"
        yield f"the result would fit better one frame {way}: do its frames count from 0 or from 1?"


def _fit(truth: _Sequence, found: _Sequence, shift: int) -> float:
    """Return the mean best box IoU of some of the result's objects, `shift` frames later."""
    common = sorted(k for k in found.frames if found.frames[k] and truth.frames.get(k + shift))
    best = []
    for index in common[:: len(common) // 100 + 1]:
        boxes = [
            np.array([item.box for item in sequence.frames[k].values()], np.float64)
            for sequence, k in ((truth, index + shift), (found, index))
        ]
        best += box_iou(*boxes).max(axis=0).tolist()
    return float(np.mean(best)) if best else 0.0


def _prepare(
    truth: _Sequence, found: _Sequence, label: int, mine: set[int], distractors: frozenset[int]
) -> dict[str, Any]:
    """Return what TrackEval's metrics take, of one class and the results' labels in `mine`."""
    if truth.masks and found.size not in (None, truth.size or found.size):
        raise FormatError(f"{found.path}: frames are {found.size} px, of the truth {truth.size}")
    data: dict[str, Any] = defaultdict(list)
    for index in sorted(truth.frames.keys() | found.frames.keys()):
        t = [o for o in truth.frames.get(index, {}).values() if not truth.masks or o.label == label]
        f = [o for o in found.frames.get(index, {}).values() if o.label in mine]
        iou = _similarity(t, f)
        rows, columns = _match(iou, -10_000.0 if truth.masks else 0.0)
        gone = {j for i, j in zip(rows, columns, strict=True) if t[i].label in distractors}
        unmatched = set(range(len(f))) - set(columns)
        if unmatched and index in truth.ignored:
            regions = [rle_to_mask(rle) for rle in truth.ignored[index]]
            gone = {j for j in unmatched if (m := f[j].mask) and _lies_in(regions, m)}
        rows = [i for i, o in enumerate(t) if o.label == label and o.counted]
        columns = [j for j in range(len(f)) if j not in gone]
        data["gt_ids"].append([t[i].id for i in rows])
        data["tracker_ids"].append([f[j].id for j in columns])
        data["similarity_scores"].append(iou[rows][:, columns])
    data["num_timesteps"] = len(data["gt_ids"])
    for side in ("gt", "tracker"):
        parts = data[f"{side}_ids"]
        number = {id_: k for k, id_ in enumerate(sorted({i for ids in parts for i in ids}))}
        data[f"{side}_ids"] = [np.array([number[i] for i in ids], int) for ids in parts]
        data[f"num_{side}_ids"], data[f"num_{side}_dets"] = len(number), sum(map(len, parts))
    return data


def _similarity(truth: list[_Object], found: list[_Object]) -> FloatArray:
    """Return pairwise IoU, (len(truth), len(found)); of masks from whole numbers of pixels."""
    boxes = [np.array([o.box for o in part], float).reshape(-1, 4) for part in (truth, found)]
    iou = np.array(box_iou(*boxes), float)
    for i, j in np.argwhere(iou > 0).tolist():  # the box of a mask is its window
        if (a := truth[i].mask) and (b := found[j].mask):
            both = intersection(a, b)
            iou[i, j] = both / (a.area + b.area - both)
    return iou


def _match(iou: FloatArray, forbidden: float) -> tuple[list[int], list[int]]:
    """Return rows and columns paired at IoU 0.5, by the very matrix of TrackEval's datasets."""
    worth = np.where(iou < _HALF, forbidden, iou)
    rows, columns = linear_sum_assignment(-worth)
    real = worth[rows, columns] > 0
    return rows[real].tolist(), columns[real].tolist()


def _lies_in(regions: list[Mask], mask: Mask) -> bool:
    """Tell whether more than half of a mask lies in the regions, which may overlap."""
    inside = np.zeros_like(mask.bits)
    for region in regions:
        part = region.moved(-mask.x, -mask.y).clipped(mask.bits.shape[1], mask.bits.shape[0])
        inside[part.y : part.box[3], part.x : part.box[2]] |= part.bits
    return int(np.count_nonzero(inside & mask.bits)) > mask.area / 2


def _metrics() -> dict[str, Any]:
    """Return TrackEval's metrics by name; raise MissingExtraError where it is not installed."""
    try:
        with redirect_stdout(StringIO()):  # it prints settings, and what it cannot import
            from trackeval.metrics import CLEAR, HOTA, Count, Identity

            return {"HOTA": HOTA(), "CLEAR": CLEAR(), "Identity": Identity(), "Count": Count()}
    except ImportError as exc:
        raise MissingExtraError("tracker evaluate", "eval") from exc


def _score(raw: dict[str, Any], *, masks: bool) -> Score:
    curves = {panel: 100 * np.asarray(raw["HOTA"][panel], np.float64) for panel in PANELS}
    values = {panel: float(curve.mean()) for panel, curve in curves.items()}
    numbers = raw["CLEAR"] | raw["Identity"] | raw["Count"]
    shares = {"sMOTSA": "sMOTA", "MOTSA": "MOTA"} if masks else {}
    for name, of in (shares | {"MOTA": "MOTA", "IDF1": "IDF1"}).items():
        values[name] = 100 * float(numbers[of])
    return Score(values | {k: int(numbers[k]) for k in ("IDSW", "Frag", "IDs", "GT_IDs")}, curves)
