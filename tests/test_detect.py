import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes

from tracker.config import DetectorConfig
from tracker.detect.maskrcnn import MaskRCNNDetector
from tracker.detect.models.builders import load_model
from tracker.detect.models.cards import download, find_card, known_models
from tracker.detect.models.weights import read_weights
from tracker.detect.paste import paste_masks, place_masks
from tracker.errors import ConfigError, ModelError
from tracker.masks import Mask
from tracker.types import Frame

HERE = Path(__file__).parent


def model(name="build"):
    return f"{HERE / 'tiny_model.py'}:{name}"


def frame(index=0, height=120, width=160, seed=0):
    random = np.random.default_rng((seed, index))
    return Frame(index, index / 10, random.integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture(scope="module")
def detector():
    return MaskRCNNDetector(DetectorConfig(model=model(), precision="float32"))


def full(mask, width, height):
    image = np.zeros((height, width), np.bool_)
    x1, y1, x2, y2 = mask.box
    image[y1:y2, x1:x2] = mask.bits
    return image


# ---- masks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [14, 28, 56])
@pytest.mark.parametrize("size", [(90, 120), (719, 1281)])
def test_paste_is_bit_identical_to_torchvision(side, size):
    height, width = size
    generator = torch.Generator().manual_seed(side)
    corner = torch.rand(60, 2, generator=generator) * torch.tensor([width, height]) * 1.2 - 20
    extent = torch.rand(60, 2, generator=generator) ** 3 * torch.tensor([width, height])
    boxes = torch.cat([corner, corner + extent], 1)
    boxes[0::2, 0::2].clamp_(0, width)  # half of them clipped, as the model gives them
    boxes[0::2, 1::2].clamp_(0, height)
    boxes[1] = torch.tensor([5.0, 5, 5, 5])  # no area
    boxes[2] = torch.tensor([0.0, 0, width, height])
    maps = torch.rand(60, 1, side, side, generator=generator)
    inside = (boxes[:, 2] > 0) & (boxes[:, 3] > 0) & (boxes[:, 0] < width) & (boxes[:, 1] < height)
    maps, boxes = maps[inside], boxes[inside]  # torchvision's own fails where a box lies outside
    expected = paste_masks_in_image(maps, boxes, (height, width)) >= 0.5
    pasted = paste_masks(maps[:, 0], boxes, width, height)
    assert len(pasted) > 30
    for mask, reference in zip(pasted, expected[:, 0].numpy(), strict=True):
        assert np.array_equal(full(mask, width, height), reference)
        assert mask.bits.size <= reference.size


@pytest.mark.parametrize("side", [14, 28])
def test_placing_undoes_what_training_does(side):
    generator = np.random.default_rng(side)
    ours, theirs = [], []
    for _ in range(60):
        truth = np.zeros((120, 160), bool)
        height, width = generator.integers(10, 100, 2)
        y, x = generator.integers(0, (120 - height, 160 - width))
        rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        truth[y : y + height, x : x + width] = np.abs(rows) ** 1.5 + np.abs(columns) <= 1
        mask = Mask(0, 0, truth).tight()
        box = np.array(mask.box, np.float32) + generator.normal(0, 0.5, 4).astype(np.float32)
        boxes = torch.from_numpy(box)[None]
        plane = torch.tensor(truth)[None].float()
        maps = project_masks_on_boxes(plane, boxes, torch.zeros(1), side)
        ours.append(place_masks(maps, boxes, 160, 120)[0])
        theirs.append(paste_masks(maps, boxes, 160, 120)[0])
        ours[-1], theirs[-1] = (
            (full(one, 160, 120) & truth).sum() / (full(one, 160, 120) | truth).sum()
            for one in (ours[-1], theirs[-1])
        )
    assert np.median(ours) > 0.97
    assert min(ours) > 0.8
    assert np.median(ours) > np.median(theirs) + 0.02


def test_a_placed_mask_keeps_to_its_box_and_the_frame():
    boxes = torch.tensor([[-20.0, 5.4, 10.6, 30], [500, 5, 600, 30], [7, 7, 7, 7], [3, 4, 4, 5]])
    masks = place_masks(torch.ones(4, 28, 28), boxes, 100, 100)
    found = [mask.box for mask in masks]
    assert found == [(0, 5, 11, 30), (0, 0, 0, 0), (0, 0, 0, 0), (3, 4, 4, 5)]
    assert place_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), 100, 100) == []


def test_a_box_outside_the_frame_gives_an_empty_mask():
    maps = torch.ones(2, 28, 28)
    boxes = torch.tensor([[-50.0, -50, -20, -20], [500, 500, 600, 600]])
    assert all(not mask.bits.size for mask in paste_masks(maps, boxes, 100, 100))


def test_nothing_is_pasted_for_nothing():
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), 100, 100) == []


# ---- the same as torchvision ----------------------------------------------------------------


def test_detections_equal_torchvisions_own_forward(detector):
    reference = load_model(DetectorConfig(model=model())).module
    image = frame(seed=3)
    with torch.inference_mode():
        pixels = torch.tensor(image.image).permute(2, 0, 1).float() / 255
        expected = reference([pixels])[0]
    keep = expected["scores"] >= detector.config.score_threshold
    (found,) = detector.detect([image])
    assert len(found) == int(keep.sum()) > 3
    assert np.allclose(found.boxes, expected["boxes"][keep].numpy(), atol=1e-2)
    assert np.allclose(found.scores, expected["scores"][keep].numpy(), atol=1e-4)
    assert found.labels.tolist() == expected["labels"][keep].tolist()
    masks = (expected["masks"][keep][:, 0] >= 0.5).numpy()
    for mask, whole in zip(found.masks, masks, strict=True):
        union = (full(mask, 160, 120) | whole).sum()
        assert union == 0 or (full(mask, 160, 120) & whole).sum() / union > 0.98


def test_the_batch_makes_no_difference(detector):
    frames = [frame(k) for k in range(5)]
    together = detector.detect(frames)
    apart = [detector.detect([f])[0] for f in frames]
    for a, b in zip(together, apart, strict=True):
        assert a.labels.tolist() == b.labels.tolist()
        assert np.allclose(a.boxes, b.boxes, atol=1e-2)
        assert np.allclose(a.scores, b.scores, atol=1e-4)


def test_frames_of_other_sizes_share_a_call(detector):
    frames = [frame(0), frame(1, 60, 80), frame(2, 60, 80), frame(3)]
    together = detector.detect(frames)
    for f, found in zip(frames, together, strict=True):
        assert np.allclose(found.boxes, detector.detect([f])[0].boxes, atol=1e-2)
        assert (found.boxes[:, 2] <= f.width).all()


def test_no_frames_and_no_objects(detector):
    assert detector.detect([]) == []
    picky = MaskRCNNDetector(DetectorConfig(model=model(), score_threshold=1.0))
    (found,) = picky.detect([frame()])
    assert found.boxes.shape == (0, 4)


# ---- settings -------------------------------------------------------------------------------


def test_scores_descend_and_pass_the_threshold(detector):
    (found,) = detector.detect([frame()])
    assert (np.diff(found.scores) <= 0).all()
    assert found.scores.min() >= 0.1
    high = MaskRCNNDetector(DetectorConfig(model=model(), score_threshold=0.4))
    assert len(high.detect([frame()])[0]) == int((found.scores >= 0.4).sum())


def test_classes_are_chosen_by_name(detector):
    labels = detector.detect([frame()])[0].labels
    label = int(np.bincount(labels).argmax())
    assert len(set(labels.tolist())) > 1
    only = MaskRCNNDetector(DetectorConfig(model=model(), classes=(detector.categories[label],)))
    (found,) = only.detect([frame()])
    assert found.labels.tolist() == [label] * int((labels == label).sum())


def test_sizes_reach_the_model():
    detector = MaskRCNNDetector(DetectorConfig(model=model(), min_size=64, max_size=96))
    transform = detector._module.transform
    assert (transform.min_size, transform.max_size) == ((64,), 96)


def test_at_most_max_detections():
    detector = MaskRCNNDetector(DetectorConfig(model=model(), max_detections=2))
    assert len(detector.detect([frame()])[0]) == 2


def test_bfloat16_stays_close(detector, bfloat16):
    half = MaskRCNNDetector(DetectorConfig(model=model(), precision="bfloat16"))
    a, b = detector.detect([frame()])[0], half.detect([frame()])[0]
    assert abs(len(a) - len(b)) <= 3
    assert a.scores[0] == pytest.approx(b.scores[0], abs=0.05)


def test_a_model_without_masks():
    detector = MaskRCNNDetector(DetectorConfig(model=model("build_boxes_only")))
    (found,) = detector.detect([frame()])
    assert found.masks == (None,)
    assert found.boxes.tolist() == [[10, 10, 30, 40]]


# ---- what goes wrong ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (dict(model="maskrcnn_resnet50_fpm"), ModelError, "did you mean 'maskrcnn_resnet50_fpn'"),
        (dict(model="yolo"), ModelError, "unknown model 'yolo'"),
        (dict(model="nowhere.py:build"), ModelError, "cannot be imported"),
        (dict(model="no_such_package:build"), ModelError, "cannot be imported"),
        (dict(model=model("nothing")), ModelError, "has no function 'nothing'"),
        (dict(model=model("build_broken")), ModelError, "no such file: weights.bin"),
        (dict(model="builtins:dict"), ModelError, "must return a torch module, got dict"),
        (dict(model=model("build_without_categories")), ModelError, "`categories` list"),
        (dict(model=model("build_nan")), ModelError, "hold NaN or infinity"),
        (dict(model=model("build_overflow")), ModelError, "not finite"),
        (dict(model=model(), weights="missing.pth"), ModelError, "no such weights file"),
        (dict(model=model(), classes=("cat",)), ConfigError, "did you mean 'car'"),
        (dict(model=":f"), ModelError, "package.module:function"),
        (dict(model=model("build_boxes_only"), min_size=64), ConfigError, "has a fixed size"),
        (dict(model=model(), device="cuda:99"), ModelError, "cuda"),
    ],
)
def test_what_cannot_work_is_one_sentence(settings, error, message):
    if "cuda" in settings.get("device", "") and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(error) as caught:
        MaskRCNNDetector(DetectorConfig(**settings))
    assert message.lower() in str(caught.value).lower()
    assert "\n" not in str(caught.value)


def test_a_nan_at_run_time_is_no_empty_street(detector):
    broken = MaskRCNNDetector(DetectorConfig(model=model()))
    with torch.no_grad():
        broken._fast._parts.box_predictor.cls_score.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        broken.detect([frame()])


# ---- weights --------------------------------------------------------------------------------


def test_weights_files_carry_their_classes(tmp_path, detector):
    state = load_model(DetectorConfig(model=model("build"))).module.state_dict()
    names = ["__background__", "apple", "pear", "plum"]
    safetensors.torch.save_file(
        dict(state), tmp_path / "w.safetensors", {"categories": json.dumps(names)}
    )
    torch.save({"model": state, "categories": names}, tmp_path / "w.pth")
    for file in ("w.safetensors", "w.pth"):
        loaded = load_model(DetectorConfig(model=model(), weights=str(tmp_path / file)))
        assert loaded.categories == tuple(names)
        assert len(loaded.sha256) == 64
        other = MaskRCNNDetector(
            DetectorConfig(model=model(), weights=str(tmp_path / file), precision="float32")
        )
        assert np.allclose(other.detect([frame()])[0].boxes, detector.detect([frame()])[0].boxes)


def test_weights_that_hold_code_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "owned",)

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ModelError, match="damaged or holds code"):
        read_weights(tmp_path / "evil.pth")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_a_file_that_holds_no_weights(tmp_path, name):
    (tmp_path / name).write_bytes(b"no weights at all, only text")
    with pytest.raises(ModelError, match=r"x\.") as error:
        read_weights(tmp_path / name)
    assert "\n" not in str(error.value)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="dictionary of tensors"):
        read_weights(tmp_path / "list.pth")


def test_weights_of_the_wrong_shape_say_which(tmp_path):
    state = dict(load_model(DetectorConfig(model=model())).module.state_dict())
    state["roi_heads.box_predictor.cls_score.weight"] = torch.zeros(9, 1024)
    state["more"] = state.pop("roi_heads.box_predictor.cls_score.bias")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError) as error:
        load_model(DetectorConfig(model=model(), weights=str(tmp_path / "w.pth")))
    text = str(error.value)
    assert "1 tensors have another shape" in text
    assert "(4, 1024) needed, got (9, 1024)" in text
    assert "1 are missing" in text
    assert "1 are unknown (more)" in text


def test_builder_weights_set_the_number_of_classes(tmp_path):
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    small = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
    torch.save(small.state_dict(), tmp_path / "w.pth")
    loaded = load_model(
        DetectorConfig(model="maskrcnn_resnet50_fpn", weights=str(tmp_path / "w.pth"))
    )
    assert loaded.categories == ("__background__", "class 1", "class 2")


# ---- the catalogue --------------------------------------------------------------------------


def test_known_models():
    cards = {card.name: card for card in known_models()}
    card = cards["maskrcnn_resnet50_fpn_v2"]
    assert card.has_masks
    assert card.categories[1] == "person"
    assert card.box_map == pytest.approx(47.4)
    assert not cards["fasterrcnn_resnet50_fpn"].has_masks
    assert find_card("maskrcnn_resnet50_fpn_v2") == replace(card)


def test_weights_that_cannot_be_had_say_what_to_do(monkeypatch, tmp_path, capsys):
    from urllib.error import URLError

    def refuse(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    with pytest.raises(
        ModelError, match=r"had \(no network\); `--weights embedded` takes .* or fetch https://"
    ):
        download("maskrcnn_resnet50_fpn_v2")
    with pytest.raises(ModelError, match="cannot be had"):
        load_model(DetectorConfig(model="fasterrcnn_mobilenet_v3_large_320_fpn"))
    assert capsys.readouterr() == ("", "")


def test_the_shared_coco_model_sees_people(shared):
    from tracker.video.source import open_source

    detector = MaskRCNNDetector(
        DetectorConfig(
            model=f"{shared}/models/maskrcnn2go/maskrcnn2go.py:load_model",
            min_size=600,
            max_size=1000,
            classes=("person",),
            precision="float32",
        )
    )
    video = shared / "data" / "pets09_s2l1_vtest" / "vtest.avi"
    (found,) = detector.detect([next(iter(open_source(video)))])
    # What torchvision's own loop wrote for this frame, at the same settings.
    expected = []
    for text in (video.parent / "maskrcnn2go_dets.txt").read_text().splitlines():
        fields = text.split()
        if fields[0] != "0":
            break
        if fields[6] == "1":
            expected.append([float(v) for v in fields[1:6]])
    assert len(found) == len(expected)
    x, y, w, h, score = np.array(expected).T
    assert np.allclose(found.scores, score, atol=2e-3)
    assert np.allclose(found.boxes, np.stack([x, y, x + w, y + h], 1), atol=0.5)
