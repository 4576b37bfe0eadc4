"""The script that makes the model in the package, on clips and with a teacher of its own."""

import json

import embedded
import numpy as np
import pytest
import scene as scenes
import torch

pytest.importorskip("lightning_fabric", reason="the extra `train` is not installed")

from tracker.detect.models.mobile import maskrcnn_mobilenet_v3_small_fpn
from tracker.detect.models.weights import read_info
from tracker.masks import Mask
from tracker.types import Detections, Frame


def found(*rows):
    """Return detections of (score, label, x, y, w, h)."""
    return Detections(
        boxes=np.array([(x, y, x + w, y + h) for _, _, x, y, w, h in rows], np.float32),
        scores=np.array([row[0] for row in rows], np.float32),
        labels=np.array([row[1] for row in rows], np.int64),
        masks=tuple(Mask(x, y, np.ones((h, w), np.bool_)) for _, _, x, y, w, h in rows),
    )


def test_looks_are_merged():
    merged = embedded.merge(
        [
            found((0.9, 1, 10, 10, 20, 40), (0.6, 3, 60, 10, 30, 20)),
            found((0.6, 1, 10, 10, 20, 40)),
            found((0.9, 1, 12, 10, 20, 40), (0.5, 1, 61, 10, 30, 20)),
        ]
    )
    assert merged.labels.tolist() == [1, 3, 1]
    assert merged.scores.tolist() == pytest.approx([0.8, 0.2, 0.5 / 3])
    assert merged.boxes[0].tolist() == pytest.approx([10 + 2 * 0.9 / 2.4, 10, 30.75, 50])
    assert merged.masks[0].box == (10, 10, 30, 50)  # two of three looks, by score
    assert len(embedded.merge([Detections.empty()] * 2)) == 0


class Bright:
    """Finds the bright block of a picture."""

    categories = ("__background__", "person")

    def detect(self, frames):
        y, x = np.nonzero(frames[0].image[..., 0] > 200)
        box = (0.9, 1, x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min())
        return [found(tuple(int(v) if k else v for k, v in enumerate(box)))]


def test_a_mirrored_look_is_turned_back():
    image = np.zeros((50, 80, 3), np.uint8)
    image[10:30, 5:25] = 255
    looks = embedded.Looks.__new__(embedded.Looks)
    looks._detectors = [(Bright(), False), (Bright(), True)]
    (one,) = looks.detect([Frame(0, 0.0, image)])
    assert one.boxes.tolist() == [[5, 10, 25, 30]]
    assert one.masks[0].box == (5, 10, 25, 30)
    assert one.scores.tolist() == pytest.approx([0.9])


def test_labels_of_a_clip(tmp_path):
    street = scenes.street(3.0)
    street.write_video(tmp_path / "street.mp4")
    path = embedded.label(
        tmp_path / "street.mp4", 2, 2, lambda: scenes.SceneDetector(street), tmp_path
    )
    content = json.loads(path.read_text())
    assert [item["name"] for item in content["categories"]] == ["person", "vehicle"]
    assert len(content["images"]) == 19
    labels = {(item["category_id"], item["iscrowd"]) for item in content["annotations"]}
    assert {(1, 0), (2, 0)} <= labels
    again = embedded.label(tmp_path / "street.mp4", 2, 2, None, tmp_path)  # tracked only once
    assert again == path


def test_the_backbone_is_checked(tmp_path):
    (tmp_path / "mobilenet_v3_small.pth").write_bytes(b"something else")
    with pytest.raises(SystemExit, match="is not the file that torchvision published"):
        embedded.fetch_backbone(tmp_path)


def test_all_of_it(tmp_path, monkeypatch):
    street = scenes.street(2.0)
    for name in ("one", "two"):
        street.write_video(tmp_path / f"{name}.mp4")
    body = maskrcnn_mobilenet_v3_small_fpn(2).backbone.body
    weights = {f"features.{k}": v for k, v in body.state_dict().items()}
    torch.save(weights, tmp_path / "imagenet.pth")
    monkeypatch.setattr(embedded, "CLIPS", {"one": (5, 1, 2), "two": (5, 2, 0)})
    monkeypatch.setattr(embedded, "SCENES", 1)
    monkeypatch.setattr(embedded, "Looks", lambda *_: scenes.SceneDetector(street))
    monkeypatch.setattr(embedded, "fetch_backbone", lambda _: tmp_path / "imagenet.pth")
    monkeypatch.setattr(embedded, "TRAINING", {"crop": 64, "min_size": 96, "max_size": 160})
    target = tmp_path / "embedded.safetensors"
    options = ["-o", str(tmp_path / "run"), "--epochs", "1", "--device", "cpu"]
    embedded.main([str(tmp_path), "--teacher", "none", *options, "--ship", str(target)])
    info = read_info(target)
    assert info.categories == ("__background__", "person", "vehicle")
    assert info.card["trained_on"] == ["one", "scenes"]
    assert info.card["held_back"] == ["two"]
    assert info.card["sources"] == embedded.SOURCES
