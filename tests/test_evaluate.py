import contextlib
import io
import json
import sys
import warnings

import cv2
import numpy as np
import pytest

from tracker.associate.mask_tracker import MaskTracker
from tracker.cli.evaluate import find_result, find_truth, name_results
from tracker.errors import ConfigError
from tracker.formats import get_format
from tracker.formats.detections import read
from tracker.masks import Mask, mask_to_rle
from tracker.measure.scores import PANELS, evaluate
from tracker.types import LoggedFrame, LogInfo, TrackLog, Tracks

trackeval = pytest.importorskip("trackeval")
pytest.importorskip("matplotlib")

WIDTH, HEIGHT, FRAMES = 160, 130, 12
MOTS, MOT = {1: "car", 2: "pedestrian"}, {1: "pedestrian"}


@pytest.fixture
def tracker(tracker):
    """Run `tracker evaluate` in this process; return its exit code, output and errors."""
    return lambda *args: tracker("evaluate", *args)


# TrackEval's own way: files in its layout, its datasets, its evaluator.


def official(dataset, name, classes):
    """Return {class: {sequence or None: figures}} of TrackEval's whole pipeline."""
    quiet = {"PRINT_CONFIG": False}
    metrics = [
        trackeval.metrics.HOTA(),
        *(metric(quiet) for metric in (trackeval.metrics.CLEAR, trackeval.metrics.Identity)),
    ]
    evaluator = trackeval.Evaluator({
        "USE_PARALLEL": False, "BREAK_ON_ERROR": True, "LOG_ON_ERROR": None, "PRINT_RESULTS": False,
        "PRINT_CONFIG": False, "TIME_PROGRESS": False, "OUTPUT_SUMMARY": False,
        "OUTPUT_DETAILED": False, "PLOT_CURVES": False,
    })  # fmt: skip
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        found, _ = evaluator.evaluate([dataset], metrics)
    parts = next(iter(found.values()))[name]
    figures = {}
    for label in classes:
        figures[label] = {}
        for key, part in parts.items():
            hota, clear, identity, count = (
                part[label][metric] for metric in ("HOTA", "CLEAR", "Identity", "Count")
            )
            figures[label][None if key == "COMBINED_SEQ" else key] = {
                **{panel: 100 * np.mean(hota[panel]) for panel in PANELS},
                "MOTA": 100 * clear["MOTA"],
                "sMOTSA": 100 * clear["sMOTA"],
                "MOTSA": 100 * clear["MOTA"],
                "IDF1": 100 * identity["IDF1"],
                **{name: clear[name] for name in ("IDSW", "Frag")},
                **{name: count[name] for name in ("IDs", "GT_IDs")},
            }
    return figures


def official_masks(truth, found, lengths, tmp_path):
    root = tmp_path / "official"
    for folder, files in ((root / "gt/label_02", truth), (root / "tr/ours/data", found)):
        folder.mkdir(parents=True)
        for name, path in files.items():
            (folder / f"{name}.txt").write_bytes(path.read_bytes())
    sequences = "".join(f"{name} empty 000000 {lengths[name] - 1:06d}\n" for name in truth)
    (root / "gt/evaluate_mots.seqmap.val").write_text(sequences * 2)  # it cannot read one line
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = trackeval.datasets.KittiMOTS({
            "GT_FOLDER": str(root / "gt"), "TRACKERS_FOLDER": str(root / "tr"),
            "OUTPUT_FOLDER": str(root), "TRACKERS_TO_EVAL": ["ours"], "SPLIT_TO_EVAL": "val",
        })  # fmt: skip
    return official(dataset, "ours", MOTS.values())


def official_boxes(truth, found, lengths, tmp_path, benchmark="MOT17"):
    root = tmp_path / "official"
    (root / f"tr/{benchmark}-train/ours/data").mkdir(parents=True)
    for name, path in truth.items():
        folder = root / f"gt/{benchmark}-train" / name
        (folder / "gt").mkdir(parents=True)
        (folder / "gt/gt.txt").write_bytes(path.read_bytes())
        (folder / "seqinfo.ini").write_text(f"[Sequence]\nseqLength={lengths[name]}\n")
        copy = root / f"tr/{benchmark}-train/ours/data/{name}.txt"
        copy.write_bytes(found[name].read_bytes())
    (root / "gt/seqmaps").mkdir()
    (root / f"gt/seqmaps/{benchmark}-train.txt").write_text("\n".join(["name", *truth]) + "\n")
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = trackeval.datasets.MotChallenge2DBox({
            "GT_FOLDER": str(root / "gt"), "TRACKERS_FOLDER": str(root / "tr"),
            "OUTPUT_FOLDER": str(root), "TRACKERS_TO_EVAL": ["ours"], "BENCHMARK": benchmark,
            "SPLIT_TO_EVAL": "train", "DO_PREPROC": True,
        })  # fmt: skip
    return official(dataset, "ours", MOT.values())


def assert_same(evaluation, expected):
    assert set(evaluation.scores) == set(expected)
    for label, results in evaluation.scores.items():
        (scores,) = results.values()
        assert set(scores) == set(expected[label])
        for key, score in scores.items():
            want = {name: expected[label][key][name] for name in score.values}
            assert score.values == pytest.approx(want, abs=1e-9), (label, key)


# Scripted sets: what the preparation is for happens in each of them.


def mots_line(frame, id_, label, x, y, w, h, hole=(0, 0)):
    bits = np.ones((h, w), np.bool_)
    bits[:, slice(*hole)] = False
    rle = mask_to_rle(Mask(x, y, bits), WIDTH, HEIGHT)
    return f"{frame} {id_} {label} {HEIGHT} {WIDTH} {rle['counts']}\n"


def mots_set(folder, seed):
    """Write truth and result of two sequences; each object has a lane of 10 rows to itself."""
    truth, found = {}, {}
    for number in range(2):
        rng = np.random.default_rng([seed, number])
        name = f"{number:04d}"
        of_truth, of_result = [], []
        for frame in range(FRAMES):
            for lane in range(8):  # 0..3 cars, 4..7 pedestrians; the second sequence has no cars
                label = 1 + lane // 4
                if number and label == 1:
                    continue
                x, y, w = 10 + 4 * frame + int(rng.integers(0, 3)), 10 * lane, 20 + 2 * lane
                if rng.random() < 0.9:
                    of_truth.append(mots_line(frame, 1000 * label + lane, label, x, y, w, 9))
                if rng.random() < 0.85:
                    dx, dw = rng.integers(-9, 9, 2)  # IoU on both sides of a half
                    id_ = 1 + lane + (20 if frame > 6 and lane % 2 else 0)
                    other = 3 - label if rng.random() < 0.1 else label
                    of_result.append(mots_line(frame, id_, other, max(0, x + dx), y, w + dw, 9))
            # Ignored are two regions that overlap, together columns 40..99 of the lanes 8 and 9.
            of_truth.append(mots_line(frame, 10_000, 10, 40, 80, 40, 20))
            of_truth.append(mots_line(frame, 10_000, 10, 45, 80, 55, 20, hole=(5, 30)))
            for lane, label, id_ in ((8, 1, 50), (9, 2, 51)):
                x = int(rng.choice([10, 20, 29, 30, 31, 50, 60, 89, 90, 91, 110]))  # 30, 90: half
                of_result.append(mots_line(frame, id_, label, x, 10 * lane, 20, 9))
            of_result.append(mots_line(frame, 60, 1, 5, 100, 10 + frame, 9))
        rng.shuffle(of_result)  # the order of lines means nothing
        for files, kind, lines in ((truth, "truth", of_truth), (found, "found", of_result)):
            files[name] = folder / kind / f"{name}.txt"
            files[name].parent.mkdir(exist_ok=True)
            files[name].write_text("".join(lines))
    return truth, found


def mot_set(folder, seed):
    """Write truth with distractors and rows of no account, and a result without classes."""
    truth, found = {}, {}
    for number in range(2):
        rng = np.random.default_rng([seed, number, 7])
        name = f"MOT17-0{number}"
        of_truth, of_result = [], []
        kinds = [(1, 1)] * 6 + [(0, 7), (0, 8), (1, 12), (0, 2), (0, 3), (0, 1)]
        starts = rng.uniform(0, 200, (len(kinds), 2))  # close together: boxes overlap
        for frame in range(1, FRAMES + 1):
            for k, (considered, label) in enumerate(kinds):
                x, y = starts[k] + (3 * frame, frame)
                if rng.random() < 0.9:
                    of_truth.append(
                        f"{frame},{k + 1},{x:.1f},{y:.1f},40,80,{considered},{label},0.5\n"
                    )
                if rng.random() < 0.85:
                    dx, dy, dw = rng.uniform(-15, 15, 3)
                    id_ = 100 + k + (50 if frame > 6 and k % 3 == 0 else 0)
                    of_result.append(
                        f"{frame},{id_},{x + dx:.2f},{y + dy:.2f},{40 + dw:.2f},80,0.9,-1,-1,-1\n"
                    )
            of_result.append(f"{frame},7,{rng.uniform(0, 500):.2f},300,40,80,0,-1,-1,-1\n")
        for files, kind, lines in ((truth, "truth", of_truth), (found, "found", of_result)):
            files[name] = folder / kind / f"{name}.txt"
            files[name].parent.mkdir(exist_ok=True)
            files[name].write_text("".join(lines))
    return truth, found


@pytest.mark.parametrize("seed", range(4))
def test_masks_score_as_in_trackeval(tmp_path, seed):
    truth, found = mots_set(tmp_path, seed)
    evaluation = evaluate(truth, {"ours": found})
    assert_same(evaluation, official_masks(truth, found, dict.fromkeys(truth, FRAMES), tmp_path))
    assert list(evaluation.scores) == ["car", "pedestrian"]
    cars = evaluation.scores["car"]["ours"]["0000"].values
    assert 20 < cars["HOTA"] < 80  # the set is neither trivial nor hopeless
    assert cars["IDSW"] > 0


@pytest.mark.parametrize("seed", range(4))
def test_boxes_score_as_in_trackeval(tmp_path, seed):
    truth, found = mot_set(tmp_path, seed)
    evaluation = evaluate(truth, {"ours": found})
    assert_same(evaluation, official_boxes(truth, found, dict.fromkeys(truth, FRAMES), tmp_path))
    figures = evaluation.scores["pedestrian"]["ours"][None].values
    assert 20 < figures["HOTA"] < 80
    assert figures["GT_IDs"] == 12
    assert "12" in evaluation.note  # that class alone claims to be considered


def test_the_preparation_matters(tmp_path):
    """Without what it takes out, the sets would score otherwise: else they test nothing."""
    truth, found = mots_set(tmp_path, 0)
    with_regions = evaluate(truth, {"ours": found}).scores["car"]["ours"][None].values
    for path in truth.values():
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if " 10 130 " not in line))
    without = evaluate(truth, {"ours": found}).scores["car"]["ours"][None].values
    assert with_regions["MOTSA"] > without["MOTSA"] + 5


def test_what_is_matched_stays_though_it_lies_in_an_ignore_region(tmp_path):
    found = mots_line(3, 1, 1, 50, 50, 20, 20)
    truth = write(tmp_path / "t.txt", found + mots_line(3, 10_000, 10, 0, 0, WIDTH, HEIGHT))
    found = write(tmp_path / "f.txt", found + mots_line(3, 2, 1, 90, 90, 20, 20))
    assert values(truth, found)["car"]["HOTA"] == 100


def test_real_masks_score_as_in_trackeval(shared, tmp_path):
    data = shared / "data"
    truth = {"0012": data / "kitti_mots_gt/instances_txt/0012.txt"}
    found = {"0012": tmp_path / "0012.txt"}
    log, linker = read(data / "kitti_mots_semireal_dets/0012.txt", fps=10), MaskTracker()
    frames = [
        LoggedFrame(f.index, f.time, f.width, f.height, linker.update(f.detections, f.time))
        for f in log.frames
    ]
    get_format("mots").write(TrackLog(log.info, frames), found["0012"])
    evaluation = evaluate(truth, {"ours": found})
    assert_same(evaluation, official_masks(truth, found, {"0012": 78}, tmp_path))
    assert evaluation.scores["car"]["ours"][None].values["HOTA"] > 70


@pytest.mark.parametrize("make", [mots_set, mot_set])
def test_the_truth_itself_is_perfect(tmp_path, make):
    truth, _ = make(tmp_path, 1)
    for path in truth.values() if make is mot_set else ():
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if ",1,1,0.5" in line))
    for results in evaluate(truth, {"same": truth}).scores.values():
        for score in results["same"].values():
            if score.values["GT_IDs"]:
                numbers = {k: v for k, v in score.values.items() if k not in ("Frag", "GT_IDs")}
                ids = numbers.pop("IDs")
                assert numbers.pop("IDSW") == 0
                assert ids == score.values["GT_IDs"]
                assert set(numbers.values()) == {100.0}
                assert all((curve == 100).all() for curve in score.curves.values())


BOXES = "".join(f"{k},{i},{30 * i + k},10,20,40,1,{i},1\n" for k in (1, 2, 3) for i in (1, 3))
PLAIN = "".join(f"{k},{i},{30 * i + k},10,20,40,1\n" for k in (1, 2, 3) for i in (1, 3))


def values(truth, found, *classes):
    scores = evaluate({"s": truth}, {"r": {"s": found}}, classes).scores
    return {label: results["r"][None].values for label, results in scores.items()}


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_of_one_class_labels_do_not_matter(tmp_path):
    truth = write(tmp_path / "t.txt", PLAIN)
    for end in ("", ",1", ",3,1", ",77,1", ",-1,-1,-1"):
        found = write(tmp_path / "f.txt", PLAIN.replace(",1\n", f",1{end}\n"))
        assert values(truth, found)["object"]["HOTA"] == 100
    truth = write(tmp_path / "t.txt", BOXES.replace(",1,3,1\n", ",1,1,1\n"))
    assert values(truth, found)["pedestrian"]["HOTA"] == 100


def test_several_classes_go_by_label(tmp_path):
    truth = write(tmp_path / "t.txt", BOXES)
    found = write(tmp_path / "f.txt", BOXES.replace(",1,3,1\n", ",1,4,1\n"))
    figures = values(truth, found)
    assert figures["pedestrian"]["MOTA"] == 100
    assert figures["3"]["MOTA"] == 0
    assert values(truth, found, 1) == {"pedestrian": figures["pedestrian"]}


def test_rows_without_a_class_need_one_to_be_named(tracker, tmp_path):
    write(tmp_path / "t.txt", BOXES)
    write(tmp_path / "f.txt", PLAIN)
    code, _, err = tracker("t.txt", "f.txt")
    assert code == 2
    assert "f.txt: has rows without a class; choose one: --classes" in err
    code, out, _ = tracker("t.txt", "f.txt", "--classes", "1", "--json")
    assert code == 0
    assert json.loads(out)["pedestrian"]["f"]["combined"]["MOTA"] == 0  # one right, one false


def test_distractors_are_named_or_left_out_aloud(tracker, tmp_path):
    both = BOXES.replace(",1,3,1\n", ",1,2,1\n")
    write(tmp_path / "t.txt", both)
    write(tmp_path / "f.txt", both)
    code, out, err = tracker("t.txt", "f.txt", "--json")
    assert code == 0
    assert "note: classes [2] are distractors in MOTChallenge" in err
    assert set(json.loads(out)) == {"pedestrian"}
    _, out, err = tracker("t.txt", "f.txt", "--json", "--classes", "1,2")
    assert err == ""
    found = json.loads(out)
    assert (
        found["2"]["f"]["combined"]["HOTA"] == found["pedestrian"]["f"]["combined"]["HOTA"] == 100
    )


def test_an_empty_result_is_zero_and_false_rows_cost(tmp_path):
    truth = write(tmp_path / "t.txt", PLAIN)
    empty = values(truth, write(tmp_path / "f.txt", "\n"))["object"]
    assert empty == {
        "HOTA": 0, "DetA": 0, "AssA": 0, "MOTA": 0, "IDF1": 0, "IDSW": 0, "Frag": 0, "IDs": 0,
        "GT_IDs": 2,
    }  # fmt: skip
    late = PLAIN + "".join(f"{k},9,0,0,5,5,1\n" for k in range(4, 7))  # where the truth is over
    assert values(truth, write(tmp_path / "f.txt", late))["object"]["MOTA"] == 50


@pytest.mark.parametrize(
    ("truth", "found", "sentence"),
    [
        (PLAIN, "1,1,0,0,5\n", "f.txt:1: must be numbers: frame,id,x,y,w,h and so on, got '1,1,0"),
        (PLAIN, "1,1,0,0,5,5\n1,2,0,x,5,5\n", "f.txt:2: must be numbers"),
        (PLAIN, "1,1,0,0,5,nan\n", "f.txt:1: box and score must be finite"),
        (PLAIN, "1,1,0,0,5,-5\n", "f.txt:1: width and height must not be negative, got 5 x -5"),
        (PLAIN, "0,1,0,0,5,5\n", "f.txt:1: frame must be a whole number from 1, got 0"),
        (PLAIN, "1,1.5,0,0,5,5\n", "f.txt:1: id must be a whole number, got 1.5"),
        (
            PLAIN,
            "1,1,0,0,5,5\n2,1,0,0,5,5\n2,1,9,9,5,5\n",
            "f.txt:3: id 1 appears twice in frame 2",
        ),
        (PLAIN, mots_line(0, 1, 1, 0, 0, 5, 5), "f.txt: holds masks (MOTS), and boxes are"),
        (mots_line(0, 1, 1, 0, 0, 5, 5), PLAIN, "f.txt: holds boxes (MOTChallenge), and masks"),
        (mots_line(0, 1, 1, 0, 0, 5, 5), "0 1 1 130 160 ~\n", "f.txt:1: RLE counts hold a charact"),
        (mots_line(0, 1, 1, 0, 0, 5, 5), "0 1 1 130 160\n", "f.txt:1: must be frame id class"),
        (mots_line(0, 1, 1, 0, 0, 5, 5), "0 -1 1 130 160 a\n", "f.txt:1: must be frame id class"),
        (
            mots_line(0, 1, 1, 0, 0, 5, 5),
            mots_line(7, 1, 1, 0, 0, 5, 5) + mots_line(7, 2, 1, 4, 4, 5, 5),
            "f.txt:2: overlaps id 1 in frame 7, which MOTS forbids",
        ),
        (
            mots_line(0, 1, 1, 0, 0, 5, 5),
            mots_line(7, 1, 1, 0, 0, 5, 5) * 2,
            "f.txt:2: id 1 appears twice in frame 7",
        ),
        (
            mots_line(0, 1, 1, 0, 0, 5, 5),
            "0 1 1 2 2 04\n",
            "f.txt: frames are (2, 2) px, of the truth (130, 160)",
        ),
        (
            mots_line(0, 1, 1, 0, 0, 5, 5) + "1 1 1 2 2 04\n",
            "",
            "t.txt:2: frames must have one size, got (2, 2) and (130, 160)",
        ),
        ("", "", "the ground truth has no objects that count"),
        ("1,1,0,0,5,5,0,1,1\n", "", "the ground truth has no objects that count"),
        ("hello\n", "", "t.txt:1: must be numbers"),
    ],
)
def test_bad_files_are_named_by_line(tracker, tmp_path, truth, found, sentence):
    write(tmp_path / "t.txt", truth)
    write(tmp_path / "f.txt", found)
    code, out, err = tracker("t.txt", "f.txt")
    assert code == 2, err
    assert out == ""
    assert err.startswith("tracker: ")
    assert err.count("\n") == 1
    assert sentence in err


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["t.txt", "none.txt"], "none.txt: no such file or folder"),
        (["none", "t.txt"], "none: no such file or folder"),
        (["empty", "t.txt"], "empty: holds neither SEQ.txt nor SEQ/gt/gt.txt"),
        (["t.txt", "empty"], "empty: lacks the sequence t; there is no empty/t.txt"),
        (["many", "t.txt"], "t.txt: is one file, but the ground truth has 2 sequences, a to b"),
        (["many", "one"], "one: lacks the sequence b; there is no one/b.txt"),
        (["t.txt", "t.txt", "--classes", "1,9"], "no class 9; its classes are [1, 3]"),
        (
            ["t.txt", "t.txt", "--classes", "car"],
            "--classes takes class numbers, as 1,2, got 'car'",
        ),
        (["t.txt", "t.txt", "--plot", "x.pdf"], "x.pdf: --plot draws PNG"),
        (["t.txt", "t.txt", "--plot", "none/x.png"], "none/x.png: cannot be written"),
    ],
)
def test_bad_arguments(tracker, tmp_path, args, sentence):
    (tmp_path / "empty").mkdir()
    for name in ("t.txt", "many/a.txt", "many/b.txt", "one/a.txt"):
        write(tmp_path / name, BOXES)
    code, _, err = tracker(*args)
    assert code == 2
    assert err.count("\n") == 1
    assert sentence in err


def test_several_results_side_by_side(tracker, tmp_path):
    mots_set(tmp_path, 2)
    code, out, err = tracker("truth", "ours=found", "ideal=truth", "found")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["car"]
    assert lines[1][:6] == ["result", "sequence", "HOTA", "DetA", "AssA", "sMOTSA"]
    assert [line[:2] for line in lines[2:5]] == [
        ["ours", "all"],
        ["ideal", "all"],
        ["found", "all"],
    ]
    assert lines[3][2:8] == ["100.00"] * 6
    assert lines[2][2:] == lines[4][2:]
    start = lines.index(["pedestrian"])
    assert [line[1] for line in lines[start + 2 : -1]] == ["all"] * 3 + ["0000"] * 3 + ["0001"] * 3
    assert "\x1b" not in out


def test_the_best_is_bold(tracker, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    write(tmp_path / "t.txt", PLAIN)
    write(tmp_path / "half.txt", "\n".join(PLAIN.splitlines()[::2]))
    _, out, _ = tracker("t.txt", "half.txt", "all[x]=t.txt")
    half, whole = (
        next(line for line in out.splitlines() if name in line) for name in ("half", "[x]")
    )
    assert "\x1b[1m" not in half
    assert whole.count("\x1b[1m") == 5  # all but AssA, IDSW and Frag: they are alike
    assert "100.00" in whole


def test_json_and_plot(tracker, tmp_path):
    truth, found = mots_set(tmp_path, 3)
    code, out, err = tracker("truth", "a_$b=found", "_=truth", "--json", "--plot", "curves.png")
    assert (code, err) == (0, "")
    figures = json.loads(out)
    expected = evaluate(truth, {"x": found}).scores
    assert list(figures) == ["car", "pedestrian"]
    for label, results in figures.items():
        assert list(results) == ["a_$b", "_"]
        scores = expected[label]["x"]
        assert results["a_$b"]["combined"] == scores[None].values
        assert results["a_$b"]["sequences"] == {key: scores[key].values for key in ("0000", "0001")}
    picture = cv2.imread("curves.png")
    height, width = picture.shape[:2]
    assert width > 1200
    for row in range(2):  # a class each
        for column in range(3):  # HOTA, DetA, AssA
            panel = picture[
                row * height // 2 : (row + 1) * height // 2,
                column * width // 3 : (column + 1) * width // 3,
            ].reshape(-1, 3)
            for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):  # a result each
                assert (np.abs(panel.astype(int) - colour[::-1]).max(axis=1) < 8).sum() > 200


def test_folders_of_the_benchmarks(tracker, tmp_path):
    for name in ("S-1", "S-2"):
        write(tmp_path / "train" / name / "gt" / "gt.txt", BOXES)
        write(tmp_path / "plain" / f"{name}.txt", BOXES)
        write(tmp_path / "deep" / "data" / f"{name}.txt", BOXES)
        write(tmp_path / "runs" / name / "tracks-mot.txt", BOXES)
    for result in ("plain", "deep", "runs", "train/S-1/gt/../../../plain"):
        code, out, err = tracker("train", result, "--json")
        assert code == 0, err
        (scores,) = json.loads(out)["pedestrian"].values()
        assert scores["combined"]["HOTA"] == 100
        assert list(scores["sequences"]) == ["S-1", "S-2"]
    assert find_truth(tmp_path / "train/S-1") == {"S-1": tmp_path / "train/S-1/gt/gt.txt"}
    assert list(find_truth(tmp_path / "train/S-1/gt/gt.txt")) == ["S-1"]
    with pytest.raises(ConfigError, match=r"lacks the sequence S-3"):
        find_result(tmp_path / "plain", ["S-1", "S-3"])


def log_of(path, categories):
    """Write a run's log: two masks that overlap, of the classes 1 and 3, in every second frame."""
    frames = []
    for index in range(0, 6, 2):
        masks = tuple(Mask(10 + index, y, np.ones((20, 12), np.bool_)) for y in (10, 25))
        tracks = Tracks(
            ids=np.array([4, 5], np.int64),
            boxes=np.array([[*m.box[:2], m.box[2], m.box[3]] for m in masks], np.float32),
            scores=np.ones(2, np.float32),
            labels=np.array([1, 3], np.int64),
            masks=masks,
            sources=np.zeros(2, np.int64),
        )
        frames.append(LoggedFrame(index, index / 10, WIDTH, HEIGHT, tracks))
    log = TrackLog(LogInfo(WIDTH, HEIGHT, categories), frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    get_format("jsonl").write(log, path)
    return log


@pytest.mark.parametrize("result", ["runs/street", "runs/street/tracks.jsonl"])
@pytest.mark.parametrize("kind", ["mot", "mots"])
def test_a_run_scores_as_its_export(tracker, tmp_path, result, kind):
    names = ("__background__", "person", "bicycle", "car")
    log = log_of(tmp_path / "runs" / "street" / "tracks.jsonl", names)
    get_format(kind).write(log, tmp_path / "t.txt")
    code, out, err = tracker("t.txt", result, "--json")
    assert code == 0, err
    figures = json.loads(out)
    assert set(figures) == {"pedestrian", "3" if kind == "mot" else "car"}
    for results in figures.values():
        assert results["street"]["combined"]["HOTA"] == 100


def test_a_log_without_names_goes_by_numbers(tmp_path):
    path = tmp_path / "tracks.jsonl"
    get_format("mots").write(log_of(path, ()), tmp_path / "t.txt")
    figures = values(tmp_path / "t.txt", path)
    assert figures["car"]["HOTA"] == figures["3"]["HOTA"] == 100


def test_names_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "x=y.txt", "")
    named = name_results(["a/x.txt", "b/x.txt", "x-2=c.txt", "old=d.txt", "x=y.txt"])
    assert list(named) == ["x", "x-2", "x-2-2", "old", "x=y"]
    assert str(named["x=y"]) == "x=y.txt"
    assert str(named["old"]) == "d.txt"


@pytest.mark.parametrize(
    ("module", "args"), [("trackeval.metrics", []), ("matplotlib.figure", ["--plot", "x.png"])]
)
def test_a_missing_extra_is_named(tracker, tmp_path, monkeypatch, module, args):
    write(tmp_path / "t.txt", PLAIN)
    monkeypatch.setitem(sys.modules, module, None)
    code, _, err = tracker("t.txt", "t.txt", *args)
    assert code == 2
    assert "needs an extra: pip install 'mask-tracker[eval]'" in err


def test_help_has_examples(tracker):
    code, out, _ = tracker("--help")
    assert code == 0
    assert "Examples" in out
    assert "tracker evaluate gt.txt" in out


@pytest.mark.parametrize(
    ("shift", "said"),
    [(0, ""), (1, "one frame earlier"), (-1, "one frame later"), (500, "no frame of the result")],
)
def test_frames_that_are_counted_otherwise_are_said(tmp_path, shift, said):
    paths = {}
    for name, by in (("gt", 0), ("out", shift)):
        paths[name] = tmp_path / f"{name}.txt"
        rows = [(k, i) for k in range(2, 40) for i in range(3)]
        paths[name].write_text(
            "".join(f"{k + by},{i + 1},{5 * k},{80 * i},30,60,1,-1,-1,-1\n" for k, i in rows)
        )
    evaluation = evaluate({"s": paths["gt"]}, {"r": {"s": paths["out"]}})
    assert said in evaluation.note
    assert bool(said) == bool(evaluation.note)


def test_an_empty_result_is_said(tmp_path):
    truth, empty = tmp_path / "gt.txt", tmp_path / "out.txt"
    truth.write_text("1,1,10,10,30,60,1,-1,-1,-1\n")
    empty.write_text("")
    assert "holds no objects" in evaluate({"s": truth}, {"r": {"s": empty}}).note
