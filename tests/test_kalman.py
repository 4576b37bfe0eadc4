import numpy as np
import pytest
from filterpy.kalman import KalmanFilter as Oracle

from tracker.associate.kalman import INITIAL_SPEED, KalmanFilter

NOISE = dict(position_noise=0.05, acceleration_noise=0.7, size_noise=0.3)


def oracle(box):
    """The same filter in filterpy's 8 x 8 form."""
    size = float(np.sqrt(box[2] * box[3]))
    kalman = Oracle(dim_x=8, dim_z=4)
    kalman.x[:4, 0] = box
    kalman.H = np.hstack([np.eye(4), np.zeros((4, 4))])
    speed = (INITIAL_SPEED * size) ** 2
    kalman.P = np.diag([(2 * 0.05 * size) ** 2] * 4 + [speed, speed, 0, 0])
    return kalman


def step_oracle(kalman, dt, measured):
    size = float(np.sqrt(kalman.x[2, 0] * kalman.x[3, 0]))
    f = np.eye(8)
    f[:4, 4:] = dt * np.eye(4)
    q = np.zeros((8, 8))
    for k in range(2):
        power = (0.7 * size) ** 2
        q[k, k], q[k, k + 4] = power * dt**3 / 3, power * dt**2 / 2
        q[k + 4, k], q[k + 4, k + 4] = power * dt**2 / 2, power * dt
        q[k + 2, k + 2] = (0.3 * size) ** 2 * dt
    kalman.predict(F=f, Q=q)
    size = float(np.sqrt(kalman.x[2, 0] * kalman.x[3, 0]))
    kalman.update(np.array(measured).reshape(4, 1), R=np.eye(4) * (0.05 * size) ** 2)


def test_equals_filterpy_with_uneven_time_steps():
    random = np.random.default_rng(0)
    boxes = np.array([[100.0, 50, 40, 80], [300, 200, 20, 30], [10, 10, 200, 100]])
    ours, oracles = KalmanFilter(**NOISE), [oracle(box) for box in boxes]
    mean, covariance = ours.initiate(boxes)
    for dt in (0.04, 0.1, 0.033, 0.5, 0.001, 0.0, 2.0):
        measured = boxes + random.normal(0, 2, boxes.shape)
        mean, covariance = ours.predict(mean, covariance, dt)
        mean, covariance = ours.update(mean, covariance, measured)
        for k, kalman in enumerate(oracles):
            step_oracle(kalman, dt, measured[k])
            assert np.allclose(mean[k].T.ravel(), kalman.x.ravel(), rtol=1e-9)
            p = kalman.P
            expected = [[p[i, i], p[i, i + 4], p[i + 4, i + 4]] for i in range(4)]
            assert np.allclose(covariance[k], expected, rtol=1e-7, atol=1e-9)


def test_covariance_stays_positive():
    random = np.random.default_rng(1)
    kalman = KalmanFilter(**NOISE)
    mean, covariance = kalman.initiate(random.uniform(10, 300, (50, 4)))
    for _ in range(200):
        mean, covariance = kalman.predict(mean, covariance, random.uniform(0, 0.2, 50))
        mean, covariance = kalman.update(mean, covariance, mean[:, :, 0] + 1)
        pp, pv, vv = np.moveaxis(covariance, 2, 0)
        assert (pp > 0).all()
        assert (vv >= 0).all()
        assert (pp * vv - pv**2 >= -1e-9).all()


def test_learns_a_constant_velocity():
    kalman = KalmanFilter(**NOISE)
    mean, covariance = kalman.initiate(np.array([[0.0, 0, 20, 40]]))
    for k in range(1, 60):
        mean, covariance = kalman.predict(mean, covariance, 0.04)
        mean, covariance = kalman.update(mean, covariance, np.array([[2.0 * k, -1.0 * k, 20, 40]]))
    assert mean[0, 0, 1] == pytest.approx(50, rel=0.02)
    assert mean[0, 1, 1] == pytest.approx(-25, rel=0.02)
    assert mean[0, 2:, 1] == pytest.approx([0, 0])


def test_two_half_steps_equal_one():
    kalman = KalmanFilter(**NOISE)
    start = kalman.initiate(np.array([[10.0, 10, 20, 40]]))
    one = kalman.predict(*start, 0.2)
    two = kalman.predict(*kalman.predict(*start, 0.1), 0.1)
    assert all(np.allclose(a, b) for a, b in zip(one, two, strict=True))


def test_no_tracks_is_normal():
    kalman = KalmanFilter(**NOISE)
    mean, covariance = kalman.initiate(np.zeros((0, 4)))
    mean, covariance = kalman.predict(mean, covariance, 0.1)
    assert kalman.centre_distance(mean, covariance, np.zeros((3, 4))).shape == (0, 3)
