"""The training: crops, order, heads, scores, the file it writes, and the exact way back."""

import json
import math
import signal
import subprocess
import sys
import time
from collections import Counter

import labelled
import numpy as np
import pytest
import torch
from conftest import ROOT

pytest.importorskip("lightning_fabric", reason="the extra `train` is not installed")

from tracker.detect.models.mobile import NAME, maskrcnn_mobilenet_v3_small_fpn
from tracker.detect.models.weights import describe, read_info, save_model
from tracker.errors import ConfigError, ModelError
from tracker.masks import Mask, mask_to_rle
from tracker.train import session
from tracker.train.augment import TrainingCrops
from tracker.train.build import build_model
from tracker.train.loop import Hooks
from tracker.train.records import calibrated
from tracker.train.samples import BACKGROUND, Dataset, Instance, Sample
from tracker.train.schedule import Schedule, repeats
from tracker.train.score import score
from tracker.train.settings import TrainConfig, build

SMALL = {
    "model": NAME,
    "weights": "none",
    "min_size": 96,
    "max_size": 160,
    "crop": 96,
    "batch_size": 2,
    "epochs": 2,
    "frozen": 0.0,
    "unfreeze": 0.5,
    "threads": 1,
    "device": "cpu",
    "checkpoint_s": 1e6,
}


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """Six small pictures, of which one validates."""
    root = tmp_path_factory.mktemp("street")
    labelled.coco(root, labelled.frames(6, seed=4, size=120))
    return root


def small(street, **changes):
    return build(SMALL | {"data": [str(street)]} | changes)


# ---- crops ----------------------------------------------------------------------------------


def crops_of(street, **changes):
    config = small(street, **{"distract": 0.0} | changes)
    data = session.prepare(config).train
    return TrainingCrops(data.samples, config, (96, 160), 96), data


def test_a_crop_depends_on_its_seed_alone(street):
    crops, _ = crops_of(street)
    before = torch.random.get_rng_state()
    (image, target), (again, same), (other, _) = crops[1, 5], crops[1, 5], crops[1, 6]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(image, again)
    assert all(torch.equal(target[k], same[k]) for k in target)
    assert not torch.equal(image, other)


def test_crops_are_what_torchvision_takes(street):
    crops, data = crops_of(street, paste=0.5, distract=0.5)
    objects = 0
    for seed in range(40):
        image, target = crops[seed % len(data.samples), seed]
        assert image.shape == (3, 96, 96)
        assert 0 <= image.min() <= image.max() <= 1
        n = len(target["labels"])
        objects += n
        assert target["masks"].shape == (n, 96, 96)
        assert target["masks"].dtype == torch.uint8
        assert set(target["masks"].unique().tolist()) <= {0, 1}
        assert target["boxes"].shape == (n, 4)
        for mask, (x1, y1, x2, y2) in zip(
            target["masks"], target["boxes"].int().tolist(), strict=True
        ):
            assert mask.sum() >= 16
            assert mask[y1:y2, x1:x2].sum() == mask.sum()
            assert mask[y1].any()
            assert mask[y2 - 1].any()
            assert mask[:, x1].any()
            assert mask[:, x2 - 1].any()
        together = target["masks"].sum(0)
        assert together.max() <= 1 if n else True  # scenes have no overlaps, nor has what is pasted
    assert objects > 80


def test_an_unchanged_crop_is_the_picture(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    mask = np.zeros((96, 96), bool)
    mask[20:60, 30:50] = True
    labelled.coco(tmp_path, [(picture, [2], [mask])] * 2)
    crops, _ = crops_of(tmp_path, jitter=[1.0, 1.0], flip=0.0, color=0.0, paste=0.0)
    image, target = crops[0, 3]
    assert np.array_equal((image * 255).round().permute(1, 2, 0).byte().numpy(), picture)
    assert target["boxes"].tolist() == [[30, 20, 50, 60]]
    assert np.array_equal(target["masks"][0].bool().numpy(), mask)
    flipped, _ = crops_of(tmp_path, jitter=[1.0, 1.0], flip=1.0, color=0.0, paste=0.0)
    image, target = flipped[0, 3]
    assert np.array_equal((image * 255).round().permute(1, 2, 0).byte().numpy(), picture[:, ::-1])
    assert target["boxes"].tolist() == [[46, 20, 66, 60]]


def test_scale_jitter_spans_its_range(street):
    crops, data = crops_of(street, jitter=[0.5, 2.0], flip=0.0, color=0.0, paste=0.0)
    assert data.samples[0].height == 135
    grey = [float((crops[0, s][0] * 255).round().eq(114).all(0).float().mean()) for s in range(30)]
    assert max(grey) > 0.4  # a picture at half its size leaves most of a crop empty
    assert min(grey) < 0.05


def test_crowds_are_painted_grey_and_are_no_targets(tmp_path):
    picture = np.full((96, 96, 3), 200, np.uint8)
    mask = np.zeros((96, 96), bool)
    mask[10:40, 10:40] = True
    path = labelled.coco(tmp_path, [(picture, [1, 2], [mask, mask.T[::-1]])] * 2)
    content = json.loads(path.read_text())
    for item in content["annotations"][::2]:
        item["iscrowd"] = 1
        item["category_id"] = 20  # of which there are objects too
    path.write_text(json.dumps(content))
    crops, _ = crops_of(tmp_path, jitter=[1.0, 1.0], flip=0.0, color=0.0, paste=0.0)
    image, target = crops[0, 1]
    assert target["labels"].tolist() == [2]
    assert (image * 255).round()[0, 20, 20] == 114
    assert (image * 255).round()[0, 80, 80] == 200


def test_pasting_adds_objects_and_hides_others(street):
    plain, _ = crops_of(street, paste=0.0)
    pasted, _ = crops_of(street, paste=1.0)
    counts = [
        sum(len(crops[k % 5, k][1]["labels"]) for k in range(40)) for crops in (plain, pasted)
    ]
    assert counts[1] > 1.2 * counts[0]


def test_pieces_of_background_are_no_objects(tmp_path):
    red, green = (np.full((96, 96, 3), color, np.uint8) for color in ((200, 0, 0), (0, 200, 0)))
    mask = np.zeros((96, 96), bool)
    mask[20:80, 30:60] = True
    pictures = []
    for picture in (red, green):
        picture[mask] = 255
        pictures.append((picture, [1], [mask]))
    path = labelled.coco(tmp_path, pictures)
    plain = {"jitter": [1.0, 1.0], "flip": 0.0, "color": 0.0, "paste": 0.0, "val": [str(path)]}
    crops, _ = crops_of(tmp_path, distract=1.0, **plain)
    foreign = 0
    for seed in range(30):
        image, target = crops[0, seed]
        pixels = (image * 255).round().numpy()
        pasted = pixels[1] == 200  # green has come onto the red picture
        foreign += int(pasted.sum())
        assert not pasted[mask].any()  # here lies the other's object, which must not come along
        assert target["labels"].tolist() == [1]
        assert np.array_equal(target["masks"][0].bool().numpy(), mask)
    assert foreign > 3000


# ---- order ----------------------------------------------------------------------------------


def dataset(labels):
    rle = {"size": [4, 4], "counts": "04<"}
    return [
        Sample(None, 4, 4, tuple(Instance(str(k), label, rle) for k, label in enumerate(ones)))
        for ones in labels
    ]


def test_repeat_factors():
    found = repeats(dataset([[1]] * 96 + [[1, 2]] * 4), 0.25)
    assert found[:96] == [1.0] * 96
    assert found[96:] == pytest.approx([2.5] * 4)
    assert repeats(dataset([[], [1]]), 0.0) == [1.0, 1.0]


def test_an_epoch_shows_every_picture_and_goes_on_anywhere():
    config = TrainConfig(batch_size=4, accumulate=2, balance=0.0)
    schedule = Schedule(dataset([[1]] * 20), config, 3)
    assert schedule.steps_per_epoch == 5
    passes = list(schedule.batches(3, 0))
    assert [len(one) for one in passes] == [2] * 10
    assert sorted(row for one in passes for row, _ in one) == list(range(20))
    assert list(schedule.batches(3, 2)) == passes[4:]
    assert list(schedule.batches(4, 0)) != passes


def test_processes_share_each_batch():
    one = Schedule(dataset([[1]] * 16), TrainConfig(batch_size=4), 1)
    two = Schedule(dataset([[1]] * 16), TrainConfig(batch_size=4, processes=2), 1)
    parts = [list(two.batches(0, 0, rank)) for rank in (0, 1)]
    for whole, first, second in zip(one.batches(0, 0), *parts, strict=True):
        assert sorted(first + second) == sorted(whole)
        assert not set(first) & set(second)


def test_learning_rate_and_unfreezing():
    config = TrainConfig(batch_size=1, epochs=10, warmup=0.1, unfreeze=0.2)
    schedule = Schedule(dataset([[1]] * 10), config, 4)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] < 0.1
    assert max(rates) == pytest.approx(rates[10]) == pytest.approx(1.0)
    assert rates[11:] == sorted(rates[11:], reverse=True)
    assert rates[-1] < 0.02
    assert [schedule.unfrozen(step) for step in (0, 4, 5, 15, 20, 99)] == [0, 0, 1, 3, 4, 4]


def test_settings_that_cannot_be():
    with pytest.raises(ConfigError, match=r"batch_size \(8\) must be a multiple"):
        build({"accumulate": 3})
    with pytest.raises(ConfigError, match="jitter must be two ascending"):
        build({"jitter": [2.0, 0.5]})
    with pytest.raises(ConfigError, match="unknown key 'epoch'; did you mean 'epochs'"):
        build({"epoch": 3})
    with pytest.raises(ConfigError, match="epochs must be greater"):
        build({"epochs": 0})


# ---- the model ------------------------------------------------------------------------------


def test_heads_keep_what_the_start_knew(tmp_path):
    start = maskrcnn_mobilenet_v3_small_fpn(3)
    start.transform.min_size = (160,)
    info = describe(start, NAME, (BACKGROUND, "person", "car"), {})
    save_model(tmp_path / "start.safetensors", start.state_dict(), info)
    config = TrainConfig(weights=str(tmp_path / "start.safetensors"))
    made = build_model(config, (BACKGROUND, "dog", "car"))
    assert made.architecture == NAME
    assert made.kept == (BACKGROUND, "car")
    assert made.module.transform.min_size == (160,)
    old, new = start.roi_heads, made.module.roi_heads
    assert torch.equal(
        new.box_predictor.cls_score.weight[[0, 2]], old.box_predictor.cls_score.weight[[0, 2]]
    )
    assert torch.equal(
        new.box_predictor.bbox_pred.weight[8:12], old.box_predictor.bbox_pred.weight[8:12]
    )
    masks = [heads.mask_predictor.mask_fcn_logits.weight for heads in (new, old)]
    assert torch.equal(masks[0][2], masks[1][2])
    assert not torch.equal(masks[0][1], masks[1][1])
    assert torch.equal(new.box_head.fc6.weight, old.box_head.fc6.weight)


def test_what_is_frozen(tmp_path):
    body = maskrcnn_mobilenet_v3_small_fpn(2).backbone.body
    torch.save(
        {f"features.{k}": v for k, v in body.state_dict().items()}
        | {"classifier.0.bias": torch.ones(3)},
        tmp_path / "imagenet.pth",
    )
    config = TrainConfig(model=NAME, weights="none", backbone=str(tmp_path / "imagenet.pth"))
    made = build_model(config, (BACKGROUND, "a"))
    body = made.module.backbone.body
    assert [all(p.requires_grad for p in layer.parameters()) for layer in body] == [False] * 4 + [
        True
    ] * 9
    assert len(made.stages) == 3
    assert made.stages[0][0] is body[12]
    norms = [m for m in body.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert set(made.norms) == set(norms)  # those of the pyramid learn their statistics
    fresh = build_model(TrainConfig(model=NAME, weights="none"), (BACKGROUND, "a"))
    assert all(p.requires_grad for p in fresh.module.parameters())
    assert fresh.norms == ()


def test_a_builder_of_torchvision():
    made = build_model(
        TrainConfig(model="maskrcnn_resnet50_fpn", weights="none"), (BACKGROUND, "a", "b")
    )
    assert made.module.roi_heads.box_predictor.cls_score.weight.shape[0] == 3
    assert made.module.roi_heads.mask_predictor.mask_fcn_logits.weight.shape[0] == 3


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"model": "maskrcnn_resnet51"}, ModelError, "did you mean"),
        ({"model": "fasterrcnn_resnet50_fpn", "weights": "none"}, ConfigError, "boxes only"),
        ({"model": "mine.py:build", "weights": "none"}, ConfigError, "by name"),
        ({"weights": "nothing.pth"}, ModelError, r"nothing\.pth: no such weights"),
    ],
)
def test_a_start_that_cannot_be(settings, error, text):
    with pytest.raises(error, match=text):
        build_model(TrainConfig(**settings), (BACKGROUND, "a"))


def test_weights_of_another_model(tmp_path):
    torch.save({"features.0.0.weight": torch.ones(16, 3, 3, 3)}, tmp_path / "other.pth")
    config = TrainConfig(model=NAME, weights="none", backbone=str(tmp_path / "other.pth"))
    with pytest.raises(ModelError, match=r"does not fit the backbone: .* are missing"):
        build_model(config, (BACKGROUND, "a"))
    config = TrainConfig(model=NAME, weights=str(tmp_path / "other.pth"))
    with pytest.raises(ModelError, match=r"does not fit maskrcnn_mobilenet"):
        build_model(config, (BACKGROUND, "a"))


# ---- scores ---------------------------------------------------------------------------------


def result(row, mask, score_, label=1):
    x1, y1, x2, y2 = mask.box
    return {
        "image_id": row + 1,
        "category_id": label,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "score": score_,
        "segmentation": mask_to_rle(mask, 100, 80),
    }


def block(x, y, w, h):
    return Mask(x, y, np.ones((h, w), np.bool_))


def scored(results, crowd=False):
    one = Instance("1", 1, mask_to_rle(block(10, 10, 20, 40), 100, 80))
    other = Instance("2", 2, mask_to_rle(block(50, 10, 30, 40), 100, 80), crowd)
    data = Dataset((Sample(None, 100, 80, (one, other)),), (BACKGROUND, "a", "b", "c"))
    return score(data, results)


def test_map_of_known_answers():
    first, second = block(10, 10, 20, 40), block(50, 10, 30, 40)
    found = scored([result(0, first, 0.9), result(0, second, 0.8, 2)])
    assert (found.box, found.mask, found.mask_50) == pytest.approx((1.0, 1.0, 1.0))
    assert dict(found.categories) == pytest.approx({"a": 1.0, "b": 1.0})
    found = scored([result(0, first, 0.9)])
    assert found.mask == pytest.approx(0.5)
    shifted = scored([result(0, block(14, 10, 20, 40), 0.9), result(0, second, 0.8, 2)])
    iou = 16 / 24  # of ten thresholds from 0.50, those up to 0.65 are met
    assert iou > 0.65
    assert shifted.categories["a"] == pytest.approx(0.4)
    assert scored([]).mask == 0.0


def test_crowds_are_not_judged():
    first, second = block(10, 10, 20, 40), block(55, 12, 10, 10)
    wrong = [result(0, first, 0.9), result(0, second, 0.95, 2)]
    assert scored(wrong, crowd=True).mask == pytest.approx(1.0)
    assert scored(wrong, crowd=False).mask < 0.6


# ---- whole trainings ------------------------------------------------------------------------


def without_times(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "val_s"} for line in lines]


def test_stopped_and_resumed_twice_it_is_the_same(street, tmp_path):
    config = small(street)
    whole = session.train(config, tmp_path / "whole")
    assert whole.finished
    steps = whole.steps
    assert steps == 4
    stops = iter([1, 3])

    def until(step):
        seen = []
        return Hooks(
            on_step=lambda done, *_: seen.append(done), should_stop=lambda: seen[-1] >= step
        )

    part = session.train(config, tmp_path / "part", hooks=until(next(stops)))
    assert (part.finished, part.steps) == (False, 1)
    part = session.train(config, tmp_path / "part", resume=True, hooks=until(next(stops)))
    assert (part.finished, part.steps) == (False, 3)
    part = session.train(config, tmp_path / "part", resume=True)
    assert part.finished
    for name in ("steps.jsonl", "epochs.jsonl"):
        assert without_times(tmp_path / "part" / name) == without_times(tmp_path / "whole" / name)
    weights = [
        torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "part")
    ]
    for key, value in weights[0]["ema"].items():
        assert torch.equal(value, weights[1]["ema"][key]), key
    again = session.train(config, tmp_path / "part", resume=True)
    assert again.steps == steps  # nothing is left to do


def test_stopped_before_a_validation_it_is_made_up_for(street, tmp_path):
    config = small(street)
    session.train(config, tmp_path / "whole")
    seen = []
    hooks = Hooks(on_step=lambda done, *_: seen.append(done), should_stop=lambda: seen[-1] == 4)
    part = session.train(config, tmp_path / "part", hooks=hooks)
    assert (part.finished, part.steps, len(part.epochs)) == (False, 4, 1)
    part = session.train(config, tmp_path / "part", resume=True)
    assert part.finished
    ends = [without_times(tmp_path / name / "epochs.jsonl") for name in ("part", "whole")]
    assert ends[0] == ends[1]


def test_killed_before_the_first_checkpoint(street, tmp_path):
    config = small(street, epochs=1)
    session.train(config, tmp_path / "run")
    lines = (tmp_path / "run" / "steps.jsonl").read_text()
    (tmp_path / "run" / "last.pt").unlink()
    session.train(config, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "steps.jsonl").read_text() == lines


# ---- what scores mean -----------------------------------------------------------------------


def test_the_score_that_separates_best_becomes_the_confident_one():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 3, generator=generator) * 3
    name = "roi_heads.box_predictor.cls_score.bias"
    before = logits.softmax(1)
    state = {name: torch.zeros(3), "other": torch.ones(2)}
    shifted = calibrated(state, ("__background__", "person", "car"), {"person": 0.93})
    assert torch.equal(state[name], torch.zeros(3))
    assert shifted[name][[0, 2]].tolist() == [0.0, 0.0]
    two = torch.tensor([[0.0, math.log(0.93 / 0.07)]])
    assert (two + shifted[name][:2]).softmax(1)[0, 1] == pytest.approx(0.6, abs=1e-6)
    after = (logits + shifted[name]).softmax(1)
    assert torch.equal(after[:, 1].argsort(), before[:, 1].argsort())
    assert torch.equal(shifted["other"], state["other"])
    assert calibrated({"other": torch.ones(2)}, ("__background__", "person"), {"person": 0.9})


def test_thresholds_are_those_of_the_best_f1():
    picture = (np.indices((40, 40)).sum(0) * 0).astype(np.uint8)
    samples, results = [], []
    for k in range(12):
        mask = Mask(4, 4, np.ones((20, 20), np.bool_))
        rle = mask_to_rle(mask, *picture.shape)
        samples.append(Sample(None, 40, 40, (Instance(str(k), 1, rle),)))
        good = {"bbox": [4, 4, 20, 20], "segmentation": rle, "score": 0.8 + k / 100}
        away = mask_to_rle(Mask(30, 30, np.ones((5, 5), np.bool_)), *picture.shape)
        bad = {"bbox": [30, 30, 5, 5], "segmentation": away, "score": 0.7 - k / 100}
        results += [one | {"image_id": k + 1, "category_id": 1} for one in (good, bad)]
    data = Dataset(tuple(samples), ("__background__", "person", "car"))
    assert score(data, results).thresholds == {"person": pytest.approx(0.8)}
    few = Dataset(tuple(samples[:9]), data.categories)
    assert score(few, [r for r in results if r["image_id"] < 10]).thresholds == {}


def test_force_gives_nothing_up_before_all_is_ready(street, tmp_path):
    session.train(small(street, epochs=1), tmp_path / "run")
    best = tmp_path / "run" / "best.safetensors"
    for change in ({"model": "maskrcnn_x"}, {"weights": str(best)}, {"weights": "gone.pth"}):
        with pytest.raises((ConfigError, ModelError)):
            session.train(small(street, **change), tmp_path / "run", replace_old=True)
        assert best.is_file()


def test_a_picture_that_cannot_be_drawn_ends_no_training(street, tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("no ink")

    monkeypatch.setattr(session, "draw_sheet", fail)
    assert session.train(small(street, epochs=1), tmp_path / "run").finished
    assert "could not be drawn (no ink)" in caplog.text


def test_labels_without_objects_to_validate_by(street, tmp_path):
    path = labelled.coco(tmp_path / "empty", labelled.frames(2, size=120), annotations=[])
    with pytest.raises(ConfigError, match="no picture to validate by has an object"):
        session.prepare(small(street, val=[str(path)]))
    with pytest.raises(ConfigError, match="no picture to train on has an object"):
        session.prepare(small(path))


def test_sizes_that_contradict_each_other(street, tmp_path):
    config = build({k: v for k, v in SMALL.items() if k != "min_size"} | {"data": [str(street)]})
    with pytest.raises(ConfigError, match=r"min_size \(480\) must not exceed max_size \(160\)"):
        session.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_mixed_precision_leaves_coordinates_exact(street, tmp_path):
    """bfloat16 has eight bits: a proposal at 403 px would lie at 404."""
    from tracker.train.build import keep_coordinates_exact

    model = maskrcnn_mobilenet_v3_small_fpn(3).eval()
    keep_coordinates_exact(model)
    seen = []
    model.rpn.anchor_generator.register_forward_hook(lambda *args: seen.append(args[2]))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        (found,) = model([torch.rand(3, 480, 640)])
    assert seen[0][0].dtype == torch.float32
    assert found["boxes"].dtype == torch.float32
    done = session.train(small(street, epochs=1, precision="bfloat16"), tmp_path / "run")
    assert done.finished


def test_lines_after_the_checkpoint_are_taken_back(street, tmp_path):
    """A killed training has written steps that its checkpoint does not know."""
    config = small(street, epochs=1)
    session.train(config, tmp_path / "run")
    path = tmp_path / "run" / "steps.jsonl"
    lines = path.read_text()
    path.write_text(lines + '{"step": 4}\n{"st')
    session.train(config, tmp_path / "run", resume=True)
    assert path.read_text() == lines


def test_other_data_are_not_resumed(street, tmp_path):
    session.train(small(street, epochs=1), tmp_path / "run")
    settings = tmp_path / "run" / "train.toml"
    labelled.coco(tmp_path / "other", labelled.frames(6, seed=5, size=120))
    settings.write_text(settings.read_text().replace(str(street), str(tmp_path / "other")))
    with pytest.raises(ConfigError, match="was trained on other data"):
        session.train(small(street), tmp_path / "run", resume=True)
    (tmp_path / "run" / "last.pt").write_bytes(b"cut")
    settings.write_text(settings.read_text().replace(str(tmp_path / "other"), str(street)))
    with pytest.raises(ConfigError, match="is damaged"):
        session.train(small(street), tmp_path / "run", resume=True)


def test_accumulated_passes_are_one_step(street, tmp_path):
    """Sums of gradients: four pictures at once or two by two lead to nearly the same weights."""
    ends = []
    for accumulate in (1, 2):
        config = small(street, batch_size=4, accumulate=accumulate, epochs=1, optimizer="sgd")
        done = session.train(config, tmp_path / str(accumulate))
        assert done.steps == 1
        ends.append(sum(done.epochs[0].losses.values()))
    assert ends[0] == pytest.approx(ends[1], rel=0.25)


def test_a_loss_that_is_not_finite(street, tmp_path):
    config = small(street, lr=10.0, optimizer="sgd", warmup=0.0, clip=1e9, epochs=50)
    with pytest.raises(ModelError, match="take a lower learning rate"):
        session.train(config, tmp_path / "run")


def test_it_stops_early(street, tmp_path):
    config = small(street, lr=1e-9, patience=1, epochs=30, ema=0.0)
    done = session.train(config, tmp_path / "run")
    assert done.finished
    assert len(done.epochs) < 30


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("builder", ["maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"])
def test_builders_of_torchvision_are_trained_and_run(street, tmp_path, builder):
    config = small(street, model=builder, epochs=1, optimizer="sgd", lr=1e-4)
    done = session.train(config, tmp_path / "run")
    assert done.finished
    best = str(tmp_path / "run" / "best.safetensors")
    from tracker.config import DetectorConfig
    from tracker.detect.maskrcnn import MaskRCNNDetector
    from tracker.types import Frame

    detector = MaskRCNNDetector(DetectorConfig(weights=best, device="cpu"))
    assert detector.model.name == builder
    assert detector.sizes == (96, 160)
    assert len(detector.detect([Frame(0, 0.0, np.zeros((90, 120, 3), np.uint8))])) == 1


def test_the_command(street, tmp_path, tracker):
    settings = [f"{k}={json.dumps(v)}" for k, v in SMALL.items() if k != "epochs"]
    options = [part for text in settings for part in ("--set", text)]
    code, out, err = tracker("train", street, "-o", "run", "--epochs", 1, *options)
    assert code == 0, err
    assert "5 pictures to train on" in err
    assert "epoch 1/1  loss" in err
    assert "run/best.safetensors" in out
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "train.toml", "steps.jsonl", "epochs.jsonl", "best.safetensors", "last.pt", "curves.png",
        "predictions.png",
    }  # fmt: skip
    info = read_info(tmp_path / "run" / "best.safetensors")
    assert info.categories == (BACKGROUND, "person", "car", "dog")
    assert (info.architecture, info.min_size, info.max_size) == (NAME, 96, 160)
    assert info.card["pictures"] == 5

    code, out, err = tracker("models", "run/best.safetensors")
    assert code == 0, err
    assert "3 classes: person, car, dog" in out
    assert "shorter side 96 px" in out

    weights = tmp_path / "run" / "best.safetensors"
    code, out, err = tracker(
        "run", street / "images" / "*.png", "--weights", weights, "-o", "tracked", "-q"
    )
    assert code == 0, err
    assert NAME not in (tmp_path / "tracked" / "report.json").read_text()
    header = json.loads((tmp_path / "tracked" / "tracks.jsonl").read_text().splitlines()[0])
    assert header["categories"] == [BACKGROUND, "person", "car", "dog"]

    code, _, err = tracker("train", street, "-o", "run")
    assert code == 2
    assert "already holds a training" in err
    code, out, _ = tracker("train", "--resume", "-o", "run", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[-1])["finished"]
    code, _, err = tracker("train", street, "--resume", "-o", "run")
    assert code == 2
    assert "takes all settings from the folder" in err


def test_the_command_names_what_is_wrong(street, tmp_path, tracker):
    code, _, err = tracker("train", "-o", "run")
    assert (code, err) == (2, "tracker: give a file or folder of labelled pictures to train on\n")
    code, _, err = tracker("train", street, "--set", "lr")
    assert (code, err) == (2, "tracker: --set takes name=value, got 'lr'\n")
    code, _, err = tracker("train", street, "--classes", "cat")
    assert code == 2
    assert "'cat' is none of the data's categories: person, car, dog" in err
    code, _, err = tracker("train", "--resume", "-o", "nothing")
    assert code == 2
    assert "nothing/train.toml: cannot be read" in err
    assert not (tmp_path / "run").exists()


def test_problems_are_listed_before_the_first_step(tmp_path, tracker):
    path = labelled.coco(tmp_path, labelled.frames(3, size=120))
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = [[1, 1, 2, 2]]
    content["annotations"][1]["category_id"] = 77
    path.write_text(json.dumps(content))
    code, _, err = tracker("train", path, "--check")
    assert code == 2
    assert "[annotation 1]: a polygon has fewer than three points" in err
    assert "[annotation 2]: category_id 77 is none of the categories" in err
    code, _, err = tracker("train", path, "-o", "run")
    assert code == 2
    assert "2 items cannot be used" in err
    assert "--skip-problems" in err
    assert not (tmp_path / "run").exists()


def test_without_the_extra(monkeypatch, tracker):
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    for name in [name for name in sys.modules if name.startswith("tracker.train")]:
        monkeypatch.delitem(sys.modules, name)
    code, _, err = tracker("train", "data")
    assert code == 2
    assert err == "tracker: tracker train needs an extra: pip install 'mask-tracker[train]'\n"


def command(*arguments):
    return [sys.executable, "-m", "tracker", "train", *map(str, arguments)]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_and_resumed(street, tmp_path):
    """SIGKILL in the middle of a step; the curve goes on as if nothing had been."""
    settings = SMALL | {"checkpoint_s": 0.0}
    options = [part for k, v in settings.items() for part in ("--set", f"{k}={json.dumps(v)}")]
    session.train(small(street, checkpoint_s=0.0), tmp_path / "whole")
    process = subprocess.Popen(
        command(street, "-o", tmp_path / "part", *options),
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    steps = tmp_path / "part" / "steps.jsonl"
    while process.poll() is None:
        if steps.is_file() and len(steps.read_text().splitlines()) >= 4:
            process.kill()
            break
    process.wait()
    assert process.returncode == -9
    subprocess.run(
        command("--resume", "-o", tmp_path / "part"), cwd=ROOT, check=True, capture_output=True
    )
    for name in ("steps.jsonl", "epochs.jsonl"):
        assert without_times(tmp_path / "part" / name) == without_times(tmp_path / "whole" / name)


@pytest.mark.timeout(400)
def test_a_signal_ends_a_training_between_two_steps_and_force_starts_it_over(street, tmp_path):
    """As with a run: the first signal ends it in good order, --resume --force begins again."""
    settings = SMALL | {"epochs": 200}
    options = [part for k, v in settings.items() for part in ("--set", f"{k}={json.dumps(v)}")]
    process = subprocess.Popen(
        command(street, "-o", tmp_path / "run", "--json", *options),
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    steps = tmp_path / "run" / "steps.jsonl"
    while process.poll() is None and not (steps.is_file() and steps.read_text().count("\n") >= 2):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    last = json.loads(out.splitlines()[-1])
    assert not last["finished"]
    assert steps.read_text().count("\n") == last["steps"] >= 2
    text = (tmp_path / "run" / "train.toml").read_text()
    assert "epochs = 200" in text
    (tmp_path / "run" / "train.toml").write_text(text.replace("epochs = 200", "epochs = 1"))
    done = subprocess.run(
        command("--resume", "--force", "-o", tmp_path / "run", "--json"),
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["finished"]
    assert steps.read_text().count("\n") == result["steps"]  # none of before


@pytest.mark.timeout(400)
def test_two_processes(street, tmp_path):
    """Both take their share of each batch; the first one writes."""
    settings = SMALL | {"processes": 2, "epochs": 1}
    options = [part for k, v in settings.items() for part in ("--set", f"{k}={json.dumps(v)}")]
    done = subprocess.run(
        command(street, "-o", tmp_path / "run", "--json", *options),
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one = session.train(small(street, epochs=1), tmp_path / "one")
    two = without_times(tmp_path / "run" / "epochs.jsonl")[0]
    assert two["step"] == one.steps
    assert sum(two["losses"].values()) == pytest.approx(sum(one.epochs[0].losses.values()), rel=0.3)
    assert not math.isnan(two["mask_map"])
    assert Counter(p.suffix for p in (tmp_path / "run").iterdir())[".part"] == 0
