"""`tracker events`: what a run counted, event by event, and pictures to audit it by."""

import csv
import json
import shutil

import numpy as np
import pytest
import scene as scenes
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tracker.config import SourceConfig, load_config
from tracker.drawing import moment
from tracker.drawing.moment import ContactSheet, Moment, draw_moment
from tracker.runs.counted import Choice, clock, read_events
from tracker.runs.moments import write_moments
from tracker.runs.run import run_to_folder
from tracker.video import pick
from tracker.video.pick import pick_frames
from tracker.video.source import open_source

LINES = ("count.lines.middle=[0.5,0,0.5,1]", "count.lines.low=[0,0.7,1,0.7]")


def make_run(scene, video, folder, *more):
    config = load_config(None, [*LINES, "output.video=false", *more])
    run_to_folder(str(video), config, folder, get_detector=lambda: scenes.SceneDetector(scene))


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """A run of a scripted street whose detector is perfect; tests copy it to change it."""
    root = tmp_path_factory.mktemp("street")
    scene = scenes.street(12.0)
    scene.write_video(root / "street.mp4")
    make_run(scene, root / "street.mp4", root / "run")
    return root


@pytest.fixture
def run(street, tmp_path):
    return shutil.copytree(street / "run", tmp_path / "copied")


def logged(folder):
    lines = (folder / "events.jsonl").read_text().splitlines()
    return sorted(map(json.loads, lines), key=lambda event: event["time"])


def rows(out):
    """The table that was printed, a list of words a line, and the sums below."""
    lines = out.splitlines()
    assert lines[0].split() == ["time", "frame", "event", "class", "id", "total"]
    table = [line.split() for line in lines[1:] if line[0].isdigit()]
    return table, lines[len(table) + 1 :]


# ---- the list -----------------------------------------------------------------------------------


def test_each_event_has_a_line_with_its_running_total(run, tracker):
    code, out, err = tracker("events", run)
    assert (code, err) == (0, "")
    table, sums = rows(out)
    expected, totals = [], {}
    for event in logged(run):
        key = (event["line"], event["direction"])
        totals[key] = totals.get(key, 0) + 1
        place = [clock(event["time"]), str(event["frame"]), *key]
        expected.append([*place, event["class"], str(event["id"]), str(totals[key])])
    assert table == expected
    assert len(table) > 6
    counts = json.loads((run / "counts.json").read_text())["lines"]
    assert sums == [
        f"{name}: {sum(ways['in'].values())} in, {sum(ways['out'].values())} out"
        for name, ways in counts.items()
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00:00.000"),
        (59.9996, "0:01:00.000"),
        (3723.0456, "1:02:03.046"),
        (1e6, "277:46:40.000"),
    ],
)
def test_times_are_read_off_a_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("arguments", "fits"),
    [
        (["--line", "low"], lambda e: e["line"] == "low"),
        (["--line", "low,middle", "--class", "dog"], lambda e: e["class"] == "dog"),
        (["--class", "car,person"], lambda e: e["class"] in ("car", "person")),
        (["--since", "4", "--until", "0:08"], lambda e: 4 <= e["time"] < 8),
        (["--since", "100f"], lambda e: e["frame"] >= 100),
        (
            ["--until", "100f", "--line", "middle"],
            lambda e: e["frame"] < 100 and e["line"] != "low",
        ),
    ],
)
def test_events_are_chosen_by_line_class_and_time(run, tracker, arguments, fits):
    whole = json.loads(tracker("events", run, "--json")[1])["runs"][0]["events"]
    code, out, _ = tracker("events", run, *arguments, "--json")
    (found,) = json.loads(out)["runs"]
    assert code == 0
    chosen = [event for event in whole if fits(event)]
    assert 0 < len(chosen) < len(whole)
    assert [event["frame"] for event in found["events"]] == [event["frame"] for event in chosen]
    if "--class" not in arguments:  # totals count from the beginning of the run, however it is cut
        assert found["events"] == chosen


def test_csv_holds_the_same_as_json(run, tracker):
    _, out, err = tracker("events", run, "--csv")
    table = list(csv.DictReader(out.splitlines()))
    (found,) = json.loads(tracker("events", run, "--json")[1])["runs"]
    assert err == ""
    assert [{k: str(v) for k, v in event.items()} for event in found["events"]] == [
        {k: v for k, v in row.items() if k != "run"} for row in table
    ]
    assert {row["run"] for row in table} == {str(run)}
    assert set(found["lines"]) == {"middle", "low"}


def test_a_late_event_stands_where_it_happened(run, tracker):
    lines = (run / "events.jsonl").read_text().splitlines()
    (run / "events.jsonl").write_text("".join(f"{line}\n" for line in reversed(lines)))
    table, _ = rows(tracker("events", run)[1])
    assert [row[1] for row in table] == [str(event["frame"]) for event in logged(run)]


def test_several_runs_and_runs_in_a_folder(run, tmp_path, tracker):
    (tmp_path / "night").mkdir()
    for name in ("a", "b"):
        shutil.copytree(run, tmp_path / "night" / name)
    code, out, _ = tracker("events", run, "night")
    assert code == 0
    headings = [line for line in out.splitlines() if line in (str(run), "night/a", "night/b")]
    assert headings == [str(run), "night/a", "night/b"]
    runs = json.loads(tracker("events", "night", "--json")[1])["runs"]
    assert [one["run"] for one in runs] == ["night/a", "night/b"]
    assert runs[0]["events"] == runs[1]["events"] != []


def test_runs_without_lines_say_so(run, tmp_path, tracker, make_video, tiny_model):
    args = ["run", make_video(frames=3), "--model", tiny_model, "--no-video", "-q", "-o", "bare"]
    assert tracker(*args)[0] == 0
    code, out, err = tracker("events", "bare")
    assert (code, out) == (2, "")
    assert err == "tracker: no lines were counted in bare; run with --line\n"
    code, out, err = tracker("events", "bare", run)
    assert (code, err) == (0, "no lines were counted in bare; run with --line\n")
    assert "middle: " in out


def test_a_line_that_nobody_crossed(run, tracker):
    (run / "events.jsonl").write_text("")
    code, out, err = tracker("events", run, "--crops")
    assert (code, out) == (0, "middle: 0 in, 0 out\nlow: 0 in, 0 out\n")
    assert err == f"{run}: no events to show\n"
    assert not (run / "events").exists()


def test_a_run_that_goes_on_or_was_killed(run, tracker):
    whole, _ = rows(tracker("events", run)[1])
    text = (run / "events.jsonl").read_text()
    (run / "events.jsonl").unlink()
    (run / "events.jsonl.part").write_text(text[:-30])  # cut in the last line
    (run / "tracks.jsonl").rename(run / "tracks.jsonl.part")
    table, _ = rows(tracker("events", run)[1])
    assert len(table) == len(whole) - 1
    assert tracker("events", run, "--crops")[0] == 0
    assert len(list((run / "events").glob("*.jpg"))) == len(table)


@pytest.mark.parametrize(
    ("change", "arguments", "said"),
    [
        (lambda run: None, ["nowhere"], "nowhere: is no folder; give the folder of a run"),
        (
            lambda run: (run.parent / "x").mkdir(),
            ["x"],
            "x: holds no run; give the folder of a run",
        ),
        (
            lambda run: (run / "events.jsonl").unlink(),
            [],
            "its events.jsonl is gone; only a new run",
        ),
        (
            lambda run: (run / "events.jsonl").write_text('{"event": 1}\n'),
            [],
            "events.jsonl:1: is no",
        ),
        (lambda run: None, ["--line", "gate"], "--line gate: is none of middle, low"),
        (lambda run: None, ["--class", "cat"], "--class cat: is none of __background__, person"),
        (lambda run: None, ["--since", "soon"], "--since must be seconds (12.5 or 1:02:03)"),
        (lambda run: None, ["--csv", "--json"], "--csv and --json exclude each other"),
        (lambda run: None, ["--video", "a.mp4"], "--video goes with --crops and one run"),
        (lambda run: (run / "tracks.jsonl").unlink(), ["--crops"], "holds no tracks.jsonl, which"),
        (lambda run: None, ["--crops", "--video", "gone.mp4"], "gone.mp4: the video of"),
        (lambda run: (run / "report.json").unlink(), ["--crops"], "does not say what its video is"),
        (lambda run: (run / "events").write_text(""), ["--crops"], "cannot be written"),
    ],
)
def test_what_is_missing_or_wrong_is_one_sentence(run, tracker, change, arguments, said):
    change(run)
    folders = [] if arguments and not arguments[0].startswith("--") else [run]
    code, _, err = tracker("events", *folders, *arguments)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert err.startswith("tracker: ")


# ---- the pictures -------------------------------------------------------------------------------


def test_each_event_has_a_picture_in_order(run, tracker):
    code, out, err = tracker("events", run, "--crops")
    assert (code, err) == (0, "")
    events = logged(run)
    assert out.endswith(f"\n{len(events)} pictures -> {run}/events/events.html\n")
    pictures = sorted((run / "events").glob("*.jpg"))
    assert [path.stem.split("-", 1)[1] for path in pictures] == [
        f"{e['line']}-{e['direction']}-{e['id']}" for e in events
    ]
    page = (run / "events" / "events.html").read_text()
    places = [page.index(path.name) for path in pictures]
    assert places == sorted(places)
    assert clock(events[0]["time"]) in page
    with Image.open(run / "events" / "sheet-001.png") as sheet:
        assert sheet.size == (6 * 240, -(-len(events) // 6) * 203)


def test_the_frame_that_is_shown_is_that_of_the_event(run, monkeypatch):
    scene = scenes.street(12.0)
    shown = []

    def note(image, what, caption):
        shown.append((image, what, caption))
        return draw_moment(image, what, caption)

    monkeypatch.setattr("tracker.runs.moments.draw_moment", note)
    found = read_events(run, Choice())
    write_moments(found)
    assert len(shown) == len(found.events)
    for one, (image, what, caption) in zip(found.events, shown, strict=True):
        event = one.event
        assert np.abs(image.astype(int) - scene.image(event.frame)).mean() < 6  # a lossy codec
        truth = scene.truth(event.frame)
        boxes = [box.tolist() for box in truth.boxes]
        if what.box is not None:  # else the tracker was not sure of it yet
            assert list(what.box) in boxes
            assert what.mask.area == truth.masks[boxes.index(list(what.box))].area
        assert what.line is not None
        assert caption[1] == f"{clock(event.time)}  frame {event.frame}"
    assert sum(what.box is not None for _, what, _ in shown) >= len(shown) - 1


def test_a_part_at_a_stride_and_a_moved_video(street, tmp_path, tracker):
    scene = scenes.street(12.0)
    shutil.copy(street / "street.mp4", tmp_path / "here.mp4")
    make_run(scene, "here.mp4", tmp_path / "run", "source.start=2", "source.stride=2")
    (tmp_path / "here.mp4").rename(tmp_path / "there.mp4")
    code, _, err = tracker("events", "run", "--crops")
    assert code == 2
    assert "here.mp4: the video of run is not there any more; give it with --video" in err
    code, out, err = tracker("events", "run", "--crops", "--video", "there.mp4", "--csv")
    assert code == 0
    assert f"{len(logged(tmp_path / 'run'))} pictures -> run/events/events.html" in err
    assert len(list((tmp_path / "run" / "events").glob("*.jpg"))) == len(out.splitlines()) - 1 > 0
    with (tmp_path / "there.mp4").open("ab") as file:
        file.write(b"x")
    code, _, err = tracker("events", "run", "--crops", "--video", "there.mp4")
    assert code == 2
    assert "there.mp4: is not the video of run: its content is another" in err


def test_an_album_replaces_the_one_before_and_nothing_else(run, tracker):
    assert tracker("events", run, "--crops")[0] == 0
    (run / "events" / "notes.jpg").write_bytes(b"mine")
    assert tracker("events", run, "--crops", "--line", "low", "--since", "5")[0] == 0
    names = {path.name for path in (run / "events").iterdir()}
    assert {name for name in names if "middle" in name} == set()
    assert {"notes.jpg", "events.html", "sheet-001.png"} < names


def test_many_events_take_several_sheets(run, tracker, monkeypatch):
    monkeypatch.setattr(ContactSheet, "COLUMNS", 2)
    monkeypatch.setattr(ContactSheet, "ROWS", 2)
    assert tracker("events", run, "--crops")[0] == 0
    sheets = sorted((run / "events").glob("sheet-*.png"))
    assert len(sheets) == -(-len(logged(run)) // 4) > 1


def test_an_object_that_was_not_confirmed_yet_is_shown_by_its_place(run, tracker):
    (event, *_) = logged(run)
    lines = (run / "tracks.jsonl").read_text().splitlines()
    for number, line in enumerate(lines[1:], 1):
        frame = json.loads(line)
        if frame["frame"] <= event["frame"]:
            frame["tracks"] = [one for one in frame["tracks"] if one["id"] != event["id"]]
            lines[number] = json.dumps(frame)
    (run / "tracks.jsonl").write_text("".join(f"{line}\n" for line in lines))
    assert tracker("events", run, "--crops")[0] == 0
    assert len(list((run / "events").glob("*.jpg"))) == len(logged(run))


@given(
    st.tuples(st.integers(1, 900), st.integers(1, 700)),
    st.tuples(st.floats(-50, 950), st.floats(-50, 750)),
    st.tuples(st.floats(1, 900), st.floats(1, 700)),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_picture_can_be_made_of_any_moment(frame, place, size, has_box):
    image = np.full((frame[1], frame[0], 3), 99, np.uint8)
    x, y = place
    box = (x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2)
    what = Moment(7, (x + 5, y), box if has_box else None, size, None, ((0, y), (frame[0], y + 1)))
    picture = draw_moment(image, what, ("one", "two"))
    assert picture.shape == (moment.HEIGHT + 46, moment.WIDTH, 3)
    assert (image == 99).all()


def test_the_arrow_points_to_the_side_that_is_in():
    image = np.zeros((360, 480, 3), np.uint8)

    def yellow(line):
        what = Moment(1, (240, 180), None, (100, 100), None, line)
        picture = draw_moment(image, what, ())[: moment.HEIGHT].astype(int)
        found = (picture[..., 0] > 150) & (picture[..., 2] < 60)
        y, x = np.nonzero(found)
        return x.mean(), y.mean()

    assert yellow(((0, 180), (480, 180)))[1] > 182  # drawn to the right: down
    assert yellow(((480, 180), (0, 180)))[1] < 178
    assert yellow(((240, 0), (240, 360)))[0] < 238  # drawn downwards: left
    assert yellow(((240, 360), (240, 0)))[0] > 242


# ---- single frames of a video -------------------------------------------------------------------

WANTED = (0, 3, 140, 141, 300, 399)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("b.mkv", {"codec": "libvpx-vp9"}),
        ("c.avi", {}),  # whose packets do not tell
        ("d.ts", {"codec": "mpeg2video", "fps": 25}),
        ("e.mp4", {"times": [k / 10 + 0.04 * (k % 3) for k in range(400)]}),
    ],
)
def test_a_frame_is_picked_by_its_number(make_video, grey, name, options):
    path = make_video(name, **({"frames": 400} | options))
    whole = {frame.index: frame for frame in open_source(path)}
    frames = list(pick_frames(str(path), reversed(WANTED), SourceConfig(start=5, stride=3)))
    assert [frame.index for frame in frames] == list(WANTED)
    assert [frame.time for frame in frames] == [whole[index].time for index in WANTED]
    assert grey(frames) == [index % 24 for index in WANTED]
    assert [f.index for f in pick_frames(str(path), (399, 400, 999), SourceConfig())] == [399]


def test_little_more_is_decoded_than_what_is_picked(make_video, monkeypatch):
    path, decoded = make_video(frames=400), []

    class Noting(pick.VideoFile):
        def _pass(self, shown):
            time = super()._pass(shown)
            decoded.append(self._index)
            return time

    monkeypatch.setattr("tracker.video.source.VideoFile", Noting)
    monkeypatch.setattr("tracker.video.pick.VideoFile", Noting)
    assert len(list(pick_frames(str(path), (140, 300), SourceConfig()))) == 2
    assert len(decoded) < 10


def test_pictures_in_a_folder_are_picked(tmp_path):
    for k in range(12):
        Image.new("RGB", (32, 24), (20 * k,) * 3).save(tmp_path / f"{k}.png")
    frames = list(pick_frames(str(tmp_path), (2, 11), SourceConfig()))
    assert [(f.index, f.time, int(f.image[0, 0, 0])) for f in frames] == [
        (2, 0.2, 40),
        (11, 1.1, 220),
    ]
