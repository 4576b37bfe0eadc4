"""Constant-velocity Kalman filter with real time steps, for all tracks in one call.

A box is measured as (cx, cy, w, h). Each of the four coordinates has a position and a velocity,
and its noise is independent of the others', so the 8 x 8 filter falls into four filters of 2 x 2
with closed forms: mean (T, 4, 2) and covariance (T, 4, 3) as (pp, pv, vv). A size is modelled as
a random walk: its velocity is always 0. Formulas: Bar-Shalom, Li, Kirubarajan, Estimation with
Applications to Tracking and Navigation (2001), §6.2.2 (continuous white-noise acceleration).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

INITIAL_SPEED = 2.0  # standard deviation of an unknown velocity, box sizes/s
SHIFT_NOISE = 0.1  # the same of a shift between two pictures, box sizes: limbs swing, motion stays


@dataclass(frozen=True, slots=True)
class KalmanFilter:
    """Hold the noise levels only; states go in and come out.

    All noise is relative to the box's size in px (the geometric mean of its sides), so that near
    and far objects behave alike.
    """

    position_noise: float  # standard deviation of a measured coordinate, sizes
    acceleration_noise: float  # spectral density (root) of the centre's acceleration, sizes/s^1.5
    size_noise: float  # spectral density (root) of the sides' random walk, sizes/s^0.5

    def initiate(self, boxes_cxcywh: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray]:
        """Return the state of new tracks at rest: mean (T, 4, 2), covariance (T, 4, 3)."""
        boxes = np.asarray(boxes_cxcywh, np.float64)
        size = _size(boxes)
        mean = np.stack([boxes, np.zeros_like(boxes)], axis=2)
        covariance = np.zeros((len(boxes), 4, 3))
        covariance[:, :, 0] = ((2 * self.position_noise * size) ** 2)[:, None]
        covariance[:, :2, 2] = ((INITIAL_SPEED * size) ** 2)[:, None]
        return mean, covariance

    def predict(
        self, mean: FloatArray, covariance: FloatArray, dt: npt.NDArray[Any] | float
    ) -> tuple[FloatArray, FloatArray]:
        """Advance by `dt` seconds, a scalar or (T,)."""
        step = np.broadcast_to(np.asarray(dt, np.float64), (len(mean),))[:, None]
        position, velocity = mean[:, :, 0], mean[:, :, 1]
        pp, pv, vv = np.moveaxis(covariance, 2, 0)
        size = _size(position)[:, None]
        moving = (self.acceleration_noise * size) ** 2 * np.array([1, 1, 0, 0])
        growing = (self.size_noise * size) ** 2 * np.array([0, 0, 1, 1])
        new_mean = np.stack([position + step * velocity, velocity], axis=2)
        new_covariance = np.stack(
            [
                pp + 2 * step * pv + step**2 * vv + moving * step**3 / 3 + growing * step,
                pv + step * vv + moving * step**2 / 2,
                vv + moving * step,
            ],
            axis=2,
        )
        return new_mean, new_covariance

    def update(
        self, mean: FloatArray, covariance: FloatArray, boxes_cxcywh: npt.NDArray[Any]
    ) -> tuple[FloatArray, FloatArray]:
        """Correct each state with its measured box, (T, 4)."""
        measured = np.asarray(boxes_cxcywh, np.float64)
        pp, pv, vv = np.moveaxis(covariance, 2, 0)
        innovation = measured - mean[:, :, 0]
        variance = pp + self._measurement_variance(mean)
        gain_position, gain_velocity = pp / variance, pv / variance
        new_mean = mean + np.stack([gain_position, gain_velocity], axis=2) * innovation[:, :, None]
        new_covariance = np.stack(
            [(1 - gain_position) * pp, (1 - gain_position) * pv, vv - gain_velocity * pv], axis=2
        )
        return new_mean, new_covariance

    def correct_shift(
        self,
        mean: FloatArray,
        covariance: FloatArray,
        earlier: FloatArray,
        farther: npt.NDArray[Any],
        dt: float,
    ) -> tuple[FloatArray, FloatArray]:
        """Correct each state by how much farther than predicted its centre was seen to move.

        `farther` is (T, 2) px; `earlier`, (T, 4, 3), the covariance before the prediction over
        `dt` s. A shift tells the velocity, and the place only as far as the velocity had made it
        unsure: where the object was is known no better.
        """
        _, pv, vv = np.moveaxis(earlier[:, :2], 2, 0)
        size = _size(mean[:, :, 0])[:, None]
        moving = (self.acceleration_noise * size) ** 2
        way = dt**2 * vv + moving * dt**3 / 3  # variance of the predicted shift
        variance = way + (SHIFT_NOISE * size) ** 2
        gain_position = (pv * dt + way) / variance
        gain_velocity = (vv * dt + moving * dt**2 / 2) / variance
        new_mean, new_covariance = mean.copy(), covariance.copy()
        new_mean[:, :2, 0] += gain_position * farther
        new_mean[:, :2, 1] += gain_velocity * farther
        new_covariance[:, :2, 0] -= gain_position**2 * variance
        new_covariance[:, :2, 1] -= gain_position * gain_velocity * variance
        new_covariance[:, :2, 2] -= gain_velocity**2 * variance
        return new_mean, new_covariance

    def centre_distance(
        self,
        mean: FloatArray,
        covariance: FloatArray,
        boxes_cxcywh: npt.NDArray[Any],
        centres: npt.NDArray[Any] | None = None,
    ) -> FloatArray:
        """Return squared Mahalanobis distances of measured centres, (T, N); chi², 2 degrees.

        `centres`, (T, 2), are where they should be, if not at the states' own: parts of objects.
        """
        variance = covariance[:, :2, 0] + self._measurement_variance(mean)[:, :2]
        measured = np.asarray(boxes_cxcywh, np.float64)[None, :, :2]
        expected = mean[:, :2, 0] if centres is None else np.asarray(centres, np.float64)
        offset = measured - expected[:, None]
        distance: FloatArray = (offset**2 / variance[:, None, :]).sum(axis=2)
        return distance

    def _measurement_variance(self, mean: FloatArray) -> FloatArray:
        variance = (self.position_noise * _size(mean[:, :, 0])) ** 2
        return np.repeat(variance[:, None], 4, axis=1)


def _size(boxes_cxcywh: FloatArray) -> FloatArray:
    """Return the geometric mean of the sides, px, (T,); at least 1."""
    sides = np.clip(boxes_cxcywh[:, 2:4], 1.0, None)
    size: FloatArray = np.sqrt(sides[:, 0] * sides[:, 1])
    return size
