import itertools

import numpy as np
import pytest
import scene as scenes
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.config import CountConfig
from tracker.count.lines import Line, LineCounter, resolve_lines
from tracker.count.stage import CountStage
from tracker.count.totals import Totals
from tracker.formats.rows import Row, to_tracks
from tracker.sinks.counts import CountsSink
from tracker.types import Detections, Frame, FrameResult, Tracks


def at(*objects):
    """Objects of (id, x, y[, label]) with boxes of 10 x 20 px around the point."""
    return to_tracks(
        [
            Row(o[0], o[3] if len(o) > 3 else 1, 0.9, (o[1] - 5, o[2] - 10, o[1] + 5, o[2] + 10))
            for o in objects
        ]
    )


def walk(points, line=((0, 100), (200, 100)), anchor="center", hysteresis=0.1):
    counter = LineCounter([Line("door", *line)], anchor=anchor, hysteresis=hysteresis)
    events = []
    for k, point in enumerate(points):
        tracks = at((1, *point)) if point else Tracks.empty()
        events += counter.update(tracks, k, k / 10)
    return events


def ways(events):
    return [event.direction for event in events]


def test_down_over_a_line_drawn_to_the_right_is_in():
    assert ways(walk([(50, 80), (50, 95), (50, 105), (50, 120)])) == ["in"]
    assert ways(walk([(50, 120), (50, 80)])) == ["out"]
    reverse = ((200, 100), (0, 100))
    assert ways(walk([(50, 80), (50, 120)], reverse)) == ["out"]


def test_a_path_beside_the_segment_does_not_count():
    assert walk([(250, 80), (250, 120)]) == []
    assert ways(walk([(190, 80), (230, 130)])) == []  # crosses the line's extension
    assert ways(walk([(150, 80), (190, 120), (190, 140)])) == ["in"]


def test_round_the_end_and_back_counts_once():
    around = [(50, 80), (250, 80), (250, 120), (50, 120), (50, 80)]
    assert ways(walk(around)) == ["out"]


def test_trembling_on_the_line_counts_once():
    points = [(50, 90)] + [(50, 100 + d) for d in (1, -1, 1.5, -1.5, 0.5, -1, 1)] * 5 + [(50, 112)]
    assert ways(walk(points)) == ["in"]
    assert walk([(50, 90), *[(50, 101), (50, 99)] * 5, (50, 88)]) == []


def test_there_and_back_is_two():
    assert ways(walk([(50, 80), (50, 120), (50, 80)])) == ["in", "out"]


def test_a_fast_object_that_jumps_over_counts():
    assert ways(walk([(50, 10), (60, 300)])) == ["in"]


def test_an_object_hidden_on_the_line_counts_when_it_is_seen_again():
    assert ways(walk([(50, 90), None, None, (50, 115)])) == ["in"]


def test_starting_on_the_line_is_no_crossing():
    assert walk([(50, 100), (50, 120)]) == []


def test_predicted_boxes_do_not_count():
    counter = LineCounter([Line("door", (0, 100), (200, 100))], anchor="center", hysteresis=0.1)
    seen, ghost = at((1, 50, 80)), to_tracks([Row(1, 1, 0.9, (45, 120, 55, 140), source=-1)])
    assert counter.update(seen, 0, 0.0) == counter.update(ghost, 1, 0.1) == []


def test_the_bottom_anchor():
    points = [(50, 85), (50, 105)]  # the feet go from 95 to 115
    assert ways(walk(points, anchor="bottom")) == ["in"]


def test_the_event_says_who_where_when():
    (event,) = walk([(50, 80), (60, 120)])
    assert (event.line, event.id, event.label, event.frame) == ("door", 1, 1, 1)
    assert event.time == pytest.approx(0.1)
    assert event.point == pytest.approx((55, 100))


@given(
    st.lists(st.tuples(st.floats(1, 199), st.floats(0, 200)), min_size=2, max_size=30),
)
@settings(max_examples=200, deadline=None)
def test_in_minus_out_is_the_net_change_of_side(points):
    """A line as long as the world: the events must alternate and add up to the sides' change."""
    long = ((-1000.0, 100.0), (2000.0, 100.0))
    directions = ways(walk(points, long))
    assert all(a != b for a, b in itertools.pairwise(directions))
    sure = [(1 if y > 100 else -1) for _, y in points if abs(y - 100) >= 2.0]
    if sure:
        net = directions.count("in") - directions.count("out")
        sides = [1 if y > 100 else -1 for x, y in points if abs(y - 100) >= 2.0]
        assert net == (sides[-1] - sides[0]) // 2


def test_fractions_and_pixels():
    lines = resolve_lines({"a": (0.5, 0, 0.5, 1), "b": (10, 20, 300, 20)}, 640, 360)
    assert (lines[0].start, lines[0].end) == ((320, 0), (320, 360))
    assert lines[1].end == (300, 20)


def test_scripted_street_counts_exactly():
    """Each object that crosses the middle of the street, by its true path."""
    scene = scenes.street()
    counter = LineCounter(
        resolve_lines({"middle": (0.5, 0.0, 0.5, 1.0)}, 640, 360), anchor="center", hysteresis=0.1
    )
    for index, time in enumerate(scene.times):
        counter.update(scene.truth(index), index, time)
    # Drawn downwards, right-hand side is the left of the picture: leftward is "in".
    assert counter.counts == {
        ("middle", "out", 2): 1,  # the car to the right
        ("middle", "in", 2): 1,  # the car to the left
        ("middle", "out", 1): 1,
        ("middle", "in", 1): 1,
        ("middle", "out", 3): 1,  # the dog
    }


def test_totals_per_class_bin_and_peak():
    totals = Totals(bin_s=10)
    totals.update(at((1, 0, 0), (2, 9, 9)), 0.0)
    totals.update(at((1, 0, 0)), 5.0)
    totals.update(at((1, 0, 0), (3, 5, 5, 2)), 12.0)
    totals.update(Tracks.empty(), 35.0)
    totals.update(at((4, 0, 0)), 36.0)
    assert dict(+totals.unique) == {1: 3, 2: 1}
    assert dict(totals.max_at_once) == {1: 2, 2: 1}
    rows = [(b.number, b.label, b.unique, b.new, b.max_at_once) for b in totals.table()]
    assert rows == [(0, 1, 2, 2, 2), (1, 1, 1, 0, 1), (1, 2, 1, 1, 1), (3, 1, 1, 1, 1)]
    first = totals.objects[1]
    assert (first.first_seen, first.last_seen, first.frames) == (0.0, 12.0, 3)


def test_a_changed_vote_moves_the_object_to_its_last_class():
    totals = Totals(bin_s=10)
    totals.update(at((1, 0, 0, 2)), 0.0)
    totals.update(at((1, 0, 0, 3)), 1.0)
    assert dict(+totals.unique) == {3: 1}


def test_predicted_objects_are_not_seen():
    totals = Totals(bin_s=10)
    totals.update(to_tracks([Row(1, 1, 0.9, (0, 0, 5, 5), source=-1)]), 0.0)
    assert not totals.objects


def test_bins_keep_their_times_through_the_night(tmp_path):
    counts = CountsSink(tmp_path, ("person",), CountConfig(bin_s=0.25))
    image = np.zeros((4, 4, 3), np.uint8)
    for index, time in enumerate((0.0, 10_000.25, 1_000_000.5)):
        tracks = at((1, 0, 0, 0))
        counts.write(FrameResult(Frame(index, time, image), Detections.empty(), tracks))
    counts.close()
    lines = (tmp_path / "counts.csv").read_text().splitlines()[1:]
    assert [line.split(",")[:2] for line in lines] == [
        ["0", "0.25"],
        ["10000.25", "10000.5"],
        ["1000000.5", "1000000.75"],
    ]


@pytest.mark.parametrize("bin_s", [0.1, 0.3, 0.7, 1 / 3, 1.1])
def test_bins_whose_width_is_no_binary_fraction(bin_s):
    totals = Totals(bin_s)
    for k in range(60):
        totals.update(at((1, 0, 0)), k / 10)
    bins = totals.table()
    assert [b.number for b in bins] == sorted({int(k / 10 / bin_s + 1e-9) for k in range(60)})


def test_an_object_first_seen_close_to_the_line_counts():
    points = [(50, y) for y in range(97, 130, 3)]  # within the margin of 4 px at first
    assert ways(walk(points, hysteresis=0.2)) == ["in"]


def test_lines_follow_a_change_of_size():
    counter = LineCounter([Line("door", (0, 50), (100, 50))], anchor="center", hysteresis=0.1)
    counter.resize(100, 100)
    assert counter.update(at((1, 50, 70)), 0, 0.0) == []
    counter.resize(200, 200)  # the object stands still: its pixels double
    assert counter.update(at((1, 100, 140)), 1, 0.1) == []
    assert counter.lines[0].end == (200, 100)
    assert ways(counter.update(at((1, 100, 80)), 2, 0.2)) == ["out"]


@pytest.mark.parametrize("line", [(5000, 5000, 6000, 6000), (0.5, 0.5, 0.501, 0.5), (2, 1, 1, 1)])
def test_a_line_that_cannot_count_is_refused(line):
    from tracker.errors import ConfigError

    with pytest.raises(ConfigError, match="too short or outside the 640 x 360 px frame"):
        resolve_lines({"far": line}, 640, 360)


def test_the_table_keeps_crossings_of_a_class_that_was_voted_out(tmp_path):
    import csv

    import numpy as np

    from tracker.config import CountConfig
    from tracker.sinks.counts import CountsSink
    from tracker.types import Detections, Frame, FrameResult

    config = CountConfig(lines={"door": (0, 100, 200, 100)})
    sink = CountsSink(tmp_path, ("background", "person", "car"), config)
    image = np.zeros((200, 200, 3), np.uint8)
    for k, (y, label) in enumerate([(80, 1), (120, 1), (130, 2)]):
        frame = Frame(k, k / 10, image)
        sink.write(FrameResult(frame, Detections.empty(), at((1, 50, y, label))))
    sink.close()
    rows = list(csv.DictReader((tmp_path / "counts.csv").read_text().splitlines()))
    assert [(r["class"], r["unique"], r["door_in"]) for r in rows] == [
        ("person", "0", "1"),
        ("car", "1", "0"),
    ]


def test_a_result_that_comes_twice_is_counted_once():
    """By what it is, not by what it holds: a still picture is a frame of its own each time."""
    stage, picture = CountStage(), np.zeros((200, 200, 3), np.uint8)
    tracks = at((1, 50, 50))
    first = FrameResult(Frame(0, 0.0, picture), Detections.empty(), tracks)
    counted = stage.count(first)
    assert stage.count(first) is stage.count(counted) is counted
    assert (stage.frames, counted.counts.unique) == (1, {1: 1})
    stage.count(FrameResult(Frame(0, 0.0, picture), Detections.empty(), tracks))
    assert stage.frames == 2
