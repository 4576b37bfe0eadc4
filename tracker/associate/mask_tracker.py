"""The life of a track: tentative, confirmed, lost, gone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tracker.associate.cost import assign, move_to, similarity
from tracker.associate.kalman import KalmanFilter
from tracker.associate.track import Life, Track, coast, rescale, track_from_json, track_to_json
from tracker.boxes import (
    box_area,
    box_intersection,
    box_iou,
    cxcywh_to_xyxy,
    expand,
    xyxy_to_cxcywh,
)
from tracker.config import TrackerConfig
from tracker.masks import intersection
from tracker.types import Detections, Image, Tracks

FloatArray = npt.NDArray[np.float64]
STATE_VERSION = 1


class MaskTracker:
    """Link detections into tracks by mask IoU, box IoU and a Kalman filter.

    Each frame: predict every track to the frame's time; match confident detections; match weak
    ones to tracks seen a moment ago (ByteTrack's idea, arXiv 2110.06864); look for lost tracks in
    widened boxes; start tracks from what is left; forget the long lost. One instance per video.
    """

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.config = config or TrackerConfig()
        self._filter = KalmanFilter(
            position_noise=self.config.position_noise,
            acceleration_noise=self.config.acceleration_noise,
            size_noise=self.config.size_noise,
        )
        self._tracks: list[Track] = []
        self._next_id = 1
        self._now: float | None = None
        self._step = 0.0  # s, between the latest two frames
        self._size: tuple[int, int] | None = None  # px, of the frames, where they are given

    def update(
        self,
        detections: Detections,
        time: float,
        image: Image | None = None,
    ) -> Tracks:
        """Advance to `time` (s) and return the confirmed tracks present there.

        Raises ValueError if time runs backwards. Of `image` only the size is used.
        """
        if self._now is not None and time < self._now:
            raise ValueError(f"time must not run backwards, got {time} s after {self._now} s")
        if image is not None:
            self._fit_to(image.shape[1], image.shape[0])
        self._predict(time)
        self._forget(time)
        was_seen = [track for track in self._tracks if track.source >= 0]
        for track in self._tracks:
            track.source = -1
        left_over = self._match(detections, time)
        for track in was_seen:
            if track.source < 0:
                coast(track)
        self._start(detections, left_over, time)
        return self._report(time)

    def state(self) -> dict[str, Any]:
        """Return everything needed to continue, as JSON types."""
        return {
            "version": STATE_VERSION,
            "next_id": self._next_id,
            "now": self._now,
            "size": self._size,
            "tracks": [track_to_json(track) for track in self._tracks],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken; raise ValueError for another version."""
        if state.get("version") != STATE_VERSION:
            raise ValueError(f"state version must be {STATE_VERSION}, got {state.get('version')!r}")
        self._next_id, self._now = int(state["next_id"]), state["now"]
        self._size = tuple(state["size"]) if state["size"] else None
        self._tracks = [track_from_json(item) for item in state["tracks"]]

    def _fit_to(self, width: int, height: int) -> None:
        """Follow a change of the picture's size: what is known is scaled to the new one."""
        if self._size not in (None, (width, height)):
            for track in self._tracks:
                rescale(track, width / self._size[0], height / self._size[1])
        self._size = (width, height)

    # ---- prediction -------------------------------------------------------------------------

    def _predict(self, time: float) -> None:
        dt = 0.0 if self._now is None else time - self._now
        self._now, self._step = time, dt
        if not self._tracks:
            return
        mean, covariance = self._stacked()
        lost = np.array([track.source < 0 for track in self._tracks])
        mean[lost, :, 1] *= np.exp(-dt / self.config.lost_damping_s)
        mean, covariance = self._filter.predict(mean, covariance, dt)
        for track, m, c in zip(self._tracks, mean, covariance, strict=True):
            track.mean, track.covariance = m, c

    def _stacked(self) -> tuple[FloatArray, FloatArray]:
        return (
            np.stack([track.mean for track in self._tracks]),
            np.stack([track.covariance for track in self._tracks]),
        )

    # ---- matching ---------------------------------------------------------------------------

    def _match(self, detections: Detections, time: float) -> list[int]:
        """Match in three stages; return the confident detections that nobody took."""
        config, scores = self.config, detections.scores
        is_confident = scores >= config.confident_score
        confident = np.flatnonzero(is_confident).tolist()
        weak = np.flatnonzero(~is_confident & (scores >= config.weak_score)).tolist()
        if not self._tracks or not (confident or weak):
            return confident
        alike = self._similarity(detections, confident + weak)
        minimum = self._minimum(detections)

        free = list(range(len(self._tracks)))
        part = np.ix_(free, confident)
        self._take(assign(alike[part], minimum[part]), free, confident, detections, time)

        # At low frame rates the frame before this one is always recent.
        gap = max(config.weak_gap_s, self._step)
        recent = [i for i in free if time - self._tracks[i].seen <= gap + 1e-9]
        part = np.ix_(recent, weak)
        self._take(assign(alike[part], minimum[part]), recent, weak, detections, time)

        lost = [i for i in free if self._tracks[i].life is Life.LOST]
        wide = self._widened_similarity(detections, lost, confident, time)
        matches = assign(wide, config.recovery_similarity)
        self._take(matches, lost, confident, detections, time)
        return confident

    def _take(
        self,
        matches: list[tuple[int, int]],
        rows: list[int],
        columns: list[int],
        detections: Detections,
        time: float,
    ) -> None:
        """Correct the matched tracks and strike both sides off the lists they were chosen from."""
        pairs = [(rows[i], columns[j]) for i, j in matches]
        self._correct(pairs, detections, time)
        for row, column in pairs:
            rows.remove(row)
            columns.remove(column)

    def _similarity(self, detections: Detections, columns: list[int]) -> npt.NDArray[Any]:
        """Blended IoU of all predicted tracks and the detections `columns`, (T, N)."""
        mean, covariance = self._stacked()
        predicted = cxcywh_to_xyxy(mean[:, :, 0])
        boxes = detections.boxes[columns]
        distance = self._filter.centre_distance(mean, covariance, xyxy_to_cxcywh(boxes))
        moved = [
            move_to(track.mask, track.box, box) if track.mask is not None else None
            for track, box in zip(self._tracks, predicted, strict=True)
        ]
        result = np.zeros((len(self._tracks), len(detections)))
        result[:, columns] = similarity(
            predicted,
            moved,
            boxes,
            [detections.masks[j] for j in columns],
            gate=distance <= self.config.gate,
            mask_weight=self.config.mask_weight,
        )
        return result

    def _minimum(self, detections: Detections) -> npt.NDArray[Any]:
        """The similarity that a pair must have, (T, N): more where the classes differ."""
        labels = np.array([track.label for track in self._tracks])
        same = labels[:, None] == detections.labels[None, :]
        return np.where(same, self.config.min_similarity, self.config.class_change_similarity)

    def _widened_similarity(
        self, detections: Detections, rows: list[int], columns: list[int], time: float
    ) -> npt.NDArray[Any]:
        """IoU of boxes widened about their centres, the more the longer unseen; one class only."""
        result = np.zeros((len(rows), len(columns)))
        boxes, labels = detections.boxes[columns], detections.labels[columns]
        for k, row in enumerate(rows if columns else ()):
            track = self._tracks[row]
            gap = min(time - track.seen, self.config.recovery_growth_s)
            scale = self.config.recovery_scale * (1 + gap / self.config.recovery_growth_s)
            predicted = cxcywh_to_xyxy(track.mean[None, :, 0])
            iou = box_iou(expand(predicted, scale), expand(boxes, scale))[0]
            result[k] = np.where(labels == track.label, iou, 0.0)
        return result

    def _correct(self, pairs: list[tuple[int, int]], detections: Detections, time: float) -> None:
        if not pairs:
            return
        tracks = [self._tracks[i] for i, _ in pairs]
        columns = [j for _, j in pairs]
        boxes = detections.boxes[columns].astype(np.float64)
        mean, covariance = self._filter.update(
            np.stack([track.mean for track in tracks]),
            np.stack([track.covariance for track in tracks]),
            xyxy_to_cxcywh(boxes),
        )
        for k, (track, column) in enumerate(zip(tracks, columns, strict=True)):
            track.mean, track.covariance, track.box = mean[k], covariance[k], boxes[k]
            track.mask = detections.masks[column]
            self._average(track, time)
            track.score, track.seen, track.source = float(detections.scores[column]), time, column
            track.hits += 1
            label = int(detections.labels[column])
            track.votes[label] = track.votes.get(label, 0.0) + track.score
            if track.hits >= self.config.confirm_hits or track.score >= self.config.instant_score:
                self._confirm(track)

    def _average(self, track: Track, time: float) -> None:
        """Take the newest motion and size into the averages that carry a lost track."""
        newest = np.concatenate([track.mean[:2, 1], track.mean[2:, 0]])
        share = 1 - np.exp((track.seen - time) / self.config.cruise_s)
        track.cruise = track.cruise + max(share, 1 / (track.hits + 1)) * (newest - track.cruise)

    # ---- birth and end ----------------------------------------------------------------------

    def _start(self, detections: Detections, left_over: list[int], time: float) -> None:
        taken = [track.source for track in self._tracks if track.source >= 0]
        columns: list[int] = []
        for column in left_over:  # by descending score: of two duplicates the better one stays
            if detections.scores[column] < self.config.new_score:
                continue
            if not self._is_duplicate(detections, column, taken + columns):
                columns.append(column)
        if not columns:
            return
        boxes = detections.boxes[columns].astype(np.float64)
        mean, covariance = self._filter.initiate(xyxy_to_cxcywh(boxes))
        for k, column in enumerate(columns):
            score = float(detections.scores[column])
            track = Track(
                mean=mean[k],
                covariance=covariance[k],
                box=boxes[k],
                mask=detections.masks[column],
                score=score,
                seen=time,
                cruise=np.concatenate([mean[k, :2, 1], mean[k, 2:, 0]]),
                source=column,
                votes={int(detections.labels[column]): score},
            )
            if score >= self.config.instant_score or self.config.confirm_hits == 1:
                self._confirm(track)
            self._tracks.append(track)

    def _is_duplicate(self, detections: Detections, column: int, others: list[int]) -> bool:
        """Whether a detection lies inside one of `others` of its class."""
        label = detections.labels[column]
        others = [row for row in others if detections.labels[row] == label]
        if not others:
            return False
        mask, box = detections.masks[column], detections.boxes[column : column + 1]
        inside = box_intersection(box, detections.boxes[others])[0] / max(box_area(box)[0], 1e-9)
        for row, of_box in zip(others, inside, strict=True):
            other = detections.masks[row]
            covered = of_box
            if mask is not None and other is not None and of_box > 0:
                covered = intersection(mask, other) / max(mask.area, 1)
            if covered >= self.config.duplicate_overlap:
                return True
        return False

    def _confirm(self, track: Track) -> None:
        if not track.id:
            track.id = self._next_id
            self._next_id += 1

    def _forget(self, time: float) -> None:
        def kept(track: Track) -> bool:
            if track.id:
                return time - track.seen <= self.config.memory_s
            # At low frame rates one frame is longer than the gap: it may always be missed.
            gap = max(self.config.tentative_gap_s, self._step)
            return time - track.seen <= min(gap, self.config.memory_s) + 1e-9

        self._tracks = [track for track in self._tracks if kept(track)]

    # ---- report -----------------------------------------------------------------------------

    def _report(self, time: float) -> Tracks:
        present = [
            track
            for track in self._tracks
            if track.id
            and (track.source >= 0 or 0 <= time - track.seen - 1e-9 <= self.config.coast_s)
        ]
        if not present:
            return Tracks.empty()
        present.sort(key=lambda track: track.id)
        predicted = cxcywh_to_xyxy(np.stack([track.mean[:, 0] for track in present]))
        boxes = [
            track.box if track.source >= 0 else predicted[k] for k, track in enumerate(present)
        ]
        return Tracks(
            ids=np.array([track.id for track in present], np.int64),
            boxes=np.array(boxes, np.float32),
            scores=np.array([track.score for track in present], np.float32),
            labels=np.array([track.label for track in present], np.int64),
            masks=tuple(track.mask if track.source >= 0 else None for track in present),
            sources=np.array([track.source for track in present], np.int64),
        )
