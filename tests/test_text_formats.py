"""What text formats leave out, count otherwise or number by themselves, and what `export` says."""

import json
import re

import numpy as np
import pytest

from tracker.errors import ConfigError, FormatError
from tracker.formats import get_format, open_log
from tracker.formats.detections import read as read_detections
from tracker.formats.numbers import MOT, MOTS, Numbering, find_class
from tracker.formats.rows import Row, to_rows, to_tracks
from tracker.masks import Mask, mask_to_rle
from tracker.types import LoggedFrame, LogInfo, TrackLog

SEQINFO = "[Sequence]\nname=S-1\nframeRate=14\nseqLength=9\nimWidth=64\nimHeight=48\n"
BOX = "1,1,10,20,30,40,0.5,1,1\n"


def rle_of(width=40, height=30, x=5):
    return mask_to_rle(Mask(x, 5, np.ones((9, 9), np.bool_)), width, height)["counts"]


def mots_text(*frames, label=2, id_=1):
    return "".join(f"{k} {id_} {label} 30 40 {rle_of(x=5 + k)}\n" for k in frames)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def rows_of(path, **options):
    """Return (frame index, row) of every object of a file."""
    log = open_log(path, **options)
    return [(frame.index, row) for frame in log.frames for row in to_rows(frame.tracks)]


@pytest.fixture
def export(tracker):
    """Run `tracker export`; return what it printed and its notes."""

    def call(*args):
        code, out, err = tracker("export", *args)
        assert code == 0, err
        return out.strip(), err

    return call


@pytest.fixture
def refused(tracker):
    """Run a command that fails; return its one sentence."""

    def call(*args):
        code, _, err = tracker(*args)
        assert code == 2, err
        assert err.count("\n") == 1
        return err

    return call


# How text is written ----------------------------------------------------------------------------

TWO_BOXES = "1,7,10,20,30,40,0.5,1,1\n1,8,60,20,30,40,0.5,3,1\n"


@pytest.mark.parametrize(
    "content",
    {
        "CR LF": TWO_BOXES.replace("\n", "\r\n").encode(),
        "CR": TWO_BOXES.replace("\n", "\r").encode(),
        "CR CR LF": TWO_BOXES.replace("\n", "\r\r\n").encode(),
        "BOM": b"\xef\xbb\xbf" + TWO_BOXES.encode(),
        "UTF-16": TWO_BOXES.encode("utf-16"),
        "UTF-16 of the other order": b"\xfe\xff" + TWO_BOXES.encode("utf-16-be"),
        "tabs in UTF-16": TWO_BOXES.replace(",", "\t").encode("utf-16"),
        "quoted": re.sub(r"([\d.]+)", r'"\1"', TWO_BOXES).encode(),
        "classes by name": TWO_BOXES.replace("5,1,", "5,person,").replace("5,3", "5,Car").encode(),
        "classes by name, no numbers": TWO_BOXES.replace("5,1,1", "5,-1,person")
        .replace("5,3,1", "5,-1,Car")
        .encode(),
        "names behind numbers": TWO_BOXES.replace("3,1", "3,car").encode(),
    }.items(),
    ids=lambda item: item[0],
)
def test_text_is_read_however_its_lines_and_fields_are_written(tracker, tmp_path, content):
    path = tmp_path / "r.txt"
    path.write_bytes(content[1])
    found = [(index, row.id, row.label, row.box) for index, row in rows_of(path)]
    assert found == [(0, 7, 1, (10, 20, 40, 60)), (0, 8, 3, (60, 20, 90, 60))]
    code, out, err = tracker("associate", path, "-o", tmp_path / "o.txt", "--fps", "9")
    assert code == 0, err
    assert out.startswith("1 frames, ")


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("to", ["csv", "jsonl", "mots"])
def test_logs_and_masks_too(tmp_path, to, encoding, end):
    path = tmp_path / f"a{get_format(to).SUFFIX}"
    get_format(to).write(a_log(), path)
    expected = [(index, row.id, row.box) for index, row in rows_of(path)]
    path.write_bytes(path.read_text().replace("\n", end).encode(encoding))
    assert len(expected) == 3
    assert [(index, row.id, row.box) for index, row in rows_of(path)] == expected


def test_a_table_may_be_quoted(tmp_path):
    quoted = "".join(
        ",".join(f'"{field}"' for field in line.split(",")) + "\n" for line in table().split()
    )
    ((_, row),) = rows_of(write(tmp_path / "t.csv", quoted))
    assert (row.id, row.box) == (3, (1, 2, 11, 22))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_detections_in_json_too(tmp_path, encoding):
    result = {"image_id": 0, "category_id": 1, "bbox": [1, 2, 10, 20], "score": 0.5}
    path = tmp_path / "d.json"
    path.write_bytes(json.dumps([result]).encode(encoding))
    (frame,) = read_detections(path, fps=10).frames
    assert frame.detections.boxes.tolist() == [[1, 2, 11, 22]]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (BOX.strip() + " " + BOX.strip(), "must be an object with 10 fields at most, got 17"),
        (" ".join(["1 1 10 20 30 40 0.5 1 1"] * 2), "must be an object with 10 fields at most"),
        ("1,1,10,20,30,40,1,-1,-1,-1,0", "must be an object with 10 fields at most, got 11"),
        ("0 0 Car 0 0 -1.8 1 2 3 4 1 1 1 1 1 1 1", "must be numbers"),  # KITTI's boxes
        ("1,1,10,20,30,40,1,unicorn,1", "class 'unicorn' has no number in MOTChallenge; it knows"),
        ("1,1,10,20,30,40,1,-1,unicorn", "class 'unicorn' has no number in MOTChallenge"),
        ("1,1,10,20,30,40,1,1,0,often", "must have numbers behind the score, got 'often'"),
        ("1,1.5,10,20,30,40", "id must be a whole number, got 1.5"),
        ("1,9007199254740994.0,10,20,30,40", "id 9007199254740994.0 is too large"),
    ],
)
@pytest.mark.parametrize("command", ["export", "evaluate"])
def test_a_line_that_is_no_object_is_refused_by_its_number(
    refused, tmp_path, line, sentence, command
):
    write(tmp_path / "gt.txt", BOX.replace("0.5", "1"))
    write(tmp_path / "r.txt", f"1,1,110,20,40,80,1,1,1\n{line}\n")
    said = refused(*{
        "export": ["export", "r.txt", "--to", "csv"],
        "evaluate": ["evaluate", "gt.txt", "r.txt"],
    }[command])  # fmt: skip
    assert f"r.txt:2: {sentence}" in said


def test_large_ids_stay_apart_or_are_refused(tracker, refused, tmp_path):
    first, second = 2**60 + 1, 2**60 + 2  # one number as floats
    write(tmp_path / "h.txt", f"1,{first},10,20,30,40,1,1,1\n1,{second},90,20,30,40,1,1,1\n")
    code, out, err = tracker("evaluate", "h.txt", "h.txt", "--json")
    assert code == 0, err
    assert '"IDs": 2' in out
    assert "h.txt:1: id must be in 1.." in refused("export", "h.txt", "--to", "csv")
    write(tmp_path / "t.csv", table(id=str(2**53 + 1)))
    assert f"t.csv:2: id must be in 1..{2**53}" in refused("export", "t.csv", "--to", "mot")


# What is empty ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("1,,110,20,40,80,1,1,1", "id is empty"),
        (",1,110,20,40,80,1,1,1", "frame is empty"),
        ("1,1,,20,40,80,1,1,1", "x is empty"),
        ("1, 1, 110, 20, , 80, 1", "width is empty"),
        ("1\t1\t110\t20\t40\t\t1\t1", "height is empty"),
        ("\t1\t110\t20\t40\t80\t1", "frame is empty"),
        ("1,1,110,20,40,", "must be numbers"),
        ("1,1 110,20,40,80,1", "must be numbers"),
        ("1 1 110 20 40", "must be numbers"),
    ],
)
@pytest.mark.parametrize("command", ["export", "evaluate", "associate"])
def test_an_empty_field_that_must_be_told_is_refused_by_line(
    refused, tmp_path, line, sentence, command
):
    write(tmp_path / "gt.txt", BOX.replace("0.5", "1"))
    write(tmp_path / "r.txt", f"1,1,110,20,40,80,1,1,1\n{line}\n")
    said = refused(*{
        "export": ["export", "r.txt", "--to", "csv"],
        "evaluate": ["evaluate", "gt.txt", "r.txt"],
        "associate": ["associate", "r.txt", "-o", "o.txt", "--fps", "9"],
    }[command])  # fmt: skip
    assert f"r.txt:2: {sentence}" in said


@pytest.mark.parametrize(
    ("line", "score", "label", "predicted"),
    [
        ("1,1,10,20,30,40,,3,1", 1.0, 3, False),
        ("1,1,10,20,30,40,0.5,,0", 0.5, 0, True),
        ("1,1,10,20,30,40,0.5,3,", 0.5, 3, False),
        ("1,1,10,20,30,40,0.5,,", 0.5, 0, False),
        ("1,1,10,20,30,40,0.5,,,", 0.5, 0, False),
        ("1,1,10,20,30,40,,,,,", 1.0, 0, False),
        ("1\t1\t10\t20\t30\t40\t\t3", 1.0, 3, False),
        ("1  1  10 20 30   40  0.5  3", 0.5, 3, False),
        ("1, 1, 10, 20, 30, 40, 0.5, 3", 0.5, 3, False),
        ("1,1,10,20,30,40,0.5,12.5,3.5,0", 0.5, 0, False),  # MOT15: a place in the world
        ("1,1,10,20,30,40,0.5,12,3,0", 0.5, 0, False),
        ("1,1,10,20,30,40,0.5,4,0,2", 0.5, 4, False),  # VisDrone: class, truncation, occlusion
        ("1,1,10,20,30,40,0.5,3,-1,-1", 0.5, 3, False),
    ],
)
def test_an_empty_field_behind_the_box_tells_nothing(tmp_path, line, score, label, predicted):
    ((index, row),) = rows_of(write(tmp_path / "r.txt", line + "\n"))
    assert (index, row.id, row.box) == (0, 1, (10, 20, 40, 60))
    assert (row.score, row.label, row.source < 0) == (score, label, predicted)


@pytest.mark.parametrize("name", ["r.txt", "r.csv"])
def test_a_header_that_names_the_fields_in_order_is_left_out(tmp_path, name):
    for header in (
        "frame,id,bb_left,bb_top,bb_width,bb_height,conf,x,y,z",
        "Frame, Id, X, Y, Width, Height, Confidence, ClassId, Visibility",
    ):
        ((_, row),) = rows_of(write(tmp_path / name, f"\ufeff{header}\n{BOX}"))
        assert row.box == (10, 20, 40, 60)


@pytest.mark.parametrize(
    "header", ["frame,id,x1,y1,x2,y2,conf", "frame,id,x,y,w,h,class,conf", "frame,id"]
)
def test_a_header_that_means_other_fields_is_refused(tmp_path, header):
    with pytest.raises(FormatError, match=r"r\.txt:1: the header must name frame,id,x,y,w,h"):
        rows_of(write(tmp_path / "r.txt", f"{header}\n{BOX}"))


COLUMNS = "frame,time,id,label,class,score,x1,y1,x2,y2,predicted,width,height,mask"
TABLE = {
    "frame": "0", "time": "0", "id": "3", "label": "1", "class": "person", "score": "0.5",
    "x1": "1", "y1": "2", "x2": "11", "y2": "22", "predicted": "0", "width": "64", "height": "48",
    "mask": "",
}  # fmt: skip


def table(**changes):
    return f"{COLUMNS}\n{','.join((TABLE | changes).values())}\n"


@pytest.mark.parametrize("column", ["frame", "time", "id", "label", "x1", "y2"])
def test_a_table_names_the_empty_column(tmp_path, column):
    with pytest.raises(FormatError, match=rf"t\.csv:2: {column} is empty"):
        rows_of(write(tmp_path / "t.csv", table(**{column: ""})))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"score": ""}, {"score": 1.0}),
        ({"predicted": ""}, {"source": 0}),
        ({"predicted": "True"}, {"source": -1}),
        ({"predicted": "False"}, {"source": 0}),
        ({"id": "3.0", "label": "1.0", "frame": "0.0"}, {"id": 3, "label": 1}),
        ({"width": "", "height": ""}, {"box": (1, 2, 11, 22)}),
    ],
)
def test_a_table_as_pandas_writes_it(tmp_path, changes, expected):
    ((_, row),) = rows_of(write(tmp_path / "t.csv", table(**changes)))
    assert {name: getattr(row, name) for name in expected} == expected


@pytest.mark.parametrize(
    "line",
    ["0 1 2 30 40", "0 1  30 40 {rle}", "0,1,2,30,40,{rle}", "0\t1\t\t30\t40\t{rle}"],
)
def test_masks_with_an_empty_field_are_refused_by_line(refused, tmp_path, line):
    write(tmp_path / "r.txt", f"{mots_text(0)}{line.format(rle=rle_of())}\n")
    said = refused("export", "r.txt", "--to", "csv")
    assert "r.txt:2: must be frame id class height width rle" in said


# Ids from 0 -------------------------------------------------------------------------------------


def coco_from_zero():
    return json.dumps({
        "images": [{"id": 1, "width": 64, "height": 48}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "track_id": k, "bbox": [1, 2, 3, 4]} for k in (0, 4)
        ],
    })  # fmt: skip


def youtube_vis_from_zero():
    mask = {"size": [30, 40], "counts": rle_of()}
    return json.dumps({
        "videos": [{"id": 1, "width": 40, "height": 30, "length": 1}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": k, "video_id": 1, "category_id": 1, "segmentations": [mask]} for k in (0, 4)
        ],
    })  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.txt", BOX.replace("1,1,", "1,0,", 1) + BOX.replace("1,1,", "1,4,", 1)),
        ("r.txt", mots_text(0, id_=0) + f"0 4 2 30 40 {rle_of(x=20)}\n"),
        ("r.csv", table(id="0") + table(id="4").splitlines()[1] + "\n"),
        ("r.json", coco_from_zero()),
        ("r.json", youtube_vis_from_zero()),
    ],
    ids=["mot", "mots", "csv", "coco", "youtube-vis"],
)
def test_ids_from_zero_are_taken_one_higher_and_said(export, tmp_path, name, text):
    write(tmp_path / name, text)
    _, notes = export(name, "--to", "jsonl", "-o", "out.jsonl")
    assert "note: its ids count from 0: each is taken one higher" in notes
    assert [row.id for _, row in rows_of(tmp_path / "out.jsonl")] == [1, 5]


def test_a_log_of_our_own_has_ids_from_one(tmp_path):
    log = TrackLog(LogInfo(9, 9, ()), [LoggedFrame(0, 0.0, 9, 9, to_tracks([]))])
    get_format("jsonl").write(log, tmp_path / "t.jsonl")
    text = (tmp_path / "t.jsonl").read_text()
    track = '{"id":0,"label":1,"score":1,"box":[0,0,1,1],"detection":0}'
    write(tmp_path / "t.jsonl", text.replace('"tracks":[]', f'"tracks":[{track}]'))
    with pytest.raises(FormatError, match=r"t\.jsonl:2: is malformed: id must be in 1\.\."):
        rows_of(tmp_path / "t.jsonl")


# Classes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fixed", "categories", "numbers"),
    [
        (MOTS, ("__background__", "person", "car", "dog"), [None, 2, 1, 3]),
        (MOTS, ("Pedestrian", "VEHICLE", "people", "Cars"), [2, 1, 2, 1]),
        (MOTS, ("N/A", *"abcdefghi"), [None, 3, 4, 5, 6, 7, 8, 9, 11, 12]),  # 10 = ignored
        (MOTS, (), [0, 1, 2, 10]),
        (MOT, ("__background__", "person", "bicycle", "car", "motorcycle"), [None, 1, 4, 3, 5]),
        (MOT, ("person_on_vehicle", "Static-Person", "bus"), [2, 7, 14]),
        (MOT, ("object", "pedestrian"), [-1, 1]),
    ],
)
def test_classes_get_the_formats_numbers_by_their_names(fixed, categories, numbers):
    numbering = Numbering(fixed, categories)
    labels = range(len(categories)) if categories else numbers  # without names they stay
    got = [numbering[label] for label in labels]
    assert [g for g, n in zip(got, numbers, strict=True) if n is not None] == [
        n for n in numbers if n is not None
    ]


def test_a_class_has_one_number_in_all_videos_of_a_model():
    categories = ("__background__", "person", "bicycle", "car", "dog")
    first, second = Numbering(MOTS, categories), Numbering(MOTS, categories)
    assert first[2] == 3
    assert (first[4], second[4]) == (4, 4)  # though the second has seen no bicycle
    assert list(second.notes()) == ["MOTS has no number for some classes: dog is 4"]


def test_names_for_the_same_are_found_but_the_very_name_comes_first():
    assert find_class("person", {"pedestrian": 1, "car": 3}) == 1
    assert find_class("Van", {"car": 1, "van": 2}) == 2
    assert find_class("van", {"car": 1}) == 1
    assert find_class("tram", {"car": 1}) is None


@pytest.mark.parametrize("to", ["mots", "mots-challenge"])
def test_classes_of_the_formats_survive_each_other(export, tmp_path, to):
    """MOTS' pedestrian is 2, MOTChallenge's 1: from one to the other and back they stay."""
    write(tmp_path / "a.txt", mots_text(0, 1, label=2) + mots_text(2, label=1, id_=3))
    export("a.txt", "--to", "mot", "-o", "mot.txt")
    assert [row.label for _, row in rows_of(tmp_path / "mot.txt")] == [1, 1, 3]
    export("a.txt", "--to", "csv", "-o", "t.csv")
    export("t.csv", "--to", to, "-o", f"{to}.txt")
    back = rows_of(tmp_path / f"{to}.txt")
    assert [(k, row.id, row.label) for k, row in back] == [(0, 1, 2), (1, 1, 2), (2, 3, 1)]


def test_a_class_without_a_name_has_a_category_in_coco(export, tmp_path):
    write(tmp_path / "r.txt", BOX + BOX.replace("1,1,10", "2,1,10").replace(",1,1\n", ",77,1\n"))
    export("r.txt", "--to", "coco", "--size", "64x48", "-o", "c.json")
    content = json.loads((tmp_path / "c.json").read_text())
    names = {item["id"]: item["name"] for item in content["categories"]}
    assert {item["category_id"] for item in content["annotations"]} <= names.keys()
    assert (names[1], names[77]) == ("pedestrian", "77")


def test_classes_are_chosen_by_name(export, refused, tmp_path):
    write(tmp_path / "r.txt", BOX + BOX.replace("1,1,10", "1,2,10").replace(",1,1\n", ",3,1\n"))
    export("r.txt", "--to", "csv", "--classes", "person", "-o", "t.csv")
    assert [row.id for _, row in rows_of(tmp_path / "t.csv")] == [1]
    said = refused("export", "r.txt", "--to", "csv", "--classes", "dog")
    assert "--classes: the log has no class 'dog'; it has object, pedestrian" in said


def test_masks_that_mots_has_no_place_for_are_said(export, tmp_path):
    write(tmp_path / "r.txt", BOX)
    _, notes = export("r.txt", "--to", "mots", "-o", "m.txt")
    assert "1 boxes without a mask are left out: MOTS is of masks, so the file is empty" in notes


# Frames -----------------------------------------------------------------------------------------


def a_log():
    mask = Mask(5, 5, np.ones((9, 9), np.bool_))
    frames = [
        LoggedFrame(k, k / 10, 40, 30, to_tracks([Row(1, 1, 0.9, (5, 5, 14, 14), mask)]))
        for k in range(3)
    ]
    return TrackLog(LogInfo(40, 30, ("__background__", "person")), frames)


@pytest.mark.parametrize(("to", "first"), [("mots", 0), ("mots-challenge", 1)])
def test_frames_count_as_the_benchmark_counts_them(export, tmp_path, to, first):
    get_format("jsonl").write(a_log(), tmp_path / "tracks.jsonl")
    path, notes = export("tracks.jsonl", "--to", to)
    assert notes == ""
    lines = (tmp_path / path).read_text().splitlines()
    assert [int(line.split()[0]) for line in lines] == [first, first + 1, first + 2]
    assert [k for k, _ in rows_of(tmp_path / path)] == [0, 1, 2]  # its name tells


@pytest.mark.parametrize(
    ("name", "beside", "options", "indices"),
    [
        ("S.txt", None, {}, [1, 2]),  # KITTI MOTS, unless something says otherwise
        ("S.txt", None, {"shift": -1}, [0, 1]),
        ("S-1/gt/gt.txt", "S-1/seqinfo.ini", {}, [0, 1]),
        ("S-1/gt/gt.txt", "S-1/seqinfo.ini", {"shift": 0}, [1, 2]),
        ("tracks-mots-challenge.txt", None, {}, [0, 1]),
    ],
)
def test_where_masks_count_from(tmp_path, name, beside, options, indices):
    if beside:
        write(tmp_path / beside, SEQINFO)
    path = write(tmp_path / name, mots_text(1, 2))
    assert [k for k, _ in rows_of(path, **options)] == indices


def test_boxes_that_count_from_zero(export, refused, tmp_path):
    write(tmp_path / "r.txt", "0,1,10,20,30,40,1\n1,1,10,20,30,40,1\n")
    said = refused("export", "r.txt", "--to", "csv")
    assert "r.txt:1: frame must be a whole number from 1, got 0 (--shift 1 where they" in said
    export("r.txt", "--to", "csv", "--shift", "1", "-o", "t.csv")
    assert [k for k, _ in rows_of(tmp_path / "t.csv")] == [0, 1]


# Size and time ----------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["coco", "youtube-vis", "youtube-vis-results"])
def test_a_format_that_needs_the_size_gets_or_refuses(export, refused, tmp_path, to):
    write(tmp_path / "r.txt", BOX)
    said = refused("export", "r.txt", "--to", to, "-o", "o.json")
    assert "needs the frames' size, and the log does not tell it; give --size" in said
    assert not (tmp_path / "o.json").exists()
    export("r.txt", "--to", to, "-o", "o.json", "--size", "640x480")
    if to != "youtube-vis-results":
        log = open_log(tmp_path / "o.json")
        assert [(f.width, f.height) for f in log.frames] == [(640, 480)]
        assert (log.info.width, log.info.height) == (640, 480)


@pytest.mark.parametrize("to", ["csv", "parquet", "jsonl"])
def test_an_unknown_size_is_left_empty_and_said(export, tmp_path, to):
    if to == "parquet":
        pytest.importorskip("pyarrow")
    write(tmp_path / "r.txt", BOX)
    path, notes = export("r.txt", "--to", to, "-o", f"o.{to}")
    assert "r.txt tells no size of the frames: it is left empty; see --size" in notes
    assert "r.txt tells no times: 25 frames a second are supposed; see --fps" in notes
    assert ",0,0," not in (tmp_path / path).read_bytes().decode("latin-1")
    assert '"width":0' not in (tmp_path / path).read_bytes().decode("latin-1")
    assert [row.box for _, row in rows_of(tmp_path / path)] == [(10, 20, 40, 60)]


@pytest.mark.parametrize("place", ["S-1/seqinfo.ini", "S-1/gt/seqinfo.ini"])
def test_seqinfo_tells_size_and_rate(export, tmp_path, place):
    write(tmp_path / "S-1/gt/gt.txt", BOX.replace("1,1", "8,1", 1))
    write(tmp_path / place, SEQINFO)
    path, notes = export("S-1/gt/gt.txt", "--to", "coco")
    assert notes == ""
    log = open_log(tmp_path / path)
    (frame,) = log.frames
    assert (frame.width, frame.height, frame.time) == (64, 48, 0.5)
    assert log.info.rate == 14


def test_masks_tell_their_size_to_a_video_too(export, tmp_path):
    write(tmp_path / "m.txt", mots_text(0))
    export("m.txt", "--to", "youtube-vis", "--fps", "10", "-o", "v.json")
    (video,) = json.loads((tmp_path / "v.json").read_text())["videos"]
    assert (video["width"], video["height"]) == (40, 30)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["r.txt", "--size", "640"], "--size takes WIDTHxHEIGHT in px, as 640x480, got '640'"),
        (["r.txt", "--size", "0x480"], "--size takes WIDTHxHEIGHT"),
        (["t.csv", "--size", "9x9"], "its frames are 64x48 px; leave out --size 9x9"),
        (["t.csv", "--fps", "9"], "t.csv: tells its frames and times itself; --fps goes with text"),
        (["t.csv", "--shift", "1"], "--shift goes with text"),
        (["S/gt/gt.txt"], "seqinfo.ini: cannot be read as seqinfo.ini"),
        (["Z/gt/gt.txt"], "seqinfo.ini: imWidth, imHeight, seqLength and frameRate must be above"),
    ],
)
def test_sizes_and_times_that_cannot_be(refused, tmp_path, args, sentence):
    write(tmp_path / "r.txt", BOX)
    write(tmp_path / "t.csv", table())
    for name, info in (("S", "[Sequence]\nimWidth=wide\n"), ("Z", "[Sequence]\nimWidth=0\n")):
        write(tmp_path / f"{name}/gt/gt.txt", BOX)
        write(tmp_path / f"{name}/seqinfo.ini", info)
    assert sentence in refused("export", *args, "--to", "coco", "-o", "o.json")


def test_tracks_of_boxes_get_the_size_that_coco_needs(tracker, refused, tmp_path):
    write(tmp_path / "det.txt", "".join(f"{k},-1,{9 + k},20,30,60,0.9\n" for k in range(1, 9)))
    said = refused("associate", "det.txt", "-o", "o.json", "--fps", "10")
    assert "COCO needs the frames' size" in said
    code, _, err = tracker("associate", "det.txt", "-o", "o.json", "--fps", "10", "--size", "64x48")
    assert code == 0, err
    assert {(f.width, f.height) for f in open_log(tmp_path / "o.json").frames} == {(64, 48)}


def test_options_are_named_in_errors():
    from tracker.cli.options import parse_size, split_pair

    assert parse_size("640 X 480") == (640, 480)
    assert split_pair("a b = c", "--map") == ("a b", "c")
    with pytest.raises(ConfigError, match="--map takes NAME=NAME, as vehicle=car, got 'car'"):
        split_pair("car", "--map")


# What other tools write -------------------------------------------------------------------------


def test_the_boxes_of_a_video_are_those_of_its_masks(tmp_path):
    mask = Mask(12, 8, np.ones((10, 14), np.bool_))
    row = Row(1, 1, 0.9, (3.0, 3.0, 50.0, 40.0), mask)
    info = LogInfo(64, 48, ("__background__", "person"))
    log = TrackLog(info, [LoggedFrame(0, 0.0, 64, 48, to_tracks([row]))])
    for name, key in (("youtube-vis", "bboxes"), ("coco", "bbox")):
        path = tmp_path / f"{name}.json"
        get_format(name).write(log, path)
        (annotation,) = json.loads(path.read_text())["annotations"]
        box = annotation[key]
        assert (box[0] if name == "youtube-vis" else box) == [12, 8, 14, 10]
        ((_, back),) = rows_of(path)
        assert back.box == row.box  # the tracker's own survives


def coco(*tracks, **image):
    """Return COCO JSON of an image an annotation; `tracks` say what object each is."""
    categories = [{"id": 1, "name": "person"}]
    images = [
        {"id": k, "file_name": f"{k}.jpg", "width": 64, "height": 48, **image}
        for k in range(1, len(tracks) + 1)
    ]
    annotations = [
        {"id": k, "image_id": k, "category_id": 1, "bbox": [k, 2, 10, 20], **track}
        for k, track in enumerate(tracks, 1)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.mark.parametrize(
    "track",
    [
        {"track_id": 7},
        {"attributes": {"track_id": 7, "keyframe": True, "occluded": False}},  # CVAT
        {"attributes": {"track_id": "7"}},
        {"attributes": [], "instance_id": 7},
        {"instance_id": 7},
        {"track_id": None, "instance_id": 7},
    ],
    ids=json.dumps,
)
def test_other_tools_tell_a_track_by_other_names(tmp_path, track):
    path = write(tmp_path / "c.json", json.dumps(coco(track, track)))
    assert [(index, row.id) for index, row in rows_of(path)] == [(0, 7), (1, 7)]


def test_coco_without_tracks_is_refused(refused, tmp_path):
    write(tmp_path / "c.json", json.dumps(coco({}, {})))
    assert "c.json: annotation 1 has no track_id" in refused("export", "c.json", "--to", "mot")


def two_videos(kind):
    if kind == "youtube-vis":
        video = {"width": 64, "height": 48, "length": 1, "file_names": ["a.jpg"]}
        return {"videos": [{"id": k, **video} for k in (1, 2)], "categories": [], "annotations": []}
    content = coco({"track_id": 1}, {"track_id": 1})
    for number, image in enumerate(content["images"]):
        image["video_id"] = number
    return content


@pytest.mark.parametrize("kind", ["youtube-vis", "coco"])
@pytest.mark.parametrize("command", ["export", "evaluate", "associate"])
def test_several_videos_are_never_taken_for_one(refused, tmp_path, kind, command):
    write(tmp_path / "v.json", json.dumps(two_videos(kind)))
    said = refused(*{
        "export": ["export", "v.json", "--to", "mot"],
        "evaluate": ["evaluate", "v.json", "v.json"],
        "associate": ["associate", "v.json", "-o", "o.txt", "--fps", "9"],
    }[command])  # fmt: skip
    assert "v.json: holds 2 videos" in said


@pytest.mark.parametrize(("third", "fourth"), [(14, 14), (9, 9)], ids=["corners", "sizes"])
@pytest.mark.parametrize("looks", ["", " 0.25" * 128], ids=["", "with its looks"])
def test_detections_with_masks_as_track_rcnn_has_them(tmp_path, looks, third, fourth):
    line = f"0 5 5 {third} {fourth} 0.9 2 30 40 {rle_of()}{looks}\n"
    (frame,) = read_detections(write(tmp_path / "d.txt", line), fps=10).frames
    assert frame.detections.boxes.tolist() == [[5, 5, 14, 14]]
    assert frame.detections.masks[0].area == 81


def test_what_follows_a_mask_must_be_numbers(refused, tmp_path):
    line = f"0 5 5 14 14 0.9 2 30 40 {rle_of()}"
    write(tmp_path / "d.txt", f"{line} {line}\n")
    said = refused("associate", "d.txt", "-o", "o.txt", "--fps", "9")
    assert "d.txt:1: must be frame x y w h score class H W rle, got 20 fields" in said


@pytest.mark.parametrize("place", ["det.txt", "det/det.txt"])
def test_seqinfo_tells_the_rate_of_detections(tracker, tmp_path, place):
    write(tmp_path / "S" / "seqinfo.ini", SEQINFO)
    write(tmp_path / "S" / place, "".join(BOX.replace("1,", f"{k},", 1) for k in range(1, 15)))
    code, _, err = tracker("associate", f"S/{place}", "-o", "o.json")
    assert code == 0, err
    images = json.loads((tmp_path / "o.json").read_text())["images"]
    assert (images[0]["width"], images[0]["height"]) == (64, 48)
    assert images[7]["time"] == 0.5


@pytest.mark.parametrize("key", ["name", "frameRate", "seqLength", "imWidth", "imHeight"])
def test_an_empty_value_of_seqinfo_tells_nothing(tmp_path, key):
    write(tmp_path / "seqinfo.ini", re.sub(rf"(?m)^{key}=.*$", f"{key} = ", SEQINFO))
    log = open_log(write(tmp_path / "r.txt", BOX))
    assert (log.info.rate is None) == (key == "frameRate")
    assert (log.info.width == 0) == (key.startswith("im"))
