import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from tracker.boxes import (
    box_iou,
    cxcywh_to_xyxy,
    expand,
    xywh_to_xyxy,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)
from tracker.masks import Mask, intersection, mask_iou, mask_to_rle, rle_to_mask


def dense(mask, width, height):
    full = np.zeros((height, width), np.bool_)
    mask = mask.clipped(width, height)
    x1, y1, x2, y2 = mask.box
    full[y1:y2, x1:x2] = mask.bits
    return full


@st.composite
def bitmaps(draw, largest=24):
    height, width = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    density = draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    return random.random((height, width)) < density


@st.composite
def masks(draw):
    return Mask(draw(st.integers(-10, 30)), draw(st.integers(-10, 30)), draw(bitmaps(16)))


@given(bitmaps())
@settings(max_examples=300, deadline=None)
def test_rle_equals_pycocotools_both_ways(full):
    height, width = full.shape
    expected = coco.encode(np.asfortranarray(full.astype(np.uint8)))["counts"].decode()
    mask = rle_to_mask({"size": [height, width], "counts": expected})
    assert np.array_equal(dense(mask, width, height), full)
    assert mask_to_rle(mask, width, height) == {"size": [height, width], "counts": expected}


@given(masks())
@settings(max_examples=100, deadline=None)
def test_rle_drops_what_lies_outside_the_frame(mask):
    rle = mask_to_rle(mask, 32, 28)
    assert np.array_equal(coco.decode(rle).astype(bool), dense(mask, 32, 28))


def test_uncompressed_counts_are_read_too():
    mask = rle_to_mask({"size": [4, 4], "counts": [0, 2, 2, 2, 10]})
    assert mask.box == (0, 0, 2, 2)
    assert mask.bits.all()


@pytest.mark.parametrize(
    "rle",
    [
        {},
        {"size": [4, 4]},
        {"size": [4], "counts": "0"},
        {"size": [0, 4], "counts": "0"},
        {"size": [100_000, 100_000], "counts": "0"},
        {"size": [4, 4], "counts": "!!"},
        {"size": [4, 4], "counts": "ooooooooooooo"},
        {"size": [4, 4], "counts": "4"},
        {"size": [4, 4], "counts": [4, 4]},
        {"size": [4, 4], "counts": [-4, 20]},
    ],
)
def test_malformed_rle_is_refused(rle):
    with pytest.raises(ValueError, match="RLE"):
        rle_to_mask(rle)


@given(st.lists(masks(), max_size=4), st.lists(masks(), max_size=4))
@settings(max_examples=100, deadline=None)
def test_mask_iou_equals_the_dense_definition(a, b):
    iou = mask_iou(a, b)
    assert iou.shape == (len(a), len(b))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            p, q = (dense(m.moved(20, 20), 100, 100) for m in (one, other))
            union = (p | q).sum()
            assert iou[i, j] == pytest.approx((p & q).sum() / union if union else 0.0)
            assert intersection(one, other) == (p & q).sum()
    assert np.allclose(iou, mask_iou(b, a).T)


def test_only_asked_pairs_are_compared():
    square = Mask(0, 0, np.ones((4, 4), np.bool_))
    pairs = np.array([[True, False]])
    assert mask_iou([square], [square, square], pairs).tolist() == [[1.0, 0.0]]


def test_tight_and_clipped():
    bits = np.zeros((5, 6), np.bool_)
    bits[1:3, 2:5] = True
    assert Mask(10, 20, bits).tight().box == (12, 21, 15, 23)
    assert Mask(3, 3, np.zeros((4, 4), np.bool_)).tight().bits.size == 0
    assert Mask(-2, -1, bits).clipped(3, 3).box == (0, 0, 3, 3)
    assert Mask(50, 50, bits).clipped(10, 10).bits.size == 0


def test_wrong_bits_say_what_came():
    with pytest.raises(ValueError, match=r"bits must be \(h, w\) bool, got \(3,\) float64"):
        Mask(0, 0, np.zeros(3))


def test_box_conversions_are_inverse():
    boxes = np.array([[1.0, 2, 11, 32], [0, 0, 5, 5]])
    assert np.allclose(xywh_to_xyxy(xyxy_to_xywh(boxes)), boxes)
    assert np.allclose(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes)
    assert np.allclose(expand(boxes, 2.0)[1], [-2.5, -2.5, 7.5, 7.5])


def test_box_iou_by_hand():
    a, b = np.array([[0.0, 0, 10, 10]]), np.array([[5.0, 0, 15, 10], [20, 20, 30, 30]])
    assert box_iou(a, b) == pytest.approx(np.array([[1 / 3, 0]]))
    assert box_iou(np.zeros((0, 4)), b).shape == (0, 2)


def test_a_sample_of_rows_comes_close():
    """Large ellipses in all places: the sampled IoU stays within 0.03 of the exact one."""
    y, x = np.ogrid[-1:1:240j, -1:1:150j]
    egg = x**2 + y**2 + 0.3 * x * y <= 0.9
    random = np.random.default_rng(0)
    a, b = (
        [Mask(*random.integers(0, 120, 2).tolist(), egg.copy()) for _ in range(12)]
        for _ in range(2)
    )
    exact, sampled = mask_iou(a, b), mask_iou(a, b, rows=32)
    assert np.abs(exact - sampled).max() < 0.03
    assert not np.array_equal(exact, sampled)
    small = [Mask(m.x, m.y, m.bits[:30, :30]) for m in a]
    assert np.array_equal(mask_iou(small, small), mask_iou(small, small, rows=32))
