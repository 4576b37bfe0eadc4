"""Refine tracks when the whole video is known: join, drop, fill, and begin where objects began.

What an online tracker cannot do: give a track its first frames, seen before it was sure; join two
tracks of one object; take back a track that proved to be a ghost; fill the frames in between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tracker.associate.cost import assign, centre_shift
from tracker.boxes import box_iou, cxcywh_to_xyxy, expand, xyxy_to_cxcywh
from tracker.config import RefineConfig
from tracker.masks import Mask, MaskJson
from tracker.types import Tracks

FloatArray = npt.NDArray[np.float64]
MOTION_S = 1.0  # s of a track's end that tell how it moved there


@dataclass(slots=True)
class Seen:
    """One track in one frame; the mask compressed, for a whole video must fit in memory."""

    frame: int  # position in the video, from 0
    box: FloatArray  # (4,) xyxy
    score: float
    label: int
    mask: MaskJson | None
    source: int  # row of the frame's detections, -1 = filled in


def refined(
    found: Sequence[Sequence[Seen]],
    times_s: Sequence[float],
    stretches_of: Sequence[int],
    looked: Sequence[bool],
    config: RefineConfig,
) -> Iterator[Tracks]:
    """Yield the refined tracks of each frame, in the order of the frames.

    `found` are all tracks; of each frame: its time, the number of its stretch of pictures of one
    size (between two nothing is joined or filled), and whether it was detected.
    """
    times, stretches = np.array(times_s), np.array(stretches_of, np.int64)
    looks = np.cumsum(looked, dtype=np.int64)
    tracks = [sorted(track, key=lambda s: s.frame) for track in found]
    tracks = _join(tracks, times, stretches, config)
    usual = _usual_scores(tracks)
    tracks = [track for track in tracks if _is_real(track, usual, config)]
    tracks.sort(key=lambda track: track[0].frame)
    frames: list[list[tuple[int, int, Seen]]] = [[] for _ in times_s]
    for id_, track in enumerate(tracks, start=1):
        label = _vote(track)
        for sighting in _fill(track, times, stretches, looks, config):
            frames[sighting.frame].append((id_, label, sighting))
    for members in frames:
        yield _to_tracks(members)


def _usual_scores(tracks: list[list[Seen]]) -> dict[int, float]:
    """Return what detections of each class score on average, over all tracks."""
    scores: dict[int, list[float]] = defaultdict(list)
    for track in tracks:
        scores[_vote(track)] += [sighting.score for sighting in track]
    return {label: float(np.mean(values)) for label, values in scores.items()}


def _is_real(track: list[Seen], usual: dict[int, float], config: RefineConfig) -> bool:
    """Whether a track was seen often, and about as well as its class usually is."""
    score = float(np.mean([sighting.score for sighting in track]))
    least = max(config.min_score, config.min_share * usual[_vote(track)])
    return len(track) >= config.min_hits and score >= least


def _vote(track: list[Seen]) -> int:
    """Return the class with the highest sum of scores; the lower one wins a tie."""
    votes: dict[int, float] = defaultdict(float)
    for sighting in track:
        votes[sighting.label] += sighting.score
    return min(votes, key=lambda label: (-votes[label], label))


# ---- joining ------------------------------------------------------------------------------------


def _join(
    tracks: list[list[Seen]],
    times: FloatArray,
    stretches: npt.NDArray[np.int64],
    config: RefineConfig,
) -> list[list[Seen]]:
    """Join tracks of which one ends where, a while later, the other begins.

    Both are led on to the middle of the gap as they moved; the IoU of the widened boxes there
    decides, for all tracks at once, and again until nothing joins.
    """
    while len(tracks) > 1 and config.join_s > 0:
        similarities = _join_similarities(tracks, times, stretches, config)
        if not similarities:
            break
        tracks = _chain(tracks, _successors(similarities))
    return tracks


def _join_similarities(
    tracks: list[list[Seen]],
    times: FloatArray,
    stretches: npt.NDArray[np.int64],
    config: RefineConfig,
) -> dict[tuple[int, int], float]:
    """Return how well the first of two tracks, by their numbers, goes on as the second."""
    begins = np.array([times[track[0].frame] for track in tracks])
    by_begin = np.argsort(begins, kind="stable")
    labels = [_vote(track) for track in tracks]
    found: dict[tuple[int, int], float] = {}
    for i, track in enumerate(tracks):
        end = _Motion(track, times, -1)
        first = np.searchsorted(begins[by_begin], end.time, side="right")
        last = np.searchsorted(begins[by_begin], end.time + config.join_s, side="right")
        for j in by_begin[first:last].tolist():
            other = tracks[j]
            one_stretch = stretches[track[-1].frame] == stretches[other[0].frame]
            if i == j or labels[i] != labels[j] or not one_stretch:
                continue
            similarity = _gap_similarity(end, _Motion(other, times, 0), config.join_scale)
            if similarity >= config.join_similarity:
                found[i, j] = similarity
    return found


def _gap_similarity(end: _Motion, start: _Motion, scale: float) -> float:
    """Return the IoU of the widened boxes in the middle of the gap, less for unlike heights."""
    middle = (start.time + end.time) / 2
    a, b = (expand(motion.at(middle)[None], scale) for motion in (end, start))
    return float(box_iou(a, b)[0, 0]) * _same_size(end.box, start.box)


def _successors(similarities: dict[tuple[int, int], float]) -> dict[int, int]:
    """Return which track goes on as which, all chosen at once."""
    rows, columns = (sorted({pair[side] for pair in similarities}) for side in (0, 1))
    table = np.zeros((len(rows), len(columns)))
    for (i, j), similarity in similarities.items():
        table[rows.index(i), columns.index(j)] = similarity
    return {rows[i]: columns[j] for i, j in assign(table, 0.0)}


def _chain(tracks: list[list[Seen]], successors: dict[int, int]) -> list[list[Seen]]:
    """Append to every track that is nobody's successor those it goes on as."""
    joined = []
    for head in sorted(set(range(len(tracks))) - set(successors.values())):
        chain = list(tracks[head])
        while head in successors:
            head = successors[head]
            chain += tracks[head]
        joined.append(chain)
    return joined


class _Motion:
    """Where a track is, and how it moves, at its end (side -1) or beginning (side 0)."""

    def __init__(self, track: list[Seen], times: FloatArray, side: int) -> None:
        edge = track[side]
        self.time, self.box = float(times[edge.frame]), edge.box
        near = [s for s in track if abs(times[s.frame] - self.time) <= MOTION_S]
        t = np.array([times[s.frame] - self.time for s in near])
        boxes = xyxy_to_cxcywh(np.stack([s.box for s in near]))
        self._size = np.median(boxes[:, 2:], axis=0)
        self._centre = boxes[0 if side == 0 else -1, :2]
        spread = float((t**2).sum())
        self._velocity = (
            (t[:, None] * (boxes[:, :2] - self._centre)).sum(axis=0) / spread
            if (spread > 0)
            else np.zeros(2)
        )

    def at(self, time: float) -> FloatArray:
        """Return the box at a time nearby, (4,) xyxy."""
        centre = self._centre + self._velocity * (time - self.time)
        box = cxcywh_to_xyxy(np.concatenate([centre, self._size])[None])[0]
        return np.asarray(box, np.float64)


def _same_size(a: FloatArray, b: FloatArray) -> float:
    """Return the ratio of two boxes' heights, in [0, 1]."""
    ha, hb = max(a[3] - a[1], 1e-9), max(b[3] - b[1], 1e-9)
    return float(min(ha, hb) / max(ha, hb))


# ---- filling ------------------------------------------------------------------------------------


def _fill(
    track: list[Seen],
    times: FloatArray,
    stretches: npt.NDArray[np.int64],
    looks: npt.NDArray[np.int64],
    config: RefineConfig,
) -> Iterator[Seen]:
    """Yield the sightings and, in gaps that are short enough, smoothed boxes with moved masks."""
    gaps = [
        (a, b)
        for a, b in pairwise(track)
        if b.frame - a.frame > 1
        and (
            times[b.frame] - times[a.frame] <= config.fill_s + 1e-9
            or looks[b.frame] - looks[a.frame] == 1  # all frames in between were carried
        )
        and stretches[a.frame] == stretches[b.frame]
    ]
    yield from track
    smooth: dict[int, tuple[int, FloatArray]] = {}  # stretch -> its first frame and all boxes
    for a, b in gaps:
        stretch = int(stretches[a.frame])
        if stretch not in smooth:
            part = [s for s in track if stretches[s.frame] == stretch]
            smooth[stretch] = part[0].frame, _smooth(part, times)
        first, boxes = smooth[stretch]
        for frame in range(a.frame + 1, b.frame):
            box = boxes[frame - first]
            nearer = a if times[frame] - times[a.frame] <= times[b.frame] - times[frame] else b
            score = min(a.score, b.score)
            mask = _move(nearer.mask, nearer.box, box)
            yield Seen(frame, box, score, nearer.label, mask, -1)


def _smooth(track: list[Seen], times: FloatArray) -> FloatArray:
    """Return smoothed boxes for every frame of the track's span, (F, 4) xyxy.

    Rauch-Tung-Striebel smoother over a constant-velocity model of centre and size, filterpy's.
    """
    from filterpy.kalman import KalmanFilter  # half a second that every start would pay

    first, last = track[0].frame, track[-1].frame
    seen = {s.frame: xyxy_to_cxcywh(s.box[None])[0] for s in track}
    size = float(np.sqrt(np.prod(np.median([z[2:] for z in seen.values()], axis=0))))
    size = max(size, 1.0)
    kalman = KalmanFilter(dim_x=8, dim_z=4)
    kalman.x[:4, 0] = seen[first]
    kalman.H = np.hstack([np.eye(4), np.zeros((4, 4))])
    kalman.R = np.eye(4) * (0.05 * size) ** 2
    kalman.P = np.diag([(0.1 * size) ** 2] * 4 + [(2 * size) ** 2] * 2 + [(0.5 * size) ** 2] * 2)
    power = np.array([0.7, 0.7, 0.3, 0.3]) * size
    means, covariances, fs, qs = [], [], [], []
    for frame in range(first, last + 1):
        dt = float(times[frame] - times[frame - 1]) if frame > first else 0.0
        f, q = np.eye(8), np.zeros((8, 8))
        f[:4, 4:] = dt * np.eye(4)
        for k in range(4):
            q[k, k], q[k + 4, k + 4] = power[k] ** 2 * dt**3 / 3, power[k] ** 2 * dt
            q[k, k + 4] = q[k + 4, k] = power[k] ** 2 * dt**2 / 2
        kalman.predict(F=f, Q=q)
        measured = seen.get(frame)
        kalman.update(None if measured is None else measured.reshape(4, 1))
        means.append(kalman.x.copy())
        covariances.append(kalman.P.copy())
        fs.append(f)
        qs.append(q)
    smooth = kalman.rts_smoother(np.array(means), np.array(covariances), Fs=fs, Qs=qs)[0]
    boxes = np.maximum(smooth[:, :4, 0], [[-1e9, -1e9, 1, 1]])
    return np.asarray(cxcywh_to_xyxy(boxes), np.float64)


def _move(mask: MaskJson | None, box: FloatArray, to: FloatArray) -> MaskJson | None:
    if mask is None:
        return None
    dx, dy = centre_shift(box, to)
    return mask._replace(x=mask.x + dx, y=mask.y + dy)


# ---- values -------------------------------------------------------------------------------------


def _to_tracks(members: Sequence[tuple[int, int, Seen]]) -> Tracks:
    members = sorted(members, key=lambda member: member[0])
    return Tracks(
        ids=np.array([id_ for id_, _, _ in members], np.int64),
        boxes=np.array([s.box for _, _, s in members], np.float32).reshape(-1, 4),
        scores=np.array([s.score for _, _, s in members], np.float32),
        labels=np.array([label for _, label, _ in members], np.int64),
        masks=tuple(Mask.from_json(s.mask).tight() if s.mask else None for _, _, s in members),
        sources=np.array([s.source for _, _, s in members], np.int64),
    )
