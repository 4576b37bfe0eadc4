import json
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import scene as scenes
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.errors import FormatError, MissingExtraError, SinkError
from tracker.formats import FORMATS, get_format
from tracker.formats.mots import without_overlap
from tracker.formats.rows import Row, to_rows, to_tracks
from tracker.masks import Mask
from tracker.types import LoggedFrame, LogInfo, TrackLog, Tracks

INFO = LogInfo(640, 360, scenes.CATEGORIES, Fraction(30000, 1001), "street.mp4")


def log(info=INFO, predicted=True):
    scene = scenes.street(seconds=2.0, fps=10)
    frames = []
    for index, time in enumerate(scene.times):
        tracks = scene.truth(index)
        if predicted and index == 5:  # one object is only predicted
            sources = tracks.sources.copy()
            sources[0] = -1
            tracks = replace(tracks, sources=sources, masks=(None, *tracks.masks[1:]))
        if index == 7:
            tracks = Tracks.empty()
        if index != 9:  # a dropped frame
            frames.append(LoggedFrame(index, time, 640, 360, tracks, suspect=index == 3))
    return TrackLog(info, frames)


def equal_masks(a, b):
    return (a is None and b is None) or (
        a is not None and b is not None and a.box == b.box and np.array_equal(a.bits, b.bits)
    )


def same(a, b, *, masks=True, boxes=True, scores=True, predicted=True, labels=True):
    assert a.ids.tolist() == b.ids.tolist()
    if labels:  # else they have the format's own numbers, see test_reimport.py
        assert a.labels.tolist() == b.labels.tolist()
    if boxes:
        assert np.allclose(a.boxes, b.boxes, atol=0.011)
    if scores:
        assert np.allclose(a.scores, b.scores, atol=1e-4)
    if predicted:
        assert a.observed.tolist() == b.observed.tolist()
    if masks:
        assert all(equal_masks(p, q) for p, q in zip(a.masks, b.masks, strict=True))


@pytest.mark.parametrize("name", ["jsonl", "coco"])
def test_everything_survives(name, tmp_path):
    original, module = log(), get_format(name)
    path = tmp_path / f"tracks{module.SUFFIX}"
    module.write(original, path)
    back = module.read(path)
    frames = list(back.frames)
    assert back.info == original.info
    assert [f.index for f in frames] == [f.index for f in original.frames]
    assert [f.time for f in frames] == pytest.approx([f.time for f in original.frames])
    assert [f.suspect for f in frames] == [f.suspect for f in original.frames]
    assert [(f.width, f.height) for f in frames] == [(640, 360)] * len(frames)
    for a, b in zip(original.frames, frames, strict=True):
        same(a.tracks, b.tracks)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_youtube_vis_round_trip(tmp_path):
    original, module = log(), get_format("youtube-vis")
    module.write(original, tmp_path / "vis.json")
    back = module.read(tmp_path / "vis.json")
    frames = list(back.frames)
    assert back.info == original.info
    assert [f.index for f in frames] == [f.index for f in original.frames]
    for a, b in zip(original.frames, frames, strict=True):
        same(a.tracks, b.tracks)
    content = json.loads((tmp_path / "vis.json").read_text())
    assert content["videos"][0]["length"] == 20
    assert all(len(a["segmentations"]) == 20 for a in content["annotations"])


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_tables_round_trip(name, tmp_path):
    if name == "parquet":
        pytest.importorskip("pyarrow")
    original, module = log(), get_format(name)
    path = tmp_path / f"tracks{module.SUFFIX}"
    module.write(original, path)
    frames = list(module.read(path).frames)
    kept = [f for f in original.frames if len(f.tracks)]
    assert [f.index for f in frames] == [f.index for f in kept]
    for a, b in zip(kept, frames, strict=True):
        same(a.tracks, b.tracks)
        assert b.time == pytest.approx(a.time)


def test_mot_round_trip(tmp_path):
    original, module = log(), get_format("mot")
    module.write(original, tmp_path / "mot.txt")
    frames = list(module.read(tmp_path / "mot.txt", fps=10).frames)
    kept = [f for f in original.frames if len(f.tracks)]
    for a, b in zip(kept, frames, strict=True):
        assert (a.index, a.time) == (b.index, pytest.approx(b.time))
        same(a.tracks, b.tracks, masks=False, labels=False)
    assert (tmp_path / "mot.txt").read_text().startswith("1,")


def test_mots_round_trip_without_overlap(tmp_path):
    original, module = log(predicted=False), get_format("mots")
    module.write(original, tmp_path / "mots.txt")
    frames = list(module.read(tmp_path / "mots.txt", fps=10).frames)
    kept = [f for f in original.frames if len(f.tracks)]
    for a, b in zip(kept, frames, strict=True):
        same(a.tracks, b.tracks, boxes=False, scores=False, labels=False)


def test_overlapping_pixels_go_to_the_nearer_object():
    square = np.ones((10, 10), np.bool_)
    rows = [
        Row(1, 1, 0.9, (0, 0, 10, 10), Mask(0, 0, square)),
        Row(2, 1, 0.5, (5, 0, 15, 12), Mask(5, 2, square)),  # its lower edge is the lowest
        Row(3, 1, 0.9, (6, 3, 9, 6), Mask(6, 3, square[:3, :3])),
        Row(4, 1, 0.9, (0, 0, 10, 10), Mask(0, 0, square)),
    ]
    kept = dict(without_overlap(to_tracks(rows)))
    assert kept[0].area == 100 - 5 * 8
    assert kept[1].area == 100
    assert 2 not in kept  # nothing is left of it
    assert 3 not in kept  # a double: of two alike the lower id stays


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_log(name, tmp_path):
    if name == "parquet":
        pytest.importorskip("pyarrow")
    module = get_format(name)
    module.write(TrackLog(INFO, []), tmp_path / "empty")
    assert list(module.read(tmp_path / "empty").frames) == []


@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_file_is_named(name, tmp_path):
    if name == "parquet":
        pytest.importorskip("pyarrow")
    with pytest.raises(FormatError, match="nothing"):
        list(get_format(name).read(tmp_path / "nothing").frames)


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_that_is_not_there(name, tmp_path):
    if name == "parquet":
        pytest.importorskip("pyarrow")
    with pytest.raises(SinkError, match="cannot be written"):
        get_format(name).write(log(), tmp_path / "no" / "file")


HEADER = '{"format":"mask-tracker-tracks","version":1,"width":10,"height":10,"categories":["a"]}'
TRACK = '{"id":1,"label":0,"score":0.5,"box":[1,2,3,4],"detection":0}'


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("jsonl", "", ":1: is not valid JSON"),
        ("jsonl", "[]\n", ":1: must be a JSON object"),
        ("jsonl", '{"format":"other"}\n', ":1: is not a track log"),
        ("jsonl", HEADER.replace("1,", "9,", 1) + "\n", ":1: version must be 1, got 9"),
        ("jsonl", HEADER.replace("10", '"x"', 1) + "\n", ":1: the header is malformed"),
        ("jsonl", HEADER + '\n{"frame":0}\n', ":2: is malformed"),
        ("jsonl", HEADER + "\nnonsense\n{}\n", ":2: is not valid JSON"),
        (
            "jsonl",
            HEADER + '\n{"frame":1,"time":0,"tracks":[]}\n{"frame":1,"time":1,"tracks":[]}\n',
            ":3: frames and times must ascend",
        ),
        (
            "jsonl",
            f'{HEADER}\n{{"frame":0,"time":0,"tracks":[{TRACK},{TRACK}]}}\n',
            ":2: is malformed: id 1 appears twice",
        ),
        (
            "jsonl",
            f'{HEADER}\n{{"frame":0,"time":0,"tracks":[{TRACK.replace("3", "NaN")}]}}\n',
            ":2: is malformed: box and score must be finite",
        ),
        ("mot", "1,1,0,0\n", ":1: must be numbers: frame,id,x,y,w,h and so on, got '1,1,0,0'"),
        ("mot", "1,1,0,0,5,x\n", ":1: must be numbers"),
        ("mot", "0,1,0,0,5,5\n", ":1: frame must be a whole number from 1"),
        ("mot", "1,-1,0,0,5,5\n", ":1: id must be in 1..9007199254740992, got -1"),
        ("mot", "1,1,0,0,5,5,1,1.5\n", ":1: class must be a whole number, got 1.5"),
        ("mot", "1,1,0,0,-5,5\n", ":1: width and height must not be negative"),
        ("mot", "1,1,0,0,5,inf\n", ":1: box and score must be finite"),
        ("mot", "1,1,0,0,5,5\n1,1,0,0,5,5\n", "frame 1: id 1 appears twice"),
        ("mots", "0 1 1 10 10\n", ":1: must be frame id class height width rle"),
        ("mots", "0 1 1 10 x abc\n", ":1: must be frame id class height width rle"),
        ("mots", "0 1 1 10 10 !\n", ":1: RLE counts hold a character"),
        ("coco", "{", "is not valid JSON"),
        ("coco", "[]", "must hold a JSON object"),
        ("coco", '{"annotations": [{}]}', "is malformed"),
        ("coco", '{"a": NaN}', "NaN is not allowed"),
        ("youtube-vis", '{"videos": []}', "is malformed"),
        ("csv", "frame,time\n", ":1: the column 'id' is missing"),
    ],
)
def test_malformed_files_are_refused_by_line(name, text, where, tmp_path):
    path = tmp_path / "bad"
    path.write_text(text)
    with pytest.raises(FormatError) as error:
        list(get_format(name).read(path).frames)
    assert where in str(error.value)
    assert str(path) in str(error.value)


def test_a_log_cut_by_a_crash_is_read_up_to_there(tmp_path):
    module = get_format("jsonl")
    module.write(log(), tmp_path / "log")
    whole = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(whole[:-200])
    assert len(list(module.read(tmp_path / "log").frames)) == len(log().frames) - 1


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_bytes_break_a_reader(data):
    """Any mutation of a good file is read, or refused with FormatError: nothing else."""
    import tempfile
    from pathlib import Path

    name = data.draw(st.sampled_from([n for n in FORMATS if n != "parquet"]))
    module = get_format(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        frames = log().frames[:3]
        module.write(TrackLog(INFO, frames), path)
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(content) - 1))
            content[at] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        with suppress(FormatError):
            list(module.read(path).frames)


def test_rows_and_tracks_are_inverse():
    tracks = log().frames[4].tracks
    same(tracks, to_tracks(to_rows(tracks)))


def test_parquet_without_pyarrow(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mask-tracker\[parquet\]'"):
        get_format("parquet").write(log(), tmp_path / "x.parquet")


def test_every_cut_of_a_log_is_read_up_to_there(tmp_path):
    module = get_format("jsonl")
    info = replace(INFO, categories=("hintergrund", "fußgänger", "auto", "hund"))
    module.write(TrackLog(info, log().frames[:3]), tmp_path / "log")
    whole = (tmp_path / "log").read_bytes()
    start = whole.index(b"\n") + 1
    for cut in range(start, len(whole), 7):
        (tmp_path / "cut").write_bytes(whole[:cut])
        assert len(list(module.read(tmp_path / "cut").frames)) <= 3


def test_a_mask_larger_than_csvs_usual_field(tmp_path):
    noise = np.random.default_rng(0).random((600, 600)) < 0.5
    noise[0] = noise[-1] = noise[:, 0] = noise[:, -1] = True
    frame = LoggedFrame(
        0, 0.0, 600, 600, to_tracks([Row(1, 1, 0.9, (0, 0, 600, 600), Mask(0, 0, noise))])
    )
    module = get_format("csv")
    module.write(TrackLog(INFO, [frame]), tmp_path / "big.csv")
    (back,) = module.read(tmp_path / "big.csv").frames
    assert np.array_equal(back.tracks.masks[0].bits, noise)
