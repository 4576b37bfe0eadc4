import numpy as np
import pytest
import scene as scenes

from tracker.config import OutputConfig
from tracker.count.stage import CountStage
from tracker.drawing import Annotator, color_of
from tracker.formats.rows import Row, to_tracks
from tracker.masks import Mask
from tracker.types import Detections, Frame, FrameResult, LineCount, Tracks


def result(tracks, width=640, height=360, time=0.0, index=0):
    image = np.full((height, width, 3), 60, np.uint8)
    return FrameResult(Frame(index, time, image), Detections.empty(), tracks)


def one(box=(100, 100, 160, 220), source=0, mask=True, id_=1):
    x1, y1, x2, y2 = box
    bits = np.ones((max(y2 - y1, 0), max(x2 - x1, 0)), np.bool_)
    return to_tracks([Row(id_, 1, 0.9, box, Mask(x1, y1, bits) if mask else None, source)])


def annotator(**settings):
    return Annotator(scenes.CATEGORIES, OutputConfig(**settings))


def changed(picture, base=60):
    return (picture != base).any(axis=2)


def test_the_input_is_never_painted():
    given = result(one())
    annotator().draw(given)
    assert (given.frame.image == 60).all()


def test_the_mask_is_tinted_with_the_colour_of_its_id():
    nothing = dict(boxes=False, labels=False, panel=False, trail_s=0.0)
    picture = annotator(**nothing).draw(result(one(id_=5)))
    inside = picture[150, 130].astype(float)
    expected = 60 * 0.55 + np.array(color_of(5)) * 0.45
    assert np.abs(inside - expected).max() <= 1
    area = changed(picture)
    assert area[100:220, 100:160].all()
    assert not area[:95].any()


def test_what_is_switched_off_is_not_drawn():
    nothing = dict(masks=False, boxes=False, labels=False, panel=False, trail_s=0.0)
    assert not changed(annotator(**nothing).draw(result(one()))).any()
    for key in ("masks", "boxes", "labels", "panel"):
        assert changed(annotator(**{**nothing, key: True}).draw(result(one()))).any(), key


def test_a_predicted_box_is_dashed():
    only_boxes = dict(masks=False, labels=False, panel=False, trail_s=0.0)
    seen = changed(annotator(**only_boxes).draw(result(one(mask=False))))
    ghost = changed(annotator(**only_boxes).draw(result(one(mask=False, source=-1))))
    assert 0 < ghost.sum() < 0.8 * seen.sum()
    carried = changed(annotator(**only_boxes).draw(result(one(source=-1))))
    assert carried.sum() == seen.sum()


@pytest.mark.parametrize("size", [(64, 48), (320, 240), (1920, 1080), (3840, 2160), (33, 500)])
def test_text_grows_with_the_picture_and_stays_inside(size):
    width, height = size
    box = (0, 0, max(4, width // 8), max(4, height // 4))
    picture = annotator().draw(
        result(one(box), width, height), unique={"person": 1, "car": 2}, lines=[total(width)]
    )
    assert picture.shape == (height, width, 3)
    assert changed(picture).any()


def total(width):
    return LineCount("door", (0, 10), (width, 10), 3, 1)


@pytest.mark.parametrize(
    "box", [(-50, -50, -10, -10), (630, 350, 700, 400), (-20, 100, 30, 500), (5, 5, 5, 5)]
)
def test_boxes_that_leave_the_picture(box):
    annotator().draw(result(one(box)))


def test_no_tracks():
    picture = annotator(panel=False).draw(result(Tracks.empty()))
    assert not changed(picture).any()


def test_colours_are_stable_and_apart():
    colors = np.array([color_of(k) for k in range(1, 13)], float)
    apart = np.abs(colors[:, None] - colors[None]).sum(axis=2)
    assert apart[~np.eye(12, dtype=bool)].min() > 60
    assert color_of(7) == color_of(7)


def test_the_trail_follows_and_fades():
    drawer = annotator(masks=False, boxes=False, labels=False, panel=False, trail_s=1.0)
    for k in range(10):
        picture = drawer.draw(result(one((100 + 10 * k, 100, 160 + 10 * k, 220)), time=k / 10))
    assert changed(picture)[200:230].sum() > 50
    picture = drawer.draw(result(Tracks.empty(), time=5.0))
    assert not changed(picture).any()
    assert not drawer._trails


def test_labels_of_neighbours_do_not_hide_each_other():
    rows = [Row(k, 1, 0.9, (100 + 8 * k, 100, 140 + 8 * k, 200)) for k in range(1, 4)]
    drawer = annotator(masks=False, boxes=False, panel=False, trail_s=0.0)
    crowded = changed(drawer.draw(result(to_tracks(rows)))).sum()
    alone = changed(drawer.draw(result(to_tracks(rows[:1])))).sum()
    assert crowded > 2.8 * alone


def test_a_long_panel_is_cut():
    unique = {f"class {k}": k for k in range(1, 40)}
    picture = annotator().draw(result(Tracks.empty()), unique=unique)
    assert changed(picture)[:, :200].any(axis=1).sum() < 300


def test_what_is_given_to_draw_stands_instead_of_what_was_counted():
    plain = result(one())
    counted = CountStage().count(plain)
    assert counted.counts.unique == {1: 1}
    as_counted = annotator().draw(counted)
    assert np.array_equal(annotator().draw(plain, unique={"person": 1}), as_counted)
    assert not np.array_equal(annotator().draw(counted, unique={"person": 7}), as_counted)
    assert not np.array_equal(annotator().draw(counted, unique={}), as_counted)
