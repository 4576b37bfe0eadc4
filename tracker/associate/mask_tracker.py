"""The life of a track: tentative, confirmed, lost, gone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tracker.associate.camera_motion import CameraMotion
from tracker.associate.flow import ObjectFlow
from tracker.associate.gallery import Gallery
from tracker.associate.kalman import KalmanFilter
from tracker.associate.matching import is_duplicate, match
from tracker.associate.track_table import Past, TrackTable
from tracker.boxes import box_area, cxcywh_to_xyxy, xyxy_to_cxcywh
from tracker.config import TrackerConfig
from tracker.snapshot import TrackerState
from tracker.types import Detections, Image, Sighting, Tracks

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

CUT_TOLERANCE = 0.9  # of its usual size a box may be without being taken for cut
GROW_S, SHRINK_S = 0.3, 1.5  # s, in which the size of the whole object follows the box's
LOOKS_SHARE = 0.1  # of the newest look in a track's appearance
USUAL_SHARE = 0.01  # of one score in the class's usual score


class MaskTracker:
    """Link detections into tracks by mask IoU, box IoU and a Kalman filter.

    Each frame: predict every track to the frame's time, and move it with the camera; match it to
    a detection, in stages (see matching.py); start tracks from what is left; forget the long lost.
    With `carries`, frames may go undetected in between: objects are followed over them by the flow
    of their own pixels. With `keeps_masks` earlier sightings have masks. One instance per video.
    """

    def __init__(
        self,
        config: TrackerConfig | None = None,
        *,
        carries: bool = False,
        keeps_masks: bool = True,
    ) -> None:
        self.config = config or TrackerConfig()
        self._filter = KalmanFilter(
            position_noise=self.config.position_noise,
            acceleration_noise=self.config.acceleration_noise,
            size_noise=self.config.size_noise,
        )
        self._gallery = (
            Gallery(self.config.gallery_s, self.config.gallery_similarity)
            if self.config.gallery_s
            else None
        )
        self._tracks = TrackTable.empty()
        self._earlier: list[Sighting] = []  # of the tracks that the latest frame confirmed
        self._keeps_masks = keeps_masks
        self.frames = 0  # so far, carried ones included
        self._camera = CameraMotion() if self.config.camera_motion else None
        self._flow = ObjectFlow() if carries else None
        self._next_id = 1
        self._usual_scores: dict[int, float] = {}  # label -> of its confirmed tracks
        self._now: float | None = None
        self._detected: float | None = None  # s, when a frame was last detected
        self._gap = 0.0  # s, from then to the latest frame
        self._size: tuple[int, int] | None = None  # px, of the frames, where they are given

    def update(self, detections: Detections, time: float, image: Image | None = None) -> Tracks:
        """Advance to `time` (s) and return the confirmed tracks present there.

        `image` is the frame's picture, if it is at hand: it tells how the camera moved. Raises
        ValueError if time runs backwards.
        """
        self._advance(time, image, detections.boxes)
        self._detected = time
        tracks = self._tracks
        was_seen = tracks.source >= 0
        tracks.source = match(tracks, detections, self.config, self._filter, time, self._gap)
        self._correct(detections, time)
        self._coast(was_seen & (tracks.source < 0))
        if self._gallery:
            matched = tracks.source[tracks.source >= 0]
            self._gallery.observe(detections.embeddings[matched])
        self._start(detections, time)
        return self._report(time)

    def carry(self, time: float, image: Image | None = None) -> Tracks:
        """Advance to `time` (s) over a frame that was not detected; return the tracks, carried.

        Tracks that the latest detected frame showed are there with their boxes and masks moved;
        nothing counts as missed. Raises ValueError if time runs backwards.
        """
        self._tracks.carry(self._advance(time, image))
        return self._report(time, carried=True)

    def state(self) -> TrackerState:
        """Return everything needed to continue."""
        return TrackerState(
            frames=self.frames,
            next_id=self._next_id,
            usual_scores=tuple(sorted(self._usual_scores.items())),
            now=self._now,
            detected=self._detected,
            size=self._size,
            gallery=self._gallery.state() if self._gallery else None,
            camera=self._camera.state() if self._camera else None,
            flow=self._flow.state() if self._flow else None,
            tracks=self._tracks.state(),
        )

    def restore(self, state: TrackerState) -> None:
        """Continue exactly where `state` was taken."""
        self.frames, self._next_id = state.frames, state.next_id
        self._now, self._detected, self._size = state.now, state.detected, state.size
        self._usual_scores = dict(state.usual_scores)
        if self._camera and state.camera:
            self._camera.restore(state.camera)
        if self._flow:
            self._flow.restore(state.flow)
        if self._gallery and state.gallery:
            self._gallery.restore(state.gallery)
        self._tracks = TrackTable.restored(state.tracks)

    def resize(self, width: int, height: int) -> None:
        """Follow a change of the picture's size, px: what is known is scaled to the new one."""
        if self._size not in (None, (width, height)):
            self._tracks.rescale(width / self._size[0], height / self._size[1])
        self._size = (width, height)

    # ---- prediction -------------------------------------------------------------------------

    def _advance(
        self, time: float, image: Image | None, boxes: npt.NDArray[Any] | None = None
    ) -> FloatArray:
        """Bring every track to `time`; return how far each moved, (T, 2) px.

        `boxes` are the frame's objects, where they are known.
        """
        if not time >= (self._now if self._now is not None else -math.inf):
            raise ValueError(f"time must not run backwards, got {time} s after {self._now} s")
        if image is not None:
            self.resize(image.shape[1], image.shape[0])
        step = 0.0 if self._now is None else time - self._now
        self._gap = 0.0 if self._detected is None else time - self._detected
        self._now = time
        self._earlier = []
        self.frames += 1
        # Nobody is missed where nobody was looked for.
        self._forget(time if boxes is not None or self._detected is None else self._detected)
        tracks = self._tracks
        place, covariance = tracks.mean[:, :2, 0].copy(), tracks.covariance
        self._predict(step)
        if image is not None and self._camera is not None:
            self._follow_camera(self._camera, image, boxes)
        moved = tracks.mean[:, :2, 0] - place
        if self._flow:
            self._flow.correct(tracks, self._filter, image, moved, covariance, step)
        return moved

    def _follow_camera(
        self, camera: CameraMotion, image: Image, boxes: npt.NDArray[Any] | None
    ) -> None:
        """Move the tracks as the background moved."""
        expected = cxcywh_to_xyxy(self._tracks.seen_part) if boxes is None else boxes
        motion = camera.update(image, expected)
        if motion is not None and len(self._tracks):
            self._tracks.move(motion)

    def _forget(self, time: float) -> None:
        tracks, config = self._tracks, self.config
        # At low frame rates one frame is longer than the gap: it may always be missed.
        tentative = min(max(config.tentative_gap_s, self._gap), config.memory_s) + 1e-9
        kept = time - tracks.seen <= np.where(tracks.id > 0, config.memory_s, tentative)
        if self._gallery:
            self._gallery.add(tracks.rows(~kept), time)
        tracks.keep(kept)

    def _predict(self, step: float) -> None:
        tracks = self._tracks
        if not len(tracks):
            return
        lost = tracks.source < 0
        tracks.mean[lost, :, 1] *= np.exp(-step / self.config.lost_damping_s)
        tracks.mean, tracks.covariance = self._filter.predict(tracks.mean, tracks.covariance, step)

    def _coast(self, rows: BoolArray) -> None:
        """Let tracks that were just lost go on whole, at their average motion."""
        tracks = self._tracks
        tracks.mean[rows, :2, 1] = tracks.average_velocity[rows]
        tracks.mean[rows, 2:, 0] = tracks.body[rows]
        tracks.offset[rows] = 0

    # ---- correction -------------------------------------------------------------------------

    def _correct(self, detections: Detections, time: float) -> None:
        """Take the matched detections into their tracks."""
        tracks = self._tracks
        rows = np.flatnonzero(tracks.source >= 0)
        if not len(rows):
            return
        columns = tracks.source[rows]
        boxes = detections.boxes[columns].astype(np.float64)
        scores = detections.scores[columns].astype(np.float64)
        measured = np.asarray(xyxy_to_cxcywh(boxes), np.float64)
        whole = self._whole(rows, measured)
        mean, covariance = self._filter.update(
            tracks.mean[rows], tracks.covariance[rows], np.concatenate([whole, measured[:, 2:]], 1)
        )
        tracks.mean[rows], tracks.covariance[rows], tracks.box[rows] = mean, covariance, boxes
        tracks.offset[rows] = measured[:, :2] - whole
        self._average(rows, measured[:, 2:], time)
        tracks.score[rows], tracks.seen[rows] = scores, time
        tracks.total[rows] += scores
        tracks.hits[rows] += 1
        if not self.config.class_vote:
            tracks.votes[rows] = 0
        tracks.vote(rows, detections.labels[columns], scores)
        if self.config.gallery_s:
            tracks.blend_embedding(rows, detections.embeddings[columns], LOOKS_SHARE)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            tracks.masks[row] = detections.masks[column]
        self._confirm(rows, detections, time)

    def _whole(self, rows: IntArray, measured: FloatArray) -> FloatArray:
        """Return where the centres of the whole objects are, as far as cut boxes tell, (R, 2).

        What hides an object cuts its box on one side: the box's centre moves, the object's does
        not. So a box that lacks a piece of the object's size tells the centre only to within half
        of that piece, and the prediction decides. A box smaller in both directions alike is
        merely farther away.
        """
        if not self.config.whole_objects:
            return measured[:, :2]
        body = self._tracks.body[rows]
        scale = (measured[:, 2:] / np.maximum(body, 1e-9)).max(axis=1, keepdims=True)
        body = body * np.minimum(scale, 1.0)
        half = np.maximum(body * CUT_TOLERANCE - measured[:, 2:], 0) / 2
        predicted = self._tracks.mean[rows, :2, 0]
        return np.clip(predicted, measured[:, :2] - half, measured[:, :2] + half)

    def _average(self, rows: IntArray, size: FloatArray, time: float) -> None:
        """Take the newest motion and size into the averages that carry a lost track."""
        tracks = self._tracks
        dt, youth = (time - tracks.seen[rows])[:, None], 1 / (tracks.hits[rows] + 1)[:, None]
        share = np.maximum(1 - np.exp(-dt / self.config.velocity_average_s), youth)
        change = tracks.mean[rows, :2, 1] - tracks.average_velocity[rows]
        tracks.average_velocity[rows] += share * change
        grown = size - tracks.body[rows]
        share = np.where(
            grown > 0, np.maximum(1 - np.exp(-dt / GROW_S), youth), 1 - np.exp(-dt / SHRINK_S)
        )
        tracks.body[rows] += share * grown

    # ---- birth ------------------------------------------------------------------------------

    def _start(self, detections: Detections, time: float) -> None:
        config, scores = self.config, detections.scores
        taken = self._tracks.source[self._tracks.source >= 0].tolist()
        # Nothing can ever overlap a box without an area, so it would start a track each frame.
        good = (scores >= config.new_score) & (box_area(detections.boxes) > 0)
        able = set(np.flatnonzero(good).tolist()) - set(taken)
        rows: list[int] = []
        # Of two duplicates the better one stays.
        for row in sorted(able, key=lambda row: (-float(scores[row]), row)):
            if not is_duplicate(detections, row, taken + rows, config.duplicate_overlap):
                rows.append(row)
        if not rows:
            return
        rows.sort()
        boxes = detections.boxes[rows].astype(np.float64)
        mean, covariance = self._filter.initiate(xyxy_to_cxcywh(boxes))
        score = scores[rows].astype(np.float64)
        looks = detections.embeddings[rows] if config.gallery_s else np.zeros((len(rows), 0))
        new = TrackTable(
            mean=mean,
            covariance=covariance,
            box=boxes,
            body=mean[:, 2:, 0].copy(),
            offset=np.zeros((len(rows), 2)),
            average_velocity=np.zeros((len(rows), 2)),
            score=score,
            total=score.copy(),
            seen=np.full(len(rows), time),
            hits=np.ones(len(rows), np.int64),
            id=np.zeros(len(rows), np.int64),
            source=np.array(rows, np.int64),
            votes=np.zeros((len(rows), 0)),
            embedding=looks.astype(np.float64),
            masks=[detections.masks[row] for row in rows],
            past=[[] for _ in rows],
        )
        new.vote(np.arange(len(rows)), detections.labels[rows], score)
        before = len(self._tracks)
        self._tracks.append(new)
        self._confirm(before + np.arange(len(rows)), detections, time)

    def _confirm(self, rows: IntArray, detections: Detections, time: float) -> None:
        """Give ids to those of `rows` that have earned one, in their order.

        A track must score, on average, about as well as confirmed tracks of its class do: what
        scores are good is a matter of the detector, and learnt as the video goes on.
        """
        tracks, config = self._tracks, self.config
        labels = tracks.label[rows]
        self._learn_scores(rows, labels)
        expected = np.array([self._usual_scores.get(label, 0.0) for label in labels.tolist()])
        least = np.maximum(config.confirm_score, config.confirm_share * expected)
        good = tracks.trust[rows] >= least
        sure = good & (tracks.hits[rows] >= config.confirm_hits)
        sure |= tracks.score[rows] >= config.instant_score
        for row in rows[~sure & (tracks.id[rows] == 0)].tolist():
            source, kept = int(tracks.source[row]), self._keeps_masks
            tracks.remember(row, Past.of(detections, source, self.frames - 1, time, mask=kept))
        new = rows[sure & (tracks.id[rows] == 0)].tolist()
        for row in new:
            returned = 0
            if self._gallery:
                looks = tracks.embedding[row : row + 1]
                returned = self._gallery.claim(looks, int(tracks.label[row]))
            tracks.id[row] = returned or self._next_id
            self._next_id = max(self._next_id, int(tracks.id[row]) + 1)
            self._earlier += tracks.tell_past(row, self.frames - 1)

    def _learn_scores(self, rows: IntArray, labels: IntArray) -> None:
        """Take in what confirmed tracks of each class score."""
        tracks = self._tracks
        for label in np.unique(labels).tolist():
            known = tracks.score[rows[(labels == label) & (tracks.id[rows] > 0)]]
            if len(known):
                usual = self._usual_scores.setdefault(label, float(known[0]))
                share = 1 - (1 - USUAL_SHARE) ** len(known)
                self._usual_scores[label] = usual + share * (float(known.mean()) - usual)

    # ---- report -----------------------------------------------------------------------------

    def _report(self, time: float, *, carried: bool = False) -> Tracks:
        tracks = self._tracks
        unseen = time - tracks.seen
        coasting = (unseen > 1e-9) & (unseen <= self.config.coast_s + 1e-9)
        rows = np.flatnonzero((tracks.id > 0) & ((tracks.source >= 0) | coasting))
        rows = rows[np.argsort(tracks.id[rows])]
        if carried and self._size:  # who was carried out of the picture is not there
            box = tracks.box[rows]
            rows = rows[((box[:, 2:] > 0) & (box[:, :2] < self._size)).all(axis=1)]
        seen = tracks.source[rows] >= 0
        predicted = cxcywh_to_xyxy(tracks.seen_part[rows])
        masks = [tracks.masks[row] if tracks.source[row] >= 0 else None for row in rows.tolist()]
        return Tracks(
            ids=tracks.id[rows],
            boxes=np.where(seen[:, None], tracks.box[rows], predicted).astype(np.float32),
            scores=tracks.score[rows].astype(np.float32),
            labels=tracks.label[rows],
            masks=tuple(masks),
            sources=np.full(len(rows), -1) if carried else tracks.source[rows],
            earlier=tuple(self._earlier),
        )
