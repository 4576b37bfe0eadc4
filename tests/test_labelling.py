"""Frames and labels of a run: the road from tracks back to training."""

import json

import numpy as np
import pytest
import scene as scenes
from PIL import Image

from tracker.config import load_config
from tracker.errors import FormatError, SinkError
from tracker.masks import rle_to_mask
from tracker.runs.labels import Selection, export_labels
from tracker.runs.run import run_to_folder
from tracker.video.still import write_picture


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """A run of a scripted street whose detector is perfect."""
    root = tmp_path_factory.mktemp("run")
    scene = scenes.street(3.0)
    scene.write_video(root / "street.mp4")
    run_to_folder(
        str(root / "street.mp4"),
        load_config(None, ["source.stride=2", "output.video=false"]),
        root / "run",
        get_detector=lambda: scenes.SceneDetector(scene),
    )
    return scene, root / "run"


def test_frames_and_masks_are_those_of_the_run(street, tmp_path):
    scene, run = street
    made = export_labels(run, tmp_path, Selection(every=4, min_score=0.5, min_length_s=0.2))
    content = json.loads(made.path.read_text())
    assert [image["frame"] for image in content["images"]] == list(range(0, 75, 8))
    assert made.frames == 10
    assert made.objects == len(content["annotations"]) > 20
    for image in content["images"][2:]:
        picture = np.asarray(Image.open(tmp_path / image["file_name"])).astype(int)
        assert np.abs(picture - scene.image(image["frame"])).mean() < 6  # two lossy codecs
        truth = scene.truth(image["frame"])
        ones = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        masks = {m.box: m for m in truth.masks}
        for one in ones:
            mask = rle_to_mask(one["segmentation"])
            assert np.array_equal(masks[mask.box].bits, mask.bits)
            assert one["iscrowd"] == 0


def test_short_tracks_are_dropped_or_kept_as_crowds(street, tmp_path):
    _, run = street
    strict = Selection(every=1, min_length_s=2.5)
    dropped = export_labels(run, tmp_path / "a", strict)
    kept = export_labels(run, tmp_path / "b", Selection(every=1, min_length_s=2.5, unsure=True))
    assert dropped.dropped == kept.dropped > 0
    assert dropped.objects == kept.objects
    crowds = [a["iscrowd"] for a in json.loads(kept.path.read_text())["annotations"]]
    assert sum(crowds) > 0
    assert len(crowds) - sum(crowds) == dropped.objects


def test_what_never_moves_needs_a_better_score(tmp_path):
    scene = scenes.leave_and_return()  # a person walks, a car stays
    scene.write_video(tmp_path / "scene.mp4")
    config = load_config(None, ["source.stride=2", "output.video=false"])
    run_to_folder(
        str(tmp_path / "scene.mp4"),
        config,
        tmp_path / "run",
        get_detector=lambda: scenes.SceneDetector(scene, noise=0.02),  # scores 0.75 to 0.98
    )

    def names(selection):
        path = export_labels(tmp_path / "run", tmp_path / "labels", selection).path
        content = json.loads(path.read_text())
        known = {one["id"]: one["name"] for one in content["categories"]}
        return {known[one["category_id"]] for one in content["annotations"]}

    assert names(Selection(every=5)) == {"person", "car"}
    assert names(Selection(every=5, still_score=0.99)) == {"person"}


def test_the_command(street, tmp_path, tracker):
    _, run = street
    code, out, err = tracker("export", run, "--to", "coco", "--frames", "-o", "labels")
    assert code == 0, err
    assert out.startswith("3 frames, ")
    assert len(list((tmp_path / "labels" / "frames").iterdir())) == 3
    code, _, err = tracker("export", run, "--to", "mot", "--frames")
    assert (code, err) == (2, "tracker: --frames goes with --to coco\n")
    code, _, err = tracker("export", run, "--to", "coco", "--frames", "--every", "x")
    assert code == 2
    assert "--every must be a number of frames" in err
    code, _, err = tracker("export", tmp_path, "--to", "coco", "--frames")
    assert code == 2
    assert "holds no tracks.jsonl" in err


def test_another_video(street, tmp_path, make_video, tracker):
    _, run = street
    other = make_video("other.mp4", range(10))
    with pytest.raises(FormatError, match="is not the video of"):
        export_labels(run, tmp_path / "out", video=other)
    code, _, err = tracker("export", run, "--to", "coco", "--frames", "--video", "gone.mp4")
    assert code == 2
    assert "gone.mp4: the video of" in err


def test_what_is_exported_can_be_trained_on(street, tmp_path):
    pytest.importorskip("lightning_fabric")
    from tracker.train.find import read_data

    _, run = street
    made = export_labels(run, tmp_path)
    data, _ = read_data([made.path])
    assert [p for p in data.problems if p.fatal] == []
    assert data.categories[1:] == ("person", "car", "dog")
    assert {sample.group for sample in data.samples} == {"street"}


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_picture_survives(tmp_path, name):
    picture = scenes.street(1.0).image(20)
    write_picture(tmp_path / name, picture)
    back = np.asarray(Image.open(tmp_path / name)).astype(int)
    assert back.shape == picture.shape
    assert np.abs(back - picture).mean() <= (0 if name == "a.png" else 3.0)


def test_a_picture_that_cannot_be(tmp_path):
    picture = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(SinkError, match=r"\.jpg or \.png"):
        write_picture(tmp_path / "a.bmp", picture)
    with pytest.raises(SinkError, match="cannot be written"):
        write_picture(tmp_path / "nowhere" / "a.png", picture)
