import csv
import itertools
import json

import numpy as np
import pytest
import scene as scenes
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.associate.mask_tracker import MaskTracker
from tracker.config import CountConfig, load_config
from tracker.count.lines import Line, LineCounter, resolve_lines
from tracker.count.stage import CountStage
from tracker.count.totals import Totals
from tracker.errors import ConfigError
from tracker.formats.rows import Row, to_tracks
from tracker.runs.track import track
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
    return events + counter.finish()


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
    with pytest.raises(ConfigError, match="too short or outside the 640 x 360 px frame"):
        resolve_lines({"far": line}, 640, 360)


def test_the_table_keeps_crossings_of_a_class_that_was_voted_out(tmp_path):
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


# ---- at the border of the picture ---------------------------------------------------------------

WIDTH, HEIGHT = 640, 480


def boxed(box, id_=1):
    """One object by its box; none where the box is None."""
    return Tracks.empty() if box is None else to_tracks([Row(id_, 1, 0.9, tuple(map(float, box)))])


def follow(boxes, line, *, fps=10, anchor="center", size=(WIDTH, HEIGHT)):
    """Directions in which an object goes over a line, seen in these boxes, then no more."""
    counter = LineCounter([Line("a", line[:2], line[2:])], anchor=anchor, hysteresis=0.1)
    counter.resize(*size)
    events = []
    for k, box in enumerate([*boxes, *[None] * (3 * fps)]):
        events += counter.update(boxed(box), k, k / fps)
    return ways(events)


def person(start, speed, fps, *, least=0.1):
    """Boxes of 80 x 200 px that the picture cuts, from where it is wholly seen to where it is not.

    A detector sees no less than a share `least` of it.
    """
    boxes = []
    for k in range(1000):
        x, y = (place + v * k / fps for place, v in zip(start, speed, strict=True))
        x1, y1 = max(x - 40, 0), max(y - 100, 0)
        x2, y2 = min(x + 40, WIDTH), min(y + 100, HEIGHT)
        if x2 <= x1 or y2 <= y1 or (x2 - x1) * (y2 - y1) < least * 80 * 200:
            return boxes
        boxes.append((x1, y1, x2, y2))
    raise AssertionError("it stays in the picture")


EDGES = {
    "right": ((450, 240), (1, 0), [(620, 0, 620, 480), (630, 480, 630, 0), (605, 0, 635, 480)]),
    "left": ((190, 240), (-1, 0), [(20, 0, 20, 480), (2, 0, 2, 480)]),
    "bottom": ((320, 300), (0, 1), [(0, 460, 640, 460), (0, 475, 640, 445)]),
    "top": ((320, 240), (0, -1), [(0, 40, 640, 40), (640, 30, 0, 30)]),
    "corner": ((480, 320), (0.7, 0.7), [(540, 480, 640, 380), (600, 480, 640, 440)]),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("anchor", ["center", "bottom"])
@pytest.mark.parametrize(("speed", "fps"), [(40, 25), (100, 10), (300, 5), (600, 10)])
def test_who_leaves_or_enters_over_a_line_near_the_border_counts_once(edge, anchor, speed, fps):
    start, way, lines = EDGES[edge]
    leaving = person(start, (way[0] * speed, way[1] * speed), fps)
    for line in lines:
        foot = start[1] + 100 if anchor == "bottom" else start[1]
        from_left = Line("a", line[:2], line[2:]).side((start[0], foot)) < 0
        there, back = ("in", "out") if from_left else ("out", "in")
        assert follow(leaving, line, fps=fps, anchor=anchor) == [there], (line, "leaving")
        entering = [None, None, *reversed(leaving)]
        assert follow(entering, line, fps=fps, anchor=anchor) == [back], (line, "entering")


def test_who_only_comes_near_the_border_crosses_nothing():
    there = person((450, 240), (100, 0), 10)[:16]  # up to 600, 20 px before the line
    assert follow([*there, *reversed(there)], (620, 0, 620, 480)) == []
    standing = [(590, 140, 640, 340)] * 30  # cut by the border, at either side of its centre
    assert follow(standing, (620, 0, 620, 480)) == follow(standing, (610, 0, 610, 480)) == []


def test_a_line_that_is_met_out_of_sight_is_not_crossed():
    down_right = person((320, 300), (60, 200), 25)
    assert follow(down_right, (320, 460, 600, 460), fps=25) == ["in"]
    assert follow(down_right, (460, 0, 460, 480), fps=25) == []


def test_a_line_drawn_to_the_border_goes_on_where_the_feet_are():
    """The feet are below the picture when the person goes over a line of its whole height."""
    boxes = [(x - 40, 340, x + 40, 480) for x in range(200, 420, 10)]
    assert follow(boxes, (300, 0, 300, 480), anchor="bottom") == ["out"]
    inside = [(x - 40, 140, x + 40, 340) for x in range(200, 420, 10)]
    assert follow(inside, (300, 0, 300, 300), anchor="bottom") == []  # it ends above the feet


# ---- flicker, trembling, hidden feet ------------------------------------------------------------

LINE = (0, 240, 640, 240)


def column(ys, height=20, width=10):
    return [y and (100 - width / 2, y - height / 2, 100 + width / 2, y + height / 2) for y in ys]


@pytest.mark.parametrize("fps", [10, 25])
@pytest.mark.parametrize("far", [3, 10, 15])
def test_a_flicker_over_a_line_is_no_crossing(fps, far):
    ys = [238] * 10 + [240 + far] + [238] * 10
    assert follow(column(ys), LINE, fps=fps) == []
    twice = [238] * 10 + [240 + far] * 2 + [238] * 3 + [240 + far] + [238] * 10
    assert follow(column(twice), LINE, fps=25) == []


@pytest.mark.parametrize("fps", [10, 25])
@pytest.mark.parametrize("size", [2.5, 4, 8])
def test_trembling_does_not_count_again_and_again(fps, size):
    for hold in (1, 2, 3):
        ys = [240 - size * (-1) ** (k // hold) for k in range(60)]
        assert len(follow(column(ys), LINE, fps=fps)) <= 2
    back_and_forth = [240 - size * (-1) ** k for k in range(61)]
    assert follow(column(back_and_forth), LINE, fps=fps) == []
    random = np.random.default_rng(1).uniform(-size, size, 300)
    assert len(follow(column(240 + random), LINE, fps=fps)) <= 2


def test_a_true_crossing_is_told_late_and_at_its_own_time():
    counter = LineCounter([Line("a", LINE[:2], LINE[2:])], anchor="center", hysteresis=0.1)
    told = {}
    for k, box in enumerate(column([*range(210, 246, 4), *[246] * 10])):
        for event in counter.update(boxed(box), k, k / 10):
            told[k] = event
    ((frame, event),) = told.items()
    assert (event.frame, event.time) == (8, pytest.approx(0.8))
    assert event.point == pytest.approx((100, 240))
    assert event.frame < frame <= event.frame + 5


@pytest.mark.parametrize(
    ("fps", "ys", "expected"),
    [
        (2, [200, 245, 200], ["in", "out"]),  # half a second there, seen once
        (10, [200, 245], ["in"]),  # the track ends behind the line
        (10, [236, 238, 243], ["in"]),  # right behind it
        (10, [200, 300], ["in"]),  # too fast to be seen near it
        (10, [*[230] * 5, *[246] * 6, *[230] * 6], ["in", "out"]),
        (10, [200, 300, 200], ["in", "out"]),  # there and back, farther than a box
        (10, [200, 245, *[None] * 8, 235, 230, 225], ["in", "out"]),
    ],
)
def test_no_true_crossing_is_lost(fps, ys, expected):
    assert follow(column(ys), LINE, fps=fps) == expected
    counter = LineCounter([Line("a", LINE[:2], LINE[2:])], anchor="center", hysteresis=0.1)
    events = []
    for k, box in enumerate(column(ys)):
        events += counter.update(boxed(box), k, k / fps)
    assert ways(events + counter.finish()) == expected  # where the video ends with the track


@pytest.mark.parametrize("anchor", ["center", "bottom"])
@pytest.mark.parametrize("frames", [1, 5, 20])
def test_feet_that_are_hidden_are_no_movement(anchor, frames):
    y = 180 if anchor == "center" else 240
    whole, cut = (80, 120, 120, 280), (80, 120, 120, 200)
    line = (0, y, 640, y)
    stands = [whole] * 10 + [cut] * frames + [whole] * 10
    assert follow(stands, line, anchor=anchor) == []
    assert follow([whole] * 10 + [cut] * frames, line, anchor=anchor) == []
    slowly = [(80, 120, 120, 280 - 30 * k) for k in (1, 2)]
    assert follow([whole] * 10 + slowly + [cut] * frames, line, anchor=anchor) == []
    up = [(80, 120 - 8 * k, 120, 200 - 8 * k) for k in range(15)]
    assert follow([whole] * 10 + [cut] * frames + up, line, anchor=anchor) == ["out"]
    down = [(80, 40 + 8 * k, 120, 200 + 8 * k) for k in range(15)]
    assert follow(down, line, anchor=anchor) == ["in"]  # and no hidden feet keep it from counting


def test_a_box_that_holds_two_for_a_moment_crosses_nothing():
    alone, both = (80, 250, 120, 330), (80, 170, 120, 330)
    assert follow([alone] * 10 + [both] * 3 + [alone] * 20, (0, 270, 640, 270)) == []


def test_who_comes_nearer_is_not_hidden():
    """At eye level heads keep their height in the picture while the feet come down."""
    nearer = [(300 - k, 100, 320 + k, 160 + 3 * k) for k in range(60)]
    assert follow(nearer, (0, 260, 640, 260), anchor="bottom") == ["in"]
    assert follow(nearer, (0, 160, 640, 160)) == ["in"]


# ---- who is confirmed behind a line -------------------------------------------------------------


def counted(points, lines, *, broken_off=None):
    """Events of objects that a tracker follows: five frames a second, confirmed by the third.

    `broken_off` is the frame behind which all states go through JSON, to another process.
    """
    image = np.zeros((480, 640, 3), np.uint8)
    stage, tracker = CountStage(CountConfig(lines=lines)), MaskTracker()
    events = []
    for k, (x, y) in enumerate(points):
        found = Detections(
            boxes=np.array([[x - 20, y - 20, x + 20, y + 20]], np.float32),
            scores=np.array([0.8], np.float32),
            labels=np.array([1]),
            masks=(None,),
        )
        frame = Frame(k, k / 5, image)
        tracks = tracker.update(found, frame.time)
        events += stage.count(FrameResult(frame, found, tracks)).events
        if k == broken_off:
            state = type(stage.state()).model_validate_json(stage.state().model_dump_json())
            stage = CountStage(stage.config, state)
            past = type(tracker.state()).model_validate_json(tracker.state().model_dump_json())
            tracker = MaskTracker()
            tracker.restore(past)
    return [*events, *stage.finish()]


QUICK = [(100 + 20 * k, 240) for k in range(12)]  # confirmed at 140


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({"a": (110, 0, 110, 480)}, [("a", "out", 1)]),
        ({"a": (110, 0, 110, 480), "b": (130, 480, 130, 0)}, [("a", "out", 1), ("b", "in", 2)]),
        ({"a": (110, 0, 130, 240), "b": (130, 240, 110, 480)}, [("a", "out", 2), ("b", "out", 2)]),
        ({"a": (110, 0, 130, 230), "b": (130, 230, 110, 480)}, [("b", "out", 2)]),
        ({"a": (110, 0, 110, 480), "b": (250, 0, 250, 480)}, [("a", "out", 1), ("b", "out", 8)]),
    ],
    ids=["one", "two", "polyline, at its corner", "polyline", "before and behind"],
)
def test_who_crossed_before_the_tracker_was_sure_counts(lines, expected):
    events = counted(QUICK, lines)
    assert [(e.name, e.direction, e.frame) for e in events] == expected
    assert [e.time for e in events] == pytest.approx([e.frame / 5 for e in events])
    for frame in range(len(QUICK)):
        assert counted(QUICK, lines, broken_off=frame) == events, frame


def test_a_crossing_that_is_not_yet_sure_goes_through_a_snapshot():
    """In every frame: near the border, hidden, beyond the line, gone from sight."""
    boxes = [None, *reversed(person((450, 240), (60, 0), 10)), *[(410, 140, 490, 340)] * 3]
    boxes += [(410, 140, 490, 240)] * 5 + person((440, 240), (-90, 30), 10) + [None] * 30
    lines = [Line("a", (620, 0), (620, 480)), Line("b", (400, 480), (380, 0))]

    def run(broken_off=None):
        counter, events = LineCounter(lines, anchor="bottom", hysteresis=0.1), []
        counter.resize(WIDTH, HEIGHT)
        for k, box in enumerate(boxes):
            events += counter.update(boxed(box), k, k / 10)
            if k == broken_off:
                state = counter.state()
                counter = LineCounter([], anchor="bottom", hysteresis=0.1)
                counter.restore(type(state).model_validate_json(state.model_dump_json()))
        return events + counter.finish()

    whole = run()
    assert [(e.name, e.direction) for e in whole] == [("a", "in"), ("b", "out")]
    for frame in range(0, len(boxes), 2):
        assert run(frame) == whole, frame


def test_the_last_crossing_is_written_when_the_run_ends(tmp_path):
    sink = CountsSink(
        tmp_path, ("background", "person"), CountConfig(lines={"a": (0, 99, 200, 99)})
    )
    image = np.zeros((200, 200, 3), np.uint8)
    for k, y in enumerate((80, 85, 103)):
        sink.write(FrameResult(Frame(k, k / 10, image), Detections.empty(), at((1, 50, y))))
    assert (tmp_path / "events.jsonl.part").read_text() == ""
    sink.close()
    (event,) = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    assert (event["line"], event["direction"], event["frame"]) == ("a", "in", 2)
    assert json.loads((tmp_path / "counts.json").read_text())["lines"]["a"]["in"] == {"person": 1}
    (row,) = csv.DictReader((tmp_path / "counts.csv").read_text().splitlines())
    assert row["a_in"] == "1"


def test_the_last_result_of_a_file_has_the_last_crossing(tmp_path):
    scene = scenes.street(4.0)
    scene.write_video(tmp_path / "street.mp4")
    line = "count.lines.middle=[0.5,0,0.5,1]"

    def results(*more):
        config = load_config(None, [line, *more])
        return list(track(tmp_path / "street.mp4", config, detector=scenes.SceneDetector(scene)))

    first, *_ = (event for result in results() for event in result.events)
    cut = results(f"source.end={first.frame + 1}f")
    assert [event for result in cut for event in result.events] == [first]
    assert cut[-1].events == (first,)
    assert sum(one.entered + one.left for one in cut[-1].counts.lines) == 1


# ---- the units of a line ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        (0, 0.5, 640, 0.5),
        (0.5, 0, 0.5, 480),
        (0.2, 300, 0.8, 300),
        (10, 20, 30, 0.25),
        (-0.1, 0.5, 1.1, 0.5),
        (-0.25, 0, 640, 480),
    ],
)
def test_a_line_of_mixed_units_is_refused(line, tracker, tmp_path):
    values = ",".join(map(str, line))
    code, out, err = tracker("run", "street.mp4", "--line", f"a={values}")
    assert (code, out) == (2, "")
    assert "line 'a' mixes px and fractions of the frame (" in err
    assert err.endswith("give all four in px, or all four from 0 to 1\n")
    (tmp_path / "run.toml").write_text(f"[count.lines]\na = [{values}]\n")
    code, _, err = tracker("run", "street.mp4", "--config", "run.toml")
    assert code == 2
    assert err.startswith("tracker: run.toml: count line 'a' mixes px and fractions")


@pytest.mark.parametrize(
    ("line", "start", "end"),
    [
        ((0, 0, 1, 1), (0, 0), (640, 360)),
        ((0, 1, 640, 1), (0, 1), (640, 1)),
        ((1, 0, 1, 360), (1, 0), (1, 360)),
        ((0, 0, 0, 1), (0, 0), (0, 360)),
        ((0, 0.5, 1, 0.5), (0, 180), (640, 180)),
        ((-20, 100, 700, 100), (-20, 100), (700, 100)),
        ((1.5, 0, 1.5, 360), (1.5, 0), (1.5, 360)),
    ],
)
def test_a_line_of_one_unit_is_taken(line, start, end):
    (resolved,) = resolve_lines(CountConfig(lines={"a": line}).lines, 640, 360)
    assert (resolved.start, resolved.end) == (start, end)
