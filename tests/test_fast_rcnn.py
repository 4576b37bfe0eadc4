import logging
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from test_detect import frame, model
from torch import nn
from torchvision.models.detection import (
    MaskRCNN,
    maskrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from tracker.config import DetectorConfig
from tracker.detect import hardware
from tracker.detect.fast.canvas import Canvas
from tracker.detect.fast.fuse import fuse, tensors_of
from tracker.detect.fast.layer import Layer, convert
from tracker.detect.fast.network import FastRCNN, is_fast
from tracker.detect.fast.parts import take_parts
from tracker.detect.fast.roi_align import roi_align, takes
from tracker.detect.maskrcnn import MaskRCNNDetector
from tracker.detect.reference import ReferenceDetector
from tracker.errors import ModelError
from tracker.measure.agreement import agreement

CPU = torch.device("cpu")


def detector(**settings):
    one = MaskRCNNDetector(DetectorConfig(model=model(), **{"precision": "float32", **settings}))
    assert one._fast is not None
    assert not one.notes
    return one


def fused(module, example):
    module = module.eval().requires_grad_(False)
    with torch.inference_mode():
        return fuse(module, example, tensors_of(module(example)), "it")


# ---- RoIAlign -------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "ratio"), [(7, 2), (14, 2), (5, 3)])
@pytest.mark.parametrize("levels", [1, 4])
def test_roi_align_equals_torchvisions(side, ratio, levels):
    generator = torch.Generator().manual_seed(side)
    height, width, images = 200, 333, 2
    features = [
        torch.randn(images, 16, -(-height // s), -(-width // s), generator=generator)
        for s in (4, 8, 16, 32)[:levels]
    ]
    corner = torch.rand(80, 2, generator=generator) * torch.tensor([width, height]) * 1.2 - 20
    size = torch.exp(torch.rand(80, 2, generator=generator) * 6)
    boxes = torch.cat([corner, corner + size], 1)  # some reach beyond the picture, some are tiny
    boxes[3] = torch.tensor([10.0, 10, 10, 10])
    which = torch.arange(80) // 40
    pool = MultiScaleRoIAlign([str(k) for k in range(levels)], side, ratio)
    assert takes(pool, CPU)
    named = {str(k): f for k, f in enumerate(features)}
    expected = pool(named, [boxes[:40], boxes[40:]], [(height, width)] * images)
    last = [f.contiguous(memory_format=torch.channels_last) for f in features]
    found = roi_align(last, boxes, which, pool, (height, width))
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(found, expected, atol=2e-4)
    half = roi_align([f.bfloat16() for f in last], boxes, which, pool, (height, width))
    assert half.dtype == torch.bfloat16
    assert (half.float() - expected).abs().max() < 0.06


def test_roi_align_of_one_table_is_the_same(monkeypatch):
    features = [torch.randn(1, 8, 64 // s, 64 // s).contiguous() for s in (4, 8)]
    boxes = torch.tensor([[1.0, 2, 30, 40], [0, 0, 64, 64], [5, 5, 9, 9]])
    pool = MultiScaleRoIAlign(["0", "1"], 7, 2, canonical_scale=32, canonical_level=3)
    images = torch.zeros(3, dtype=torch.int64)
    by_level = roi_align(features, boxes, images, pool, (64, 64))
    monkeypatch.setattr("tracker.detect.fast.roi_align._by_level", lambda _boxes: False)
    assert torch.allclose(roi_align(features, boxes, images, pool, (64, 64)), by_level, atol=1e-5)


def test_other_pools_are_left_to_themselves():
    assert not takes(MultiScaleRoIAlign(["0"], 7, 0), CPU)  # as many samples as the box has pixels
    assert not takes(MultiScaleRoIAlign(["0"], (7, 14), 2), CPU)
    assert not takes(type("Own", (MultiScaleRoIAlign,), {})(["0"], 7, 2), CPU)
    assert not takes(MultiScaleRoIAlign(["0"], 7, 2), torch.device("mps"))


# ---- fusing ---------------------------------------------------------------------------------


class Block(nn.Module):
    """A residual block with every kind of layer that is fused."""

    def __init__(self, norm):
        super().__init__()
        self.first = nn.Conv2d(8, 16, 3, 1, 1, bias=False)
        self.norm = norm(16)
        self.depthwise = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.last = nn.Conv2d(16, 8, 1)
        self.up = nn.ConvTranspose2d(8, 6, 2, 2)
        self.linear = nn.Linear(6 * 16 * 16, 5)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)
        self.norm.weight.data.uniform_(0.5, 2)
        self.norm.bias.data.uniform_(-1, 1)

    def forward(self, x):
        y = nn.functional.relu6(self.norm(self.first(x)))
        y = self.depthwise(y).relu().clamp(max=0.7)
        y = torch.relu(self.last(y) + x)
        return {"map": y, "list": [self.linear(torch.flatten(self.up(y), 1)).relu()]}


@pytest.mark.parametrize("norm", [FrozenBatchNorm2d, nn.BatchNorm2d])
def test_a_fused_module_answers_as_the_original(norm):
    torch.manual_seed(0)
    block = Block(norm)
    before = {k: v.clone() for k, v in block.state_dict().items()}
    fast = fused(block, torch.randn(1, 8, 8, 8))
    x = torch.randn(3, 8, 8, 8)
    for layout in (torch.contiguous_format, torch.channels_last):
        for found, expected in zip(
            tensors_of(fast(x.contiguous(memory_format=layout))), tensors_of(block(x)), strict=True
        ):
            assert torch.allclose(found, expected, atol=1e-5)
    assert sum(isinstance(m, Layer) for m in fast.modules()) == 5
    left = {node.target for node in fast.graph.nodes if node.op != "call_module"}
    assert not left & {torch.relu, "relu", "clamp", "add"}  # all taken in
    assert all(torch.equal(v, before[k]) for k, v in block.state_dict().items())


@pytest.mark.parametrize("builder", [maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2])
def test_every_part_of_torchvisions_models_is_fused(builder, caplog):
    with caplog.at_level(logging.INFO):
        built = builder(weights=None, weights_backbone=None, num_classes=3).eval()
        assert is_fast(built)
        parts = take_parts(built.requires_grad_(False), CPU, torch.float32)
    assert not caplog.messages
    for part in (parts.backbone, parts.rpn_head, parts.box_head, parts.mask_head):
        kinds = {type(m) for m in part.modules()}
        assert Layer in kinds
        assert not kinds & {nn.Conv2d, nn.ReLU, nn.BatchNorm2d, FrozenBatchNorm2d, nn.Linear}


def test_what_cannot_be_traced_runs_as_it_is(caplog):
    class Chooses(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 0 else x

    class Counts(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    with caplog.at_level(logging.INFO):
        for module, why in ((Chooses(), "cannot be traced"), (Counts(), "answers otherwise")):
            assert fused(module, torch.ones(1, 1, 2, 2)) is module
            assert why in caplog.messages[-1]


def test_a_model_that_cannot_be_traced_detects_the_same(monkeypatch):
    plain = detector().detect([frame()])
    monkeypatch.setattr("tracker.detect.fast.parts.fuse", lambda part, *_: part)
    for precision, tolerance in (("float32", 1e-3), ("bfloat16", 0.1)):
        (found,) = detector(precision=precision).detect([frame()])
        assert found.scores[0] == pytest.approx(plain[0].scores[0], abs=tolerance)


def test_without_onednn_the_results_are_the_same(monkeypatch):
    expected = detector().detect([frame()])
    monkeypatch.setattr("tracker.detect.fast.layer.has_onednn", lambda: False)
    agrees = agreement(detector().detect([frame()]), expected, 0.1)
    assert agrees.share_within(0.99, 1e-3) == 1


# ---- number formats -------------------------------------------------------------------------


def test_the_first_layer_stays_exact(bfloat16):
    built = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3).eval()
    parts = take_parts(built.requires_grad_(False), CPU, torch.bfloat16)
    kinds = [m.weight.dtype for m in parts.backbone.modules() if isinstance(m, Layer)]
    assert kinds[:1] == [torch.float32]
    assert set(kinds[1:]) == {torch.bfloat16}
    with torch.inference_mode():
        assert parts.backbone(torch.randn(1, 3, 64, 64))[0].dtype == torch.bfloat16


def test_a_format_that_the_model_does_not_work_in(monkeypatch, caplog):
    place = f"{Path(__file__).with_name('tiny_model.py')}:build_large"
    with pytest.raises(ModelError, match=r"does not work in float16; set detector\.precision"):
        MaskRCNNDetector(DetectorConfig(model=place, precision="float16"))
    monkeypatch.setattr(
        "tracker.detect.maskrcnn.find_precision", lambda *_: torch.float16
    )  # as `auto` finds it on an older GPU
    with caplog.at_level(logging.INFO):
        safe = MaskRCNNDetector(DetectorConfig(model=place))
    assert safe.precision == torch.float32
    assert "goes on in float32" in caplog.text
    assert len(safe.detect([frame()])[0])


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"avx2": True}, torch.float32),
    ],
)
def test_auto_takes_bfloat16_where_it_is_fast(monkeypatch, units, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    monkeypatch.setattr(hardware, "has_onednn", lambda: True)
    assert hardware.find_precision("auto", CPU) == expected
    assert hardware.find_precision("float32", CPU) == torch.float32
    for capability, kind in (((9, 0), torch.bfloat16), ((7, 5), torch.float16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _d, c=capability: c)
        assert hardware.find_precision("auto", torch.device("cuda")) == kind


def test_convert_keeps_exact_layers_and_integers():
    layer = Layer(nn.Conv2d(1, 1, 1))
    layer.exact = True
    whole = nn.Sequential(layer, Layer(nn.Linear(2, 2)))
    whole.register_buffer("count", torch.zeros(1, dtype=torch.int64))
    convert(whole, torch.bfloat16)
    assert [p.dtype for p in whole.parameters()] == [torch.float32] * 2 + [torch.bfloat16] * 2
    assert whole.count.dtype == torch.int64


class Pyramid(nn.Module):
    """A small backbone of two levels, with a norm that is not folded."""

    out_channels = 8

    def __init__(self, norm=None):
        super().__init__()
        torch.manual_seed(0)  # whatever tests came before
        self.first = nn.Conv2d(3, 8, 3, 4, 1)
        self.norm = norm or nn.GroupNorm(2, 8)
        self.second = nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        return {"0": x, "1": self.second(x)}


def build(backbone, **settings):
    torch.manual_seed(0)
    built = MaskRCNN(
        backbone,
        num_classes=settings.pop("num_classes", 4),
        rpn_anchor_generator=AnchorGenerator(((24,), (48,)), ((0.5, 1.0, 2.0),) * 2),
        box_roi_pool=settings.pop("pool", MultiScaleRoIAlign(["0", "1"], 7, 2)),
        mask_roi_pool=MultiScaleRoIAlign(["0", "1"], 14, 2),
        **{"min_size": 128, "max_size": 256, "box_score_thresh": 0.05, **settings},
    )
    nn.init.normal_(built.roi_heads.box_predictor.cls_score.weight, std=0.6)
    return built.eval().requires_grad_(False)


def compare(built, dtype=torch.float32, pictures=3):
    """Run a model by itself and rewritten; return both results of several pictures."""
    results = []
    shots = [torch.from_numpy(frame(k).image.copy()) for k in range(pictures)]
    with torch.inference_mode():
        expected = [built([s.permute(2, 0, 1).float() / 255])[0] for s in shots]
        fast = FastRCNN(built, CPU, dtype)
        for shot, right in zip(shots, expected, strict=True):
            results.append((fast(shot[None]), right))
    return results


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"fixed_size": (160, 128)},
        {"pool": MultiScaleRoIAlign(["0", "1"], (7, 7), 0)},
        {"rpn_score_thresh": 0.999999},  # no proposals at all
        {"box_score_thresh": 0.999999},  # no detections
        {"rpn_pre_nms_top_n_test": 50, "rpn_post_nms_top_n_test": 20},
    ],
    ids=lambda s: next(iter(s), "plain"),
)
def test_a_pyramid_answers_as_torchvisions_forward(settings):
    for found, right in compare(build(Pyramid(), **settings)):
        assert len(found.boxes) == len(right["boxes"])
        assert torch.allclose(found.boxes, right["boxes"], atol=0.02)
        assert torch.allclose(found.scores, right["scores"], atol=1e-4)
        assert found.labels.tolist() == right["labels"].tolist()


def test_a_backbone_that_works_in_place():
    class InPlace(Pyramid):
        def forward(self, x):
            return super().forward(x.sub_(0.5))

    for found, right in compare(build(InPlace())):
        assert torch.allclose(found.boxes, right["boxes"], atol=0.02)


@pytest.mark.parametrize(
    "norm", [lambda: nn.GroupNorm(2, 8), lambda: nn.InstanceNorm2d(8, affine=True)]
)
def test_layers_that_are_not_fused_work_in_half_precision_or_say_so(monkeypatch, norm):
    place = types.ModuleType("place_of_a_model")
    place.build = lambda: build_with_categories(Pyramid(norm()))
    monkeypatch.setitem(sys.modules, "place_of_a_model", place)
    monkeypatch.setattr("tracker.detect.maskrcnn.find_precision", lambda *_: torch.bfloat16)
    one = MaskRCNNDetector(DetectorConfig(model="place_of_a_model:build"))
    assert one._fast is not None
    assert one.precision == torch.bfloat16 or "goes on in float32" in one.notes[0]
    assert len(one.detect([frame()])) == 1


def test_layers_whose_results_are_very_large_pass_infinity_and_nan_on():
    """The packed kernels turn NaN into 0, and an overflow into objects that are not there."""
    block = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())
    block[0].weight.data.mul_(1e33)
    fast = fused(block, torch.randn(1, 4, 8, 8))
    (layer,) = (m for m in fast.modules() if isinstance(m, Layer))
    assert layer.careful
    assert fast(torch.full((1, 4, 8, 8), float("nan"))).isnan().all()


def test_features_that_are_not_finite_are_an_error():
    fast = FastRCNN(build(Pyramid(nn.Identity())), CPU, torch.float32)
    layer = [m for m in fast._parts.backbone.modules() if isinstance(m, Layer)][-1]
    with torch.inference_mode():
        layer.bias.fill_(float("nan"))
        with pytest.raises(FloatingPointError, match="not finite"):
            fast(torch.zeros((1, 120, 160, 3), dtype=torch.uint8))


def test_a_model_that_cannot_be_rewritten_runs_as_it_is(monkeypatch):
    class Levels(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, features):
            logits, deltas = self.inner(features)
            return [x + k for k, x in enumerate(logits)], deltas

    def factory():
        built = build_with_categories(Pyramid())
        built.rpn.head = Levels(built.rpn.head)
        return built

    place = types.ModuleType("place_of_a_model")
    place.build = factory
    monkeypatch.setitem(sys.modules, "place_of_a_model", place)
    config = DetectorConfig(model="place_of_a_model:build")
    one = MaskRCNNDetector(config)
    assert one._fast is None
    assert "does not treat all levels alike" in one.notes[0]
    shots = [frame(k) for k in range(2)]
    expected = ReferenceDetector(config).detect(shots)
    assert agreement(one.detect(shots), expected, 0.1).share_within(0.99, 1e-3) == 1


def build_with_categories(backbone):
    built = build(backbone)
    built.categories = ["__background__", "a", "b", "c"]
    return built


# ---- sizes and batches ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [(120, 160), (719, 1281), (100, 30), (64, 64)])
def test_the_canvas_equals_torchvisions_transform(size):
    built = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=130, max_size=200)
    picture = torch.randint(0, 256, (*size, 3), dtype=torch.uint8)
    expected, _ = built.eval().transform([picture.permute(2, 0, 1).float() / 255])
    canvas = Canvas(built.transform, size, 2, CPU)
    canvas.lay(picture[None])
    assert canvas.resized == expected.image_sizes[0]
    assert canvas.pixels.shape[2:] == expected.tensors.shape[2:]
    assert torch.allclose(canvas.pixels[:1], expected.tensors, atol=1e-4)
    assert not canvas.pixels[1].any()


def test_batches_of_any_size_agree():
    frames = [frame(k) for k in range(7)]
    alone = detector().detect(frames)
    for size in (2, 3, 7):
        found = detector(batch_size=size).detect(frames)
        agrees = agreement(found, alone, 0.1)
        assert agrees.total > 40
        assert agrees.share_within(0.98, 1e-3) == 1
    one = detector(batch_size=4)
    for begin in (0, 2, 6):  # a smaller batch after a larger one
        again = one.detect(frames[begin : begin + 4])
        agrees = agreement(again, alone[begin : begin + 4], 0.1)
        assert agrees.share_within(0.98, 1e-3) == 1


def test_a_picture_of_the_self_tests_size_gets_its_own_canvas():
    small = frame(height=128, width=128)
    (found,) = detector(min_size=200, max_size=400).detect([small])
    (expected,) = ReferenceDetector(
        DetectorConfig(model=model(), min_size=200, max_size=400)
    ).detect([small])
    assert agreement([found], [expected], 0.1).share_within(0.98, 1e-3) == 1


def test_proposals_bound_the_work():
    few = detector(proposals=5)
    assert few._module.rpn.post_nms_top_n() == 5
    assert len(few.detect([frame()])[0]) <= 5 * 3  # each region may be of three classes


# ---- overlapping and memory -----------------------------------------------------------------


def test_a_stream_gives_what_detect_gives():
    one = detector(batch_size=2)
    one.overlaps = True  # as on a GPU
    batches = [[frame(0), frame(1)], [frame(2, 60, 80), frame(3)], [frame(4)]]
    streamed = list(one.stream(batches))
    assert [len(found) for found in streamed] == [2, 2, 1]
    for batch, found in zip(batches, streamed, strict=True):
        assert agreement(found, one.detect(batch), 0.1).share_within(1, 0) == 1
    results = one.stream(iter(batches))
    next(results)
    results.close()
    assert not [t for t in threading.enumerate() if t.name == "prefetch"]


def test_errors_in_a_stream_reach_the_caller():
    one = detector()
    one.overlaps = True

    def batches():
        yield [frame(0)]
        raise OSError("the file ended")

    results = one.stream(batches())
    assert len(next(results)) == 1
    with pytest.raises(OSError, match="the file ended"):
        next(results)


def starving(one, most):
    """Let memory end with more than `most` pixels of pictures at once."""
    inner = one._fast

    class Starving:
        forget_sizes = inner.forget_sizes

        def __call__(self, pixels):
            height, width = inner._lay_out(pixels).resized
            if len(pixels) * height * width > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return inner(pixels)

    one._fast = Starving()
    return one


def test_without_memory_for_a_batch_smaller_ones_go_on(caplog):
    frames = [frame(k) for k in range(6)]
    expected = detector().detect(frames)
    one = starving(detector(batch_size=6), 2 * 128 * 170)
    found = one.detect(frames)
    assert agreement(found, expected, 0.1).share_within(0.98, 1e-3) == 1
    assert one.batch_size == 1
    assert "6 pictures at once" in one.notes[0]
    assert one.notes == caplog.messages
    one.detect(frames)
    assert len(one.notes) == len(caplog.messages)  # said once


def test_without_memory_for_one_picture_it_is_made_smaller():
    one = starving(detector(min_size=400, max_size=800), 310 * 420)
    (found,) = one.detect([frame()])
    assert len(found)
    assert "min_size 300" in one.notes[-1]
    hopeless = starving(detector(), 10)
    with pytest.raises(ModelError, match="memory ran out on cpu with one picture"):
        hopeless.detect([frame()])


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch):
    one = detector()
    monkeypatch.setattr(one, "_run", lambda _pixels: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        one.detect([frame()])


def test_a_thousand_instances_go_through_in_parts(monkeypatch):
    one = detector(max_detections=1000, score_threshold=0.0)
    sizes = []
    inner = FastRCNN._map
    monkeypatch.setattr(
        FastRCNN, "_map", lambda self, x, labels: sizes.append(len(x)) or inner(self, x, labels)
    )
    monkeypatch.setattr("tracker.detect.fast.network._MASK_CHUNK", 16)
    (found,) = one.detect([frame()])
    assert len(found) == sum(sizes) > 60
    assert max(sizes) == 16


def test_memory_settings_are_harmless_elsewhere(monkeypatch):
    calls = []
    monkeypatch.setattr(hardware.ctypes, "CDLL", lambda _name: calls.append(1))
    monkeypatch.setattr("sys.platform", "darwin")
    hardware.keep_freed_memory()
    hardware.give_back_freed_memory()
    assert not calls


# ---- the reference --------------------------------------------------------------------------


def test_the_reference_is_torchvisions_forward():
    config = DetectorConfig(model=model(), precision="float32", classes=("person", "dog"))
    frames = [frame(k) for k in range(2)]
    expected = ReferenceDetector(config).detect(frames)
    assert set(np.concatenate([d.labels for d in expected]).tolist()) <= {1, 3}
    agrees = agreement(MaskRCNNDetector(config).detect(frames), expected, 0.1)
    assert agrees.total > 5
    assert agrees.extra == 0
    assert agrees.share_within(0.98, 1e-3) == 1
