"""Our own model and our own files: what is inside, what fits what, what the package carries."""

import json

import numpy as np
import pytest
import scene as scenes
import torch

from tracker.config import DetectorConfig
from tracker.detect.maskrcnn import MaskRCNNDetector
from tracker.detect.models.builders import build_module, load_model, model_name
from tracker.detect.models.cards import find_card
from tracker.detect.models.mobile import NAME, maskrcnn_mobilenet_v3_small_fpn
from tracker.detect.models.weights import (
    EMBEDDED,
    apply_info,
    describe,
    read_info,
    read_weights,
    save_model,
)
from tracker.detect.reference import ReferenceDetector
from tracker.errors import ConfigError, ModelError
from tracker.measure.agreement import agreement
from tracker.types import Frame

NAMES = ("__background__", "person", "car")


@pytest.fixture
def saved(tmp_path):
    """A file of a random model of three classes."""
    torch.manual_seed(0)
    module = maskrcnn_mobilenet_v3_small_fpn(3)
    module.transform.min_size, module.transform.max_size = (128,), 192
    path = tmp_path / "model.safetensors"
    save_model(path, module.state_dict(), describe(module, NAME, NAMES, {"note": "random"}))
    return path, module


def test_a_file_tells_all_that_is_needed(saved):
    path, module = saved
    info = read_info(path)
    assert (info.architecture, info.categories) == (NAME, NAMES)
    assert (info.min_size, info.max_size) == (128, 192)
    assert info.card == {"note": "random"}
    loaded = load_model(DetectorConfig(weights=str(path)))
    assert loaded.name == NAME
    assert loaded.categories == NAMES
    assert loaded.module.transform.min_size == (128,)
    state = loaded.module.state_dict()
    for name, value in module.state_dict().items():
        assert torch.equal(state[name], value), name
    again = load_model(DetectorConfig(weights=str(path), min_size=96))
    assert again.module.transform.min_size == (96,)
    assert not path.with_name(path.name + ".part").exists()


def test_batch_norms_keep_their_epsilon(tmp_path):
    module = build_module("maskrcnn_resnet50_fpn", 2)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eps = 0.0  # as torchvision sets it with its COCO weights
    info = describe(module, "maskrcnn_resnet50_fpn", NAMES[:2], {})
    assert info.norm_epsilon == 0.0
    fresh = build_module("maskrcnn_resnet50_fpn", 2)
    apply_info(fresh, info)
    assert {p.eps for p in fresh.modules() if isinstance(p, torch.nn.BatchNorm2d)} == {0.0}


def test_half_precision_halves_the_file(saved):
    path, module = saved
    half = path.with_name("half.safetensors")
    save_model(half, module.state_dict(), read_info(path), dtype=torch.float16)
    assert half.stat().st_size < 0.52 * path.stat().st_size
    loaded = load_model(DetectorConfig(weights=str(half)))
    assert {p.dtype for p in loaded.module.parameters()} == {torch.float32}


def test_a_file_of_another_model(saved):
    path, _ = saved
    with pytest.raises(ModelError, match=f"is a {NAME}; leave out detector.model"):
        load_model(DetectorConfig(weights=str(path), model="maskrcnn_resnet50_fpn"))


def rewritten(path, **changes):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    other = path.with_name("other.safetensors")
    save_file(load_file(path), other, metadata | changes)
    return other


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"version": "9"}, "is of version 9; this program reads 1"),
        ({"sizes": "[0, 9]"}, "metadata is malformed"),
        ({"sizes": "nonsense"}, "metadata is malformed"),
        ({"categories": "[]"}, "metadata is malformed"),
        ({"architecture": "evil.py:build"}, "is for a model of one's own; give --model"),
        ({"architecture": "maskrcnn_resnet51"}, "unknown model 'maskrcnn_resnet51'"),
    ],
)
def test_metadata_that_cannot_be(saved, changes, text):
    path = rewritten(saved[0], **changes)
    with pytest.raises(ModelError, match=text):
        load_model(DetectorConfig(weights=str(path)))


def test_which_model_is_meant(saved, tmp_path):
    assert model_name(DetectorConfig()) == "maskrcnn_resnet50_fpn_v2"
    assert model_name(DetectorConfig(weights="embedded")) == NAME
    assert model_name(DetectorConfig(weights=str(saved[0]))) == NAME
    torch.save({}, tmp_path / "old.pth")
    assert model_name(DetectorConfig(weights=str(tmp_path / "old.pth"))) == (
        "maskrcnn_resnet50_fpn_v2"
    )
    assert model_name(DetectorConfig(weights="embedded", model="a.py:b")) == "a.py:b"


def test_cards(saved, tmp_path, tracker):
    assert find_card(str(saved[0])).info.card == {"note": "random"}
    with pytest.raises(ModelError, match="no such weights file"):
        find_card(str(tmp_path / "gone.safetensors"))
    torch.save({"a": torch.ones(1)}, tmp_path / "plain.pth")
    with pytest.raises(ModelError, match="says nothing of itself"):
        find_card(str(tmp_path / "plain.pth"))
    code, out, _ = tracker("models", saved[0])
    assert code == 0
    assert "note: random" in out


# ---- the model in the package ---------------------------------------------------------------


def test_the_embedded_file():
    assert EMBEDDED.stat().st_size <= 12e6
    tensors = read_weights(EMBEDDED).tensors
    assert {t.dtype for t in tensors.values()} == {torch.float16}
    info = read_info(EMBEDDED)
    assert info.categories == ("__background__", "person", "vehicle")
    assert 320 <= info.min_size <= 480
    for key in ("licence", "trained_on", "held_back", "sources", "limits", "labels", "validation"):
        assert info.card[key], key
    assert not set(info.card["trained_on"]) & set(info.card["held_back"])


def test_its_card_is_shown(tracker):
    code, out, _ = tracker("models", "embedded")
    assert code == 0
    assert "2 classes: person, vehicle" in out
    assert "Apache-2.0" in out
    assert "limits:" in out
    code, out, _ = tracker("models", "embedded", "--json")
    assert json.loads(out)[0]["card"]["held_back"]
    code, out, _ = tracker("models", "embedded", "--download")
    assert out.strip().endswith("embedded.safetensors")


def street_frames(count):
    street = scenes.street()
    return [Frame(k, street.times[k], street.image(k)) for k in range(60, 60 + 20 * count, 20)]


def test_the_fast_form_answers_as_the_plain_one():
    config = DetectorConfig(weights="embedded", precision="float32", score_threshold=0.3)
    fast, plain = MaskRCNNDetector(config), ReferenceDetector(config)
    assert fast.notes == []
    frames = street_frames(4)
    theirs = plain.detect(frames)
    assert sum(map(len, theirs)) > 12
    same = agreement(fast.detect(frames), theirs)
    assert same.share == 1.0
    assert same.overlap > 0.9  # torchvision's own paste, in the plain form, rounds boxes


def test_it_finds_what_a_scripted_street_shows():
    detector = MaskRCNNDetector(DetectorConfig(weights="embedded", score_threshold=0.5))
    street, found, there = scenes.street(), 0, 0
    from tracker.boxes import box_iou

    for frame, one in zip(street_frames(6), detector.detect(street_frames(6)), strict=True):
        truth = street.truth(frame.index)
        rows = np.flatnonzero(truth.labels < 3)  # dogs it does not know
        there += len(rows)
        if len(one):
            iou = box_iou(truth.boxes[rows], one.boxes)
            same = truth.labels[rows][:, None] == one.labels[None]
            found += int(((iou > 0.5) & same).any(axis=1).sum())
    assert found >= 0.8 * there


def test_its_classes_are_named():
    with pytest.raises(ConfigError, match="'bicycle' is none of the model's classes; person, veh"):
        MaskRCNNDetector(DetectorConfig(weights="embedded", classes=("bicycle",)))
