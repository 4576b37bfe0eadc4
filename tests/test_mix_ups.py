"""`tracker evaluate` where truth and result count frames, name classes or weigh rows otherwise."""

import json

import numpy as np
import pytest
from test_evaluate import official_boxes

from tracker.formats import get_format
from tracker.formats.rows import Row, to_tracks
from tracker.masks import Mask, mask_to_rle
from tracker.measure.scores import Wishes, evaluate
from tracker.types import LoggedFrame, LogInfo, TrackLog

pytest.importorskip("trackeval")
WIDTH, HEIGHT, FRAMES = 200, 120, 12
SEQINFO = "[Sequence]\nname=S-1\nseqLength={}\nimWidth=200\nimHeight=120\n"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def masks():
    """Return (index, id, mask) of two objects that go 8 px a frame; the second comes later."""
    square = np.ones((20, 16), np.bool_)
    for index in range(FRAMES):
        yield index, 1, Mask(5 + 8 * index, 10, square)
        if index > 3:
            yield index, 2, Mask(5 + 8 * index, 60, square)


def mots_text(first=0, labels=(1, 2)):
    """Return MOTS text of both objects."""
    return "".join(
        f"{k + first} {id_} {labels[id_ - 1]} {HEIGHT} {WIDTH} "
        f"{mask_to_rle(mask, WIDTH, HEIGHT)['counts']}\n"
        for k, id_, mask in masks()
    )


def mot_text(first=1, labels=(1, 1), frames=FRAMES, score="1", copies=()):
    """Return MOTChallenge text of both objects, and rows of others at their places."""
    lines = []
    for k, id_, mask in masks():
        if k < frames:
            x, y = mask.box[:2]
            lines.append(f"{k + first},{id_},{x},{y},16,20,{score},{labels[id_ - 1]},1")
    lines += [f"{k + first},{id_},{x},{y},16,20,{rest}" for k, id_, x, y, rest in copies]
    return "\n".join(lines) + "\n"


def run_of(path, names=("__background__", "car", "pedestrian"), skip=0):
    """Write a run's log of both objects, without those of the first frames."""
    frames = []
    for index in range(FRAMES):
        rows = [
            Row(id_, id_, 0.9, tuple(map(float, mask.box)), mask)
            for k, id_, mask in masks()
            if k == index and k >= skip
        ]
        frames.append(LoggedFrame(index, index / 10, WIDTH, HEIGHT, to_tracks(rows)))
    path.parent.mkdir(parents=True, exist_ok=True)
    get_format("jsonl").write(TrackLog(LogInfo(WIDTH, HEIGHT, names), frames), path)
    return path


@pytest.fixture
def judge(tracker):
    """Run `tracker evaluate --json`; return HOTA by class, and the notes."""

    def call(*args):
        code, out, err = tracker("evaluate", *args, "--json")
        assert code == 0, err
        figures = json.loads(out)
        scores = {k: next(iter(v.values()))["combined"]["HOTA"] for k, v in figures.items()}
        return {k: round(v, 6) for k, v in scores.items()}, err

    return call


@pytest.fixture
def refused(tracker):
    """Run `tracker evaluate`, which fails; return its one sentence."""

    def call(*args):
        code, _, err = tracker("evaluate", *args)
        assert code == 2, err
        assert err.count("\n") == 1
        return err

    return call


# Frames ------------------------------------------------------------------------------------------

PERFECT = {"car": 100, "pedestrian": 100}


@pytest.mark.parametrize(
    ("truth", "result"),
    [
        (("gt.txt", mots_text(1)), ("r.txt", mots_text(0))),
        (("gt.txt", mots_text(0)), ("r.txt", mots_text(1))),
        (("gt.txt", mots_text(1)), ("run/tracks.jsonl", None)),
        (("gt.txt", mot_text()), ("r.txt", mot_text(2))),
    ],
    ids=["text from 0", "text from 1", "a log", "boxes from 2"],
)
def test_an_offset_of_one_frame_is_taken_where_it_is_certain(judge, tmp_path, truth, result):
    write(tmp_path / truth[0], truth[1])
    if result[1]:
        write(tmp_path / result[0], result[1])
    else:
        run_of(tmp_path / result[0])
    scores, notes = judge(truth[0], result[0])
    assert set(scores.values()) == {100}
    assert "its frames are not counted as the truth's, from 0 or from 1: taken one frame" in notes
    assert "--shift 0 takes them as they are" in notes
    scores, _ = judge(truth[0], result[0], "--shift", "0")
    assert max(scores.values()) < 60


def test_slow_objects_tell_where_masks_count_from_too(judge, tmp_path):
    square, frames, lines = np.ones((20, 16), np.bool_), [], []
    for k in range(2, 40):
        mask = Mask(5 + k // 6, 10, square)  # a pixel in six frames
        frames.append(
            LoggedFrame(k, k / 30, WIDTH, HEIGHT, to_tracks([Row(1, 1, 1, mask.box, mask)]))
        )
        lines.append(f"{k + 1} 1 1 120 200 {mask_to_rle(mask, WIDTH, HEIGHT)['counts']}")
    get_format("csv").write(
        TrackLog(LogInfo(WIDTH, HEIGHT, ("", "car")), frames), tmp_path / "r.csv"
    )
    scores, notes = judge(write(tmp_path / "gt.txt", "\n".join(lines)), "r.csv")
    assert scores == {"car": 100}
    assert "taken one frame later" in notes


@pytest.mark.parametrize("folder", ["S-1/gt", None])
def test_the_layout_of_motschallenge_and_a_files_name_tell_the_first_frame(judge, tmp_path, folder):
    truth = "tracks-mots-challenge.txt"
    if folder:
        truth = f"{folder}/gt.txt"
        write(tmp_path / "S-1/seqinfo.ini", SEQINFO.format(FRAMES))
    write(tmp_path / truth, mots_text(1))
    run_of(tmp_path / "run/tracks.jsonl")
    write(tmp_path / "same.txt", mots_text(1))  # counts as the truth does
    for result in ("run", "same.txt"):
        scores, notes = judge(truth, result)
        assert (scores, notes) == (PERFECT, "")


def test_an_offset_that_is_not_certain_is_told_and_left(judge, tmp_path):
    write(tmp_path / "S-1/gt/gt.txt", mot_text())
    write(tmp_path / "S-1/seqinfo.ini", SEQINFO.format(40))  # later frames may be as well
    late = write(tmp_path / "late.txt", mot_text(2))
    scores, notes = judge("S-1", late)
    assert scores["pedestrian"] < 60
    assert "it would fit better one frame earlier" in notes
    assert "give --shift -1" in notes
    scores, notes = judge("S-1", late, "--shift", "-1")
    assert (scores, notes) == ({"pedestrian": 100}, "")


def test_boxes_that_count_from_zero(judge, refused, tmp_path):
    write(tmp_path / "gt.txt", mot_text())
    write(tmp_path / "r.txt", mot_text(0))
    assert "r.txt:1: frame must be a whole number from 1, got 0 (--shift 1 where" in refused(
        "gt.txt", "r.txt"
    )
    assert judge("gt.txt", "r.txt", "--shift", "1") == ({"pedestrian": 100}, "")


@pytest.mark.parametrize("length", [None, 6, FRAMES])
def test_frames_outside_the_truth_are_said(judge, tmp_path, length):
    truth = write(tmp_path / "S-1/gt/gt.txt", mot_text(frames=6))
    if length:
        write(tmp_path / "S-1/seqinfo.ini", SEQINFO.format(length))
    scores, notes = judge(truth, write(tmp_path / "r.txt", mot_text()))
    assert scores["pedestrian"] < 90  # as in TrackEval: what nobody labelled is false
    said = "6 frames lie behind the truth's last (6): all in them counts as false"
    assert (said in notes) == (length != FRAMES)


def test_frames_before_the_truth_are_said(judge, tmp_path):
    lines = mot_text().splitlines(keepends=True)
    write(tmp_path / "gt.txt", "".join(line for line in lines if int(line.split(",")[0]) > 2))
    _, notes = judge("gt.txt", write(tmp_path / "r.txt", mot_text()))
    assert "2 frames lie before the truth's first (3)" in notes


# Classes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("__background__", "car", "pedestrian"),
        ("__background__", "vehicle", "person"),
        ("N/A", "Vehicles", "PEOPLE"),
    ],
)
@pytest.mark.parametrize("truth", ["masks", "boxes", "a log"])
def test_names_for_the_same_class_are_known(judge, tmp_path, names, truth):
    run_of(tmp_path / "run/tracks.jsonl", names)
    if truth == "masks":
        write(tmp_path / "gt.txt", mots_text())
    elif truth == "boxes":
        write(tmp_path / "gt.txt", mot_text(labels=(3, 1)))
    else:
        run_of(tmp_path / "gt.jsonl")
    scores, notes = judge("gt.jsonl" if truth == "a log" else "gt.txt", "run")
    assert (set(scores.values()), notes) == ({100}, "")
    assert len(scores) == 2


@pytest.mark.parametrize("masks_in_truth", [True, False])
def test_no_class_in_common_is_said_with_both_lists_and_mapped(judge, tmp_path, masks_in_truth):
    text = mots_text() if masks_in_truth else mot_text(labels=(3, 1))
    write(tmp_path / "gt.txt", text)
    run_of(tmp_path / "run/tracks.jsonl", ("", "lorry", "big dog"))
    scores, notes = judge("gt.txt", "run")
    assert set(scores.values()) == {0}
    assert "no class in common with the truth: it has big dog, lorry, the truth" in notes
    assert "--map 'big dog'=" in notes
    mapped = ["--map", "lorry=car", "--map", "Big Dog=2" if masks_in_truth else "Big Dog=1"]
    scores, notes = judge("gt.txt", "run", *mapped)
    assert (set(scores.values()), notes) == ({100}, "")
    assert judge("gt.txt", "run", "--map", "1=car,big dog=person")[0] == scores


def test_a_class_that_the_result_lacks_is_said(judge, tmp_path):
    write(tmp_path / "gt.txt", mots_text())
    write(tmp_path / "r.txt", mots_text(labels=(7, 2)))
    scores, notes = judge("gt.txt", "r.txt")
    assert scores == {"car": 0, "pedestrian": 100}
    assert "no car in common with the truth: it has 7, pedestrian" in notes
    assert judge("gt.txt", "r.txt", "--map", "7=car") == (PERFECT, "")


def test_of_one_class_the_others_of_a_result_are_left_out_and_said(judge, tmp_path):
    """A car is no false pedestrian, in a log and in its export alike."""
    lines = mot_text(labels=(3, 1)).splitlines(keepends=True)
    write(tmp_path / "gt.txt", "".join(line for line in lines if line.split(",")[1] == "2"))
    run_of(tmp_path / "run/tracks.jsonl")
    write(tmp_path / "r.txt", "".join(lines))
    for result in ("run", "r.txt"):
        scores, notes = judge("gt.txt", result)
        assert scores == {"pedestrian": 100}
        assert "car left out: the truth has pedestrian (1) alone" in notes


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ("car", "--map takes NAME=NAME, as vehicle=car, got 'car'"),
        ("car=tram", "--map car=tram: the truth has no class tram; it has car (1), pedestrian (2)"),
        ("tram=car", "--map tram=car: no result has a class tram; they have car, pedestrian"),
    ],
)
def test_mappings_that_cannot_be(refused, tmp_path, mapping, sentence):
    write(tmp_path / "gt.txt", mots_text())
    write(tmp_path / "r.txt", mots_text())
    assert sentence in refused("gt.txt", "r.txt", "--map", mapping)


# What counts -------------------------------------------------------------------------------------


def distractor_set(folder, benchmark):
    """Write truth with an object of each class, and a result that finds them all."""
    others = [(k, 10 + c, 20 * c, 100, f"0,{c},1") for k in range(FRAMES) for c in range(2, 13)]
    name = f"{benchmark}-01"
    truth = write(folder / f"truth/{name}.txt", mot_text(copies=others))
    results = [(k, id_, x, y, "0.9,-1,1") for k, id_, x, y, _ in others]
    text = mot_text(labels=(-1, -1), copies=results)
    return {name: truth}, {name: write(folder / f"found/{name}.txt", text)}


@pytest.mark.parametrize("benchmark", ["MOT17", "MOT20"])
def test_distractors_are_those_of_the_benchmark(tmp_path, benchmark):
    truth, found = distractor_set(tmp_path, benchmark)
    lengths = dict.fromkeys(truth, FRAMES)
    official = official_boxes(truth, found, lengths, tmp_path, benchmark)
    evaluation = evaluate(truth, {"ours": found})
    ours = evaluation.scores["pedestrian"]["ours"][None].values
    assert ours == pytest.approx({k: official["pedestrian"][None][k] for k in ours}, abs=1e-9)
    said = "scored as MOT20, whose distractors are the classes 2, 6, 7, 8, 12"
    assert (said in evaluation.note) == (benchmark == "MOT20")
    # By another name a setting tells; without it a class 6 is asked about.
    (text,), (result,) = truth.values(), found.values()
    plain = evaluate({"s": text.rename(tmp_path / "s.txt")}, {"ours": {"s": result}})
    assert "its class 6 is a distractor in MOT20: if it is of that, --benchmark MOT20" in plain.note
    told = evaluate(
        {"s": tmp_path / "s.txt"}, {"ours": {"s": result}}, (), Wishes(None, {}, benchmark)
    )
    assert told.scores["pedestrian"]["ours"][None].values == ours


@pytest.mark.parametrize("place", ["MOT20-02/gt/gt.txt", "MOT20/train/S/gt/gt.txt", "seqinfo"])
def test_the_benchmark_is_told_by_name_folder_or_seqinfo(judge, tmp_path, place):
    path = tmp_path / ("S/gt/gt.txt" if place == "seqinfo" else place)
    write(path, mot_text(copies=[(k, 9, 50, 90, "0,6,1") for k in range(FRAMES)]))
    if place == "seqinfo":
        write(tmp_path / "S/seqinfo.ini", SEQINFO.format(FRAMES).replace("S-1", "MOT20-01"))
    result = mot_text(labels=(-1, -1), copies=[(k, 9, 50, 90, "1,-1") for k in range(FRAMES)])
    scores, notes = judge(path, write(tmp_path / "r.txt", result))
    assert scores == {"pedestrian": 100}
    assert "scored as MOT20" in notes


def test_an_unknown_benchmark_is_refused(refused, tmp_path):
    write(tmp_path / "gt.txt", mot_text())
    said = refused("gt.txt", "gt.txt", "--benchmark", "MOT18")
    assert "--benchmark must be one of MOT15, MOT16, MOT17, MOT20, got 'MOT18'" in said


def test_truth_with_confidences_is_said(judge, refused, tmp_path):
    write(tmp_path / "gt.txt", mot_text(score="0.9"))
    write(tmp_path / "r.txt", mot_text())
    said = refused("gt.txt", "r.txt")
    assert "gt.txt: the ground truth has no objects that count: 20 rows have 0.9 or the" in said
    assert "like in the seventh field: 1 counts, less does not" in said
    some = mot_text().replace("\n1,1,", "\n1,1,", 1).replace("16,20,1,", "16,20,0.75,", 1)
    write(tmp_path / "gt.txt", some)
    _, notes = judge("gt.txt", "r.txt")
    assert "a row has 0.75 or the like in the seventh field" in notes


# What is text of, and what lies beside it --------------------------------------------------------


def results_without_names(path, kind):
    """Write the run's log as something that tells numbers of classes alone: car 1, pedestrian 2."""
    log = get_format("jsonl").read(run_of(path / "run.jsonl"))
    if kind == "youtube-vis-results":
        get_format(kind).write(log, path / "r.json")
        return path / "r.json"
    get_format("csv").write(log, path / "r.csv")
    text = (path / "r.csv").read_text()
    return write(path / "r.csv", text.replace(",car,", ",,").replace(",pedestrian,", ",,"))


@pytest.mark.parametrize("kind", ["youtube-vis-results", "csv without names"])
@pytest.mark.parametrize(
    ("labels", "mapping"),
    [((1, 2), ()), ((2, 1), ("--map", "1=pedestrian,2=car"))],
    ids=["same numbers", "mapped"],
)
def test_numbers_without_names_are_taken_for_the_truths_and_said(
    judge, tmp_path, kind, labels, mapping
):
    truth = write(tmp_path / "gt.txt", mots_text(labels=labels))
    result = results_without_names(tmp_path, kind)
    scores, said = judge(truth, result, *mapping)
    assert scores == PERFECT
    note = "it tells no names of its classes [1, 2]: their numbers are taken for the truth's"
    assert (note in said) == (not mapping)
    if mapping:
        scores, said = judge(truth, result)
        assert scores == {"car": 0, "pedestrian": 0}
        assert "car (1), pedestrian (2); where they are others', --map 1=pedestrian" in said


def test_a_number_without_a_name_that_the_truth_lacks_is_said(judge, tmp_path):
    truth = write(tmp_path / "gt.txt", mots_text(labels=(2, 2)))
    result = results_without_names(tmp_path, "youtube-vis-results")
    _, said = judge(truth, result)
    assert "it tells no names of its classes [1, 2]" in said


def test_a_log_is_the_truth_of_masks_too(judge, tmp_path):
    truth = run_of(tmp_path / "truth.jsonl")
    scores, _ = judge(truth, write(tmp_path / "r.txt", mots_text()))
    assert scores == PERFECT


MASKS = mots_text()
BOXES = mot_text()


@pytest.mark.parametrize(
    ("truth", "results", "sentence"),
    [
        (BOXES, [MASKS], "r0.txt: holds masks (MOTS), and boxes are scored"),
        (MASKS, [BOXES], "r0.txt: holds boxes (MOTChallenge), and masks are scored"),
        ("log", [MASKS, BOXES], "r1.txt: holds boxes (MOTChallenge), and masks are scored"),
        ("", [BOXES], "gt.txt: the ground truth has no objects that count: it is empty"),
        (mot_text(score="0"), [BOXES], "gt.txt: the ground truth has no objects that count: the s"),
        (mot_text(labels=(8, 8)), [BOXES], "its classes [8] are distractors unless named"),
    ],
    ids=["masks", "boxes", "both beside a log", "empty", "all zero", "distractors"],
)
def test_truth_and_result_of_another_kind_or_nothing(refused, tmp_path, truth, results, sentence):
    path = write(tmp_path / "gt.txt", truth)
    if truth == "log":
        path = run_of(tmp_path / "gt.jsonl")
    files = [write(tmp_path / f"r{k}.txt", text) for k, text in enumerate(results)]
    assert sentence in refused(path, *files)


@pytest.mark.parametrize("first", ["frame", "time_frame"])
def test_a_header_of_masks_is_left_out(judge, tmp_path, first):
    header = f"{first} id class_id img_height img_width rle\n"
    truth = write(tmp_path / "gt.txt", header + mots_text())
    scores, _ = judge(truth, write(tmp_path / "r.txt", mots_text()))
    assert scores == PERFECT


@pytest.mark.parametrize(
    ("name", "content", "is_said"),
    [
        ("README.txt", "Three videos, of 2024", True),
        ("seqmap.txt", "a empty 000000 000012", True),
        ("train.seqmap.txt", "a", True),
        ("notes.txt", "to be looked at again", True),
        ("._a.txt", "\0\5", False),
        (".hidden.txt", "1,1,1", False),
    ],
)
def test_what_lies_beside_the_sequences_is_none(judge, tmp_path, name, content, is_said):
    write(tmp_path / "gt" / "a.txt", mot_text())
    write(tmp_path / "gt" / name, content)
    write(tmp_path / "out" / "a.txt", mot_text())
    scores, said = judge("gt", "out")
    assert scores == {"pedestrian": 100}
    assert (f"gt/{name}: is left out: it holds no objects" in said) == is_said


def test_a_sequence_whose_first_line_is_damaged_is_no_note(refused, tmp_path):
    write(tmp_path / "gt" / "a.txt", ",1,10,20,16,20,1,1,1\n" + mot_text())
    write(tmp_path / "out" / "a.txt", mot_text())
    assert "gt/a.txt:1: frame is empty" in refused("gt", "out")


@pytest.mark.parametrize("whole", [True, False])
def test_the_truth_of_half_a_sequence(judge, tmp_path, whole):
    write(tmp_path / "gt" / "S-1" / "gt" / "gt_val_half.txt", mot_text(frames=6))
    if whole:
        write(tmp_path / "gt" / "S-1" / "gt" / "gt.txt", mot_text())
    write(tmp_path / "out" / "S-1.txt", mot_text(frames=12 if whole else 6))
    assert judge("gt", "out")[0] == {"pedestrian": 100}
    half = judge("gt/S-1/gt/gt_val_half.txt", "out")[0]["pedestrian"]
    assert half < 50 if whole else half == 100
