"""Checkpoints as people save them: found, renamed, told which model and which classes they are."""

import argparse
import collections
import dataclasses
import enum
import gzip
import json
import pathlib
import pickle
import re
import types
import warnings
import zipfile
from contextlib import suppress

import numpy as np
import pytest
import safetensors.torch
import tiny_model
import torch
from conftest import ROOT
from torch import nn
from torchvision.models import detection, list_models

from tracker.config import DetectorConfig, RunConfig
from tracker.detect.models import builders
from tracker.detect.models.architectures import build_module, find_builder, shapes_of
from tracker.detect.models.builders import load_model, model_name
from tracker.detect.models.classnames import coco_names, fit_names, read_forms
from tracker.detect.models.mobile import NAME
from tracker.detect.models.namefiles import read_names
from tracker.detect.models.statedict import fit, modern_name
from tracker.detect.models.weights import read_weights, sha256
from tracker.errors import ConfigError, ModelError

TINY_MODEL = f"{ROOT / 'tests' / 'tiny_model.py'}:build_light"
V1, V2 = "maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"
FRUIT = ["apple", "pear", "plum"]


@pytest.fixture(scope="module")
def state():
    """The tensors of a small Mask R-CNN of four classes, other than a new one has."""
    return tiny_model.build_light(seed=7).state_dict()


def small_state(name, classes):
    """A state dict of a builder's model that takes no room: each tensor repeats one number."""
    return {
        key: torch.full((1,), 0.001 * number).expand(shape)
        for number, (key, shape) in enumerate(shapes_of(name, classes).items())
        if not key.endswith("num_batches_tracked")
    }


def load_tiny(path, **settings):
    return load_model(DetectorConfig(model=TINY_MODEL, weights=str(path), **settings))


def assert_loaded(path, state):
    loaded = load_tiny(path).module.state_dict()
    for name, value in state.items():
        assert torch.equal(loaded[name], value.float()), name


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def renamed(state, *rules):
    """Call layers as older versions did."""
    names = {}
    for key in state:
        name = key
        for new, old in rules:
            name = re.sub(new, old, name)
        names[name] = state[key]
    return names


OLD_NAMES = (
    (r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv."),
    (r"mask_head\.0\.0\.", "mask_head.mask_fcn1."),
    (r"mask_head\.1\.0\.", "mask_head.mask_fcn2."),
    (r"mask_head\.2\.0\.", "mask_head.mask_fcn3."),
    (r"mask_head\.3\.0\.", "mask_head.mask_fcn4."),
    (r"((?:inner|layer)_blocks\.\d)\.0\.", r"\1."),
)


# ---- names of tensors -----------------------------------------------------------------------


def test_names_of_before_torchvision_0_13(tmp_path, state):
    old = renamed(state, *OLD_NAMES)
    assert "rpn.head.conv.weight" in old
    assert "roi_heads.mask_head.mask_fcn4.bias" in old
    torch.save(old, tmp_path / "old.pth")
    assert_loaded(tmp_path / "old.pth", state)


@pytest.mark.parametrize("name", [V1, "fasterrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn"])
def test_old_names_become_what_torchvision_makes_of_them(name):
    expected = shapes_of(name, 91)
    old = renamed(dict(expected), *OLD_NAMES)
    assert old.keys() - expected.keys()
    with torch.device("meta"):
        module = build_module(name, 91)
    tensors = {key: torch.empty(shape, device="meta") for key, shape in old.items()}
    module.load_state_dict(tensors)  # torchvision knows its own old names
    assert {modern_name(key) for key in old} == set(expected)


def test_old_names_of_retinanet():
    expected = shapes_of("retinanet_resnet50_fpn", 91)
    old = {}
    for key, shape in expected.items():
        dense = re.sub(r"_head\.conv\.(\d)\.0\.", lambda m: f"_head.conv.{2 * int(m[1])}.", key)
        old[re.sub(r"((?:inner|layer)_blocks\.\d)\.0\.", r"\1.", dense)] = torch.empty(
            shape, device="meta"
        )
    assert "head.classification_head.conv.6.weight" in old
    with torch.device("meta"):
        build_module("retinanet_resnet50_fpn", 91).load_state_dict(old)
    found = fit(old, expected)
    assert found.tensors.keys() == expected.keys()
    assert not found.extra


def test_fcos_keeps_its_names_that_look_like_old_ones_of_retinanet():
    shapes = shapes_of("fcos_resnet50_fpn", 5)
    assert "head.classification_head.conv.4.weight" in shapes
    assert fit(small_state("fcos_resnet50_fpn", 5), shapes).missing(shapes) == []


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "model.",
        "_orig_mod.",
        "net.",
        "detector.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model.module.net.",
        "lightning.inner.0.",
        "_fsdp_wrapped_module._checkpoint_wrapped_module.",
    ],
)
@pytest.mark.parametrize("old", [False, True])
def test_any_prefix(tmp_path, state, prefix, old):
    tensors = renamed(state, *OLD_NAMES) if old else state
    torch.save(prefixed(tensors, prefix), tmp_path / "w.pth")
    assert_loaded(tmp_path / "w.pth", state)


@pytest.mark.parametrize("wrapper", ["_orig_mod", "module"])
def test_a_part_that_is_compiled_or_distributed(tmp_path, state, wrapper):
    tensors = renamed(state, (r"^backbone\.", f"backbone.{wrapper}."))
    torch.save({"model": tensors}, tmp_path / "w.pth")
    assert_loaded(tmp_path / "w.pth", state)


def test_prefixes_in_safetensors(tmp_path, state):
    path = tmp_path / "w.safetensors"
    old = renamed(state, *OLD_NAMES)
    safetensors.torch.save_file(
        prefixed(old, "model._orig_mod."), path, {"class_names": json.dumps(FRUIT)}
    )
    assert_loaded(path, state)
    assert load_tiny(path).categories == ("__background__", *FRUIT)


# ---- where the tensors are ------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Settings:
    lr: float = 0.1


class AttributeDict(dict):
    pass


class Scheduler:
    def __init__(self):
        self.rates = [0.1, 0.2]
        self.steps = collections.deque([1, 2], maxlen=5)


def stepped(state):
    """An optimizer that has stepped: its state has tensors too."""
    parameters = [nn.Parameter(value.clone()) for value in list(state.values())[:3]]
    optimizer = torch.optim.AdamW(parameters)
    sum(p.sum() for p in parameters).backward()
    optimizer.step()
    return optimizer


def of_the_reference_script(state):
    optimizer = stepped(state)
    return {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [8, 11]).state_dict(),
        "args": argparse.Namespace(model=V1, epochs=26, output_dir=pathlib.Path("out"), lr=0.02),
        "epoch": 3,
        "scaler": {"scale": 65536.0, "_growth_tracker": 0},
    }


def of_lightning(state):
    return {
        "epoch": 3,
        "global_step": 1200,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {
            **prefixed(state, "model."),
            "criterion.weight": torch.ones(4),
            "val_map.total": torch.zeros(()),
        },
        "callbacks": {"ModelCheckpoint{'monitor': 'map'}": {"best_model_score": torch.tensor(1.0)}},
        "loops": {"fit_loop": {"state_dict": {}}},
        "optimizer_states": [stepped(state).state_dict()],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": AttributeDict(lr=1e-4, classes=FRUIT),
    }


def averaged(state):
    model = torch.optim.swa_utils.AveragedModel(tiny_model.build_light(), use_buffers=True)
    model.module.load_state_dict(state)
    return model.state_dict()


CONTENTS = {
    "plain": lambda s: s,
    "net": lambda s: {"net": s},
    "state_dict": lambda s: {"state_dict": s, "arch": "mine"},
    "weights": lambda s: {"weights": s},
    "ema": lambda s: {"ema": prefixed(s, "module."), "updates": 7},
    "three levels": lambda s: {"checkpoint": {"best": {"model_state_dict": s}}},
    "parts": lambda s: {
        part: {k.partition(".")[2]: v for k, v in s.items() if k.startswith(f"{part}.")}
        for part in ("backbone", "rpn", "roi_heads")
    },
    "tuple": lambda s: (3, s),
    "reference script": of_the_reference_script,
    "lightning": of_lightning,
    "lightning of the model itself": lambda s: {"state_dict": {**s, "loss.weight": torch.ones(2)}},
    "averaged": averaged,
    "averaged in a part": lambda s: {"model_ema": averaged(s)},
    "half": lambda s: {"model": {k: v.half().float().half() for k, v in s.items()}},
    "bfloat16": lambda s: {k: v.bfloat16() for k, v in s.items()},
    "float64": lambda s: {k: v.double() for k, v in s.items()},
    "parameters": lambda s: collections.OrderedDict((k, nn.Parameter(v)) for k, v in s.items()),
    "parameters with attributes": lambda s: {k: marked(v) for k, v in s.items()},
    "arrays": lambda s: {k: v.numpy() for k, v in s.items()},
    "big-endian arrays": lambda s: {k: v.numpy().astype(">f4") for k, v in s.items()},
    "arrays of a part": lambda s: {k: v.numpy() if "rpn" in k else v for k, v in s.items()},
    "defaultdict": lambda s: collections.defaultdict(list, s),
    "attributes": lambda s: types.SimpleNamespace(model=s, epoch=3),
    "foreign things": lambda s: {
        "model": AttributeDict(s),
        "best": np.float64(0.5),
        "step": np.int64(7),
        "curve": np.arange(3.0),
        "words": np.array(["a", "b"]),
        "things": np.array([None, "b"], dtype=object),
        "random": np.random.RandomState(0).get_state(),
        "generator": np.random.default_rng(0),
        "path": pathlib.Path("a/b"),
        "counter": collections.Counter("aab"),
        "colour": {Colour.RED: Colour.RED},
        "settings": Settings(),
        "scheduler": Scheduler(),
        "chunks": collections.deque([1, 2, 3]),
        "span": slice(0, 3),
        "set": {1, 2},
        "frozen": frozenset({1}),
        "when": __import__("datetime").datetime(2024, 1, 1),
        "dtype": torch.float32,
        "device": torch.device("cpu"),
    },
}


def marked(value):
    parameter = nn.Parameter(value)
    parameter.decay = False
    return parameter


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("zipped", [True, False])
def test_wherever_the_tensors_are(tmp_path, state, kind, zipped):
    path = tmp_path / "w.pth"
    torch.save(CONTENTS[kind](state), path, _use_new_zipfile_serialization=zipped)
    if kind in ("half", "bfloat16"):
        kept = torch.half if kind == "half" else torch.bfloat16
        state = {key: value.to(kept).float() for key, value in state.items()}
    assert_loaded(path, state)


def test_a_module_beside_the_tensors(tmp_path, state):
    torch.save({"model": state, "loss": nn.CrossEntropyLoss()}, tmp_path / "w.pth")
    assert_loaded(tmp_path / "w.pth", state)


def test_counters_of_batch_norms_may_be_missing_or_too_many(tmp_path):
    tensors = small_state(V1, 3)
    with_counters = tensors | {
        key.replace("running_mean", "num_batches_tracked"): torch.tensor(5)
        for key in tensors
        if key.endswith("running_mean")
    }
    profiled = tensors | {"backbone.total_ops": torch.zeros(1), "total_params": torch.zeros(1)}
    for one in (tensors, with_counters, profiled):
        assert find_builder(one) == V1


def test_averaged_weights_are_taken_and_it_is_said(tmp_path, state):
    other = {key: value + 1 for key, value in state.items()}
    torch.save({"model": other, "ema": state}, tmp_path / "both.pth")
    assert_loaded(tmp_path / "both.pth", state)
    assert load_tiny(tmp_path / "both.pth").notes == (
        "the weights are those under `ema`, not under `model`",
    )
    torch.save({"student": state, "teacher": other}, tmp_path / "two.pth")
    assert_loaded(tmp_path / "two.pth", state)
    assert "under `student`, not under `teacher`" in load_tiny(tmp_path / "two.pth").notes[0]


def test_what_fits_best_is_taken(tmp_path, state):
    part = {key: value + 1 for key, value in state.items() if key.startswith("backbone")}
    torch.save({"pretrained": part, "model": state}, tmp_path / "w.pth")
    assert_loaded(tmp_path / "w.pth", state)
    assert load_tiny(tmp_path / "w.pth").notes == ()


# ---- what is refused ------------------------------------------------------------------------


def refusal(path, **settings):
    with pytest.raises(ModelError) as caught:
        load_model(DetectorConfig(weights=str(path), **settings))
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"model": m, "epoch": 3}, nn.DataParallel])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source")
def test_a_pickled_model_says_how_to_save_it(tmp_path, wrap, zipped):
    path = tmp_path / "model.pt"
    torch.save(wrap(tiny_model.build_light()), path, _use_new_zipfile_serialization=zipped)
    text = refusal(path)
    assert '`torch.save(model.state_dict(), "weights.pth")`' in text
    if zipped:
        assert re.search(r"holds a whole pickled model \(torch(vision)?\.\S+\)", text)


def test_a_pickled_model_beside_other_tensors(tmp_path, state):
    content = {"model": tiny_model.build_light(), "optimizer": stepped(state).state_dict()}
    torch.save(content, tmp_path / "model.pt")
    assert "mask_rcnn.MaskRCNN), which is code" in refusal(tmp_path / "model.pt")


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


class EvilSystem(Evil):
    def __reduce__(self):
        return __import__("os").system, (f"touch {self.path}",)


class EvilEval(Evil):
    def __reduce__(self):
        return eval, (f"__import__('pathlib').Path({str(self.path)!r}).touch()",)


@pytest.mark.parametrize("kind", [Evil, EvilSystem, EvilEval])
@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_of_a_file_is_run(tmp_path, state, kind, zipped):
    path, owned = tmp_path / "evil.pth", tmp_path / "owned"
    torch.save({"model": kind(owned)}, path, _use_new_zipfile_serialization=zipped)
    assert "damaged or holds code" in refusal(path)
    torch.save({"model": state, "x": kind(owned)}, path, _use_new_zipfile_serialization=zipped)
    with suppress(ModelError):  # it may be read or not
        load_tiny(path)
    assert not owned.exists()
    pickle.loads(pickle.dumps(kind(owned)))  # it would have
    assert owned.exists()


def test_a_pickle_protocol_that_is_too_new(tmp_path, state):
    torch.save({"model": state}, tmp_path / "w.pth", pickle_protocol=4)
    text = refusal(tmp_path / "w.pth", model=TINY_MODEL)
    assert "pickle protocol 4" in text
    assert "torch.save(model.state_dict()" in text


def test_torchscript_is_code(tmp_path):
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "m.pt")
    assert "TorchScript" in refusal(tmp_path / "m.pt")


FOREIGN = {
    "Detectron2": ["backbone.bottom_up.stem.conv1.weight", "proposal_generator.rpn_head.conv.bias"],
    "MMDetection": ["backbone.layer1.0.conv1.weight", "neck.lateral_convs.0.conv.weight",
                    "rpn_head.rpn_conv.weight", "roi_head.bbox_head.fc_cls.weight"],
    "YOLO": ["model.0.conv.weight", "model.0.bn.bias", "model.22.cv2.0.0.conv.weight",
             "model.22.dfl.conv.weight"],
    "bare ResNet": ["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer4.2.bn3.bias",
                    "fc.weight"],
    "DETR": ["transformer.encoder.layers.0.self_attn.in_proj_weight", "query_embed.weight"],
    "Segment Anything": ["image_encoder.blocks.0.attn.qkv.weight", "mask_decoder.iou_token.weight"],
    "vision transformer": ["patch_embed.proj.weight", "blocks.0.attn.qkv.weight"],
    "none of a detector": ["encoder_q.weight", "w"],
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("nested", [True, False])
def test_weights_of_another_kind_are_called_by_it(tmp_path, kind, nested):
    tensors = {name: torch.ones(2, 2) for name in FOREIGN[kind]}
    torch.save({"state_dict": tensors} if nested else tensors, tmp_path / "w.pth")
    text = refusal(tmp_path / "w.pth")
    assert kind in text
    assert "missing" not in text
    assert "--model file.py:function" in text
    assert kind in refusal(tmp_path / "w.pth", model=V1)


def test_a_classifier_of_torchvision_is_no_detector(tmp_path):
    from torchvision.models import mobilenet_v3_small, resnet18

    for build, kind in ((resnet18, "bare ResNet"), (mobilenet_v3_small, "classifier of pictures")):
        torch.save(build(weights=None).state_dict(), tmp_path / "w.pth")
        assert kind in refusal(tmp_path / "w.pth")


def test_nearly_a_known_model_says_where_it_differs(tmp_path):
    tensors = small_state(V1, 3)
    del tensors["rpn.head.conv.0.0.bias"]
    tensors["rpn.head.cls_logits.bias"] = torch.zeros(9)
    torch.save(tensors, tmp_path / "w.pth")
    text = refusal(tmp_path / "w.pth")
    assert f"does not fit {V1}: 1 tensors have another shape" in text
    assert "1 are missing (rpn.head.conv.0.0.bias)" in text
    assert "--model file.py:function" in text


def test_a_model_that_is_named_wrongly(tmp_path):
    torch.save(small_state(V1, 3), tmp_path / "w.pth")
    assert f"is a {V1}; leave out detector.model" in refusal(tmp_path / "w.pth", model=V2)


def test_a_file_that_is_no_dictionary_or_not_whole(tmp_path, state):
    torch.save(torch.ones(3), tmp_path / "w.pth")
    assert "must hold a dictionary of tensors" in refusal(tmp_path / "w.pth")
    torch.save(state, tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    for part in (whole[: len(whole) // 2], whole[:3], b"404: not found"):
        (tmp_path / "w.pth").write_bytes(part)
        assert re.search("is not a file of weights|damaged", refusal(tmp_path / "w.pth"))


def test_tensors_that_are_quantized_or_have_no_values(tmp_path, state):
    key = "backbone.0.weight"
    with warnings.catch_warnings(action="ignore"):  # such tensors are going out of use
        coarse = torch.quantize_per_tensor(state[key], 0.01, 0, torch.qint8)
    torch.save(state | {key: coarse}, tmp_path / "w.pth")
    assert_loaded(tmp_path / "w.pth", state | {key: coarse.dequantize()})
    torch.save(state | {key: torch.empty(1, device="meta")}, tmp_path / "w.pth")
    assert f"1 are missing ({key})" in refusal(tmp_path / "w.pth", model=TINY_MODEL)


@pytest.mark.parametrize("name", ["w.bin", "w.pt", "w.SAFETENSORS", "w"])
def test_safetensors_by_any_name(tmp_path, state, name):
    safetensors.torch.save_file(state, tmp_path / name, {"classes": json.dumps(FRUIT)})
    assert_loaded(tmp_path / name, state)
    assert load_tiny(tmp_path / name).categories == ("__background__", *FRUIT)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_is_called_safetensors(tmp_path, state, zipped):
    path = tmp_path / "w.safetensors"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    assert_loaded(path, state)


ARRAYS = {
    "matrix": lambda folder: np.matrix([[1]]),
    "masked": lambda folder: np.ma.array([1, 2]),
    "records": lambda folder: np.rec.array([(1, 2)]),
    "record": lambda folder: np.rec.array([(1, 2)])[0],
    "memmap": lambda folder: np.memmap(folder / "m", dtype="u1", mode="w+", shape=(3,)),
    "characters": lambda folder: np.char.array(["a"]),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_of_other_kinds_are_left_out(tmp_path, state, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # of np.matrix
        content = {"model": state, "metrics": {"of": ARRAYS[kind](tmp_path)}}
    torch.save(content, tmp_path / "w.pth")
    assert_loaded(tmp_path / "w.pth", state)


def packed(folder):
    with zipfile.ZipFile(folder / "w.pth", "w") as archive:
        archive.writestr("best/weights.pth", b"0")


def in_a_folder(folder):
    (folder / "w.pth").mkdir()
    (folder / "w.pth" / "model.safetensors").write_bytes(b"0")


def of_arrays(folder):
    np.savez(folder / "w.npz", a=np.ones(1))
    (folder / "w.npz").rename(folder / "w.pth")


OTHER_FILES = {
    "empty": (b"", "is empty"),
    "page": (b"<!DOCTYPE html><html>sign in</html>", "is a web page"),
    "page with blanks": (b"\n\n  <HTML lang='en'>", "is a web page"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "git lfs pull"),
    "gzip": (gzip.compress(b"a"), "is packed with gzip"),
    "ONNX": (b"\x08\x07\x12\x07pytorch", "is ONNX"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + b"0" * 99, "is HDF5"),
    "JSON": (b'{"weight_map": {}}', "is JSON"),
    "tar": (b"a" * 257 + b"ustar" + b"0" * 300, "is a tar archive"),
    "npz": (of_arrays, "is a file of NumPy's arrays"),
    "zip": (packed, "is a zip archive; unpack it and give best/weights.pth"),
    "folder": (in_a_folder, "is a folder; give a file in it: model.safetensors"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_a_file_of_another_kind_is_called_by_it(tmp_path, kind):
    make, sentence = OTHER_FILES[kind]
    path = tmp_path / "w.pth"
    if callable(make):
        make(tmp_path)
    else:
        path.write_bytes(make)
    said = refusal(path)
    assert sentence in said
    assert "w.pth: " in said


@pytest.mark.parametrize("depth", ["resnet18", "mobilenet"])
def test_a_mask_rcnn_of_torchvision_with_another_backbone(tmp_path, depth):
    names = ["rpn.head.conv.0.0.weight", "rpn.head.cls_logits.weight", "rpn.head.bbox_pred.bias",
             "roi_heads.box_head.fc6.weight", "roi_heads.mask_head.0.0.weight",
             "roi_heads.mask_predictor.conv5_mask.weight"]  # fmt: skip
    layer = "layer1.0.conv1" if depth == "resnet18" else "features.0.0"
    names += [f"backbone.body.{layer}.{k}.weight" for k in range(9)]
    torch.save({name: torch.zeros(3) for name in names}, tmp_path / "w.pth")
    said = refusal(tmp_path / "w.pth")
    assert "torchvision's Mask R-CNN with another backbone" in said
    assert "--model file.py:function" in said


def test_a_file_without_tensors(tmp_path):
    torch.save({"model": {}, "epoch": 3}, tmp_path / "w.pth")
    assert "holds no tensors" in refusal(tmp_path / "w.pth")


# ---- which model ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        V1,
        V2,
        NAME,
        "fasterrcnn_resnet50_fpn",
        "fasterrcnn_resnet50_fpn_v2",
        "fasterrcnn_mobilenet_v3_large_fpn",
        "keypointrcnn_resnet50_fpn",
        "retinanet_resnet50_fpn",
        "retinanet_resnet50_fpn_v2",
        "fcos_resnet50_fpn",
        "ssd300_vgg16",
        "ssdlite320_mobilenet_v3_large",
    ],
)
def test_the_builder_is_told_from_the_tensors(tmp_path, name):
    torch.save({"state_dict": prefixed(small_state(name, 3), "model.")}, tmp_path / "w.pth")
    assert model_name(DetectorConfig(weights=str(tmp_path / "w.pth"))) == name


def test_of_two_alike_the_one_that_the_file_names(tmp_path):
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    args = argparse.Namespace(model=name)
    torch.save({"model": small_state(name, 4), "args": args}, tmp_path / "w.pth")
    assert model_name(DetectorConfig(weights=str(tmp_path / "w.pth"))) == name
    torch.save({"model": small_state(V1, 4), "args": args}, tmp_path / "lie.pth")
    assert model_name(DetectorConfig(weights=str(tmp_path / "lie.pth"))) == V1


LARGE, SMALL = (f"fasterrcnn_mobilenet_v3_large_{end}" for end in ("fpn", "320_fpn"))


@pytest.mark.parametrize(
    ("file", "settings", "name", "is_said"),
    [
        ("w.pth", {}, LARGE, True),
        (f"{LARGE}-fb6a3cc7.pth", {}, LARGE, False),
        (f"{SMALL}-907ea3f9.pth", {}, SMALL, False),
        (f"my-{SMALL.replace('_', '-').upper()}.pth", {}, SMALL, False),
        ("w.pth", {"model": SMALL}, SMALL, False),
    ],
    ids=["nothing", "the large by its file", "the small by its file", "marks", "--model"],
)
def test_tensors_that_fit_two_models(tmp_path, file, settings, name, is_said):
    torch.save(small_state(LARGE, 3), tmp_path / file)
    loaded = load_model(DetectorConfig(weights=str(tmp_path / file), **settings))
    assert loaded.name == name
    assert any("fit two models" in note and SMALL in note for note in loaded.notes) == is_said


def test_which_models_have_the_same_tensors():
    forms = {}
    for name in (*list_models(module=detection), NAME):
        key = tuple(sorted((key, tuple(shape)) for key, shape in shapes_of(name, 2).items()))
        forms.setdefault(key, []).append(name)
    assert [set(names) for names in forms.values() if len(names) > 1] == [{LARGE, SMALL}]


@pytest.mark.parametrize(("name", "classes"), [("ssdlite320_mobilenet_v3_large", 5), (NAME, 3)])
def test_the_heads_tell_the_number_of_classes(tmp_path, name, classes):
    tensors = small_state(name, classes)
    torch.save({"net": tensors}, tmp_path / "w.pth")
    loaded = load_model(DetectorConfig(weights=str(tmp_path / "w.pth")))
    assert loaded.name == name
    assert loaded.categories == ("__background__", *(f"class {k}" for k in range(1, classes)))
    assert "--classes-file FILE" in loaded.notes[0]
    state = loaded.module.state_dict()
    for key, value in tensors.items():
        assert torch.equal(state[key], value), key


def test_old_coco_weights_as_published(tmp_path, monkeypatch):
    old = renamed(small_state(V1, 91), *OLD_NAMES)
    assert "backbone.fpn.inner_blocks.0.weight" in old
    torch.save(collections.OrderedDict(old), tmp_path / "old.pth")
    config = DetectorConfig(weights=str(tmp_path / "old.pth"))
    assert builders._published(V1) == "bf2d0c1e"  # what torch.hub checks the download by
    digest = sha256(tmp_path / "old.pth")
    monkeypatch.setattr(builders, "_published", lambda name: digest[:8])
    loaded = load_model(config)
    assert (loaded.name, loaded.sha256) == (V1, digest)
    assert loaded.categories == coco_names(91)
    assert loaded.notes == ()
    # As torchvision sets it with these weights; of others `test_a_checkpoint_is_trained_on` says.
    assert epsilons(loaded.module) == {0.0}


def epsilons(module):
    return {part.eps for part in module.modules() if isinstance(part, nn.BatchNorm2d)}


# ---- names of classes -----------------------------------------------------------------------


def test_eighty_one_classes_are_those_of_coco_in_order(tmp_path):
    torch.save(small_state(NAME, 81), tmp_path / "w.pth")
    loaded = load_model(DetectorConfig(weights=str(tmp_path / "w.pth")))
    assert len(loaded.categories) == 81
    assert loaded.categories[:3] == ("__background__", "person", "bicycle")
    assert loaded.categories[12] == "stop sign"  # label 13 of those with gaps
    assert loaded.categories[80] == "toothbrush"
    assert "N/A" not in loaded.categories
    assert "COCO" in loaded.notes[0]


HELD_NAMES = {
    "classes": lambda: {"classes": FRUIT},
    "with background": lambda: {"CLASSES": ("background", *FRUIT)},
    "array": lambda: {"class_names": np.array(FRUIT)},
    "ids": lambda: {"names": {1: "apple", 2: "pear", 3: "plum"}},
    "ids from 0": lambda: {"names": {0: "apple", 1: "pear", 2: "plum"}},
    "ids as text": lambda: {"id2label": {"1": "apple", "2": "pear", "3": "plum"}},
    "to ids": lambda: {"class_to_idx": {"plum": 3, "apple": 1, "pear": 2}},
    "COCO": lambda: {"categories": [{"id": 7, "name": "apple"}, {"id": 9, "name": "pear"},
                                    {"id": 12, "name": "plum"}]},
    "meta": lambda: {"meta": {"CLASSES": FRUIT, "epoch": 3}},
    "hyperparameters": lambda: {"hyper_parameters": AttributeDict(class_names=FRUIT)},
    "arguments": lambda: {"args": argparse.Namespace(classes=FRUIT, lr=0.1)},
    "text": lambda: {"args": argparse.Namespace(classes="apple, pear,plum")},
    "deep": lambda: {"hyper_parameters": {"cfg": {"data": {"label-names": FRUIT}}}},
    "another list first": lambda: {"names": ["run1"], "config": {"classes": FRUIT}},
    "JSON": lambda: {"classes": json.dumps(FRUIT)},
    "JSON of ids": lambda: {"id2label": json.dumps({1: "apple", 2: "pear", 3: "plum"})},
    "a Python list": lambda: {"names": str(FRUIT)},
    "a Python tuple": lambda: {"args": argparse.Namespace(classes=str(tuple(FRUIT)))},
    "a Python dictionary": lambda: {"names": str({0: "apple", 1: "pear", 2: "plum"})},
    "lines": lambda: {"classes": "apple\npear\nplum\n"},
    "semicolons": lambda: {"classes": "apple; pear; plum"},
    "bytes": lambda: {"classes": [b"apple", b"pear", b"plum"]},
    "blanks": lambda: {"classes": [" apple ", "pear\n", "plum"]},
    "None for the background": lambda: {"classes": [None, *FRUIT]},
    "ids as floats": lambda: {"names": {1.0: "apple", 2.0: "pear", 3.0: "plum"}},
    "objects without ids": lambda: {"categories": [{"name": name} for name in FRUIT]},
    "idx2class": lambda: {"idx2class": {1: "apple", 2: "pear", 3: "plum"}},
    "class2idx": lambda: {"class2idx": {"plum": 3, "apple": 1, "pear": 2}},
    "label2name": lambda: {"label2name": {0: "apple", 1: "pear", 2: "plum"}},
    "index_to_class": lambda: {"cfg": {"index_to_class": {1: "apple", 2: "pear", 3: "plum"}}},
    "class_labels": lambda: {"class_labels": FRUIT},
    "target_names": lambda: {"target_names": FRUIT},
    "of torchvision's tutorial": lambda: {"COCO_INSTANCE_CATEGORY_NAMES": ["bg", *FRUIT]},
    "of scikit-learn": lambda: {"encoder": types.SimpleNamespace(classes_=np.array(FRUIT))},
}  # fmt: skip


@pytest.mark.parametrize("kind", HELD_NAMES)
def test_names_in_the_file(tmp_path, state, kind):
    torch.save({"model": state, **HELD_NAMES[kind]()}, tmp_path / "w.pth")
    assert load_tiny(tmp_path / "w.pth").categories == ("__background__", *FRUIT)


@pytest.mark.parametrize(
    "value", [str(FRUIT), json.dumps(FRUIT), ",".join(FRUIT)], ids=["Python", "JSON", "commas"]
)
def test_names_in_the_metadata_of_safetensors(tmp_path, state, value):
    safetensors.torch.save_file(state, tmp_path / "w.safetensors", {"names": value})
    assert load_tiny(tmp_path / "w.safetensors").categories == ("__background__", *FRUIT)


@pytest.mark.parametrize(
    ("held", "place"),
    [
        ({"classes": [*FRUIT, "background"]}, 3),
        ({"classes": ["apple", "__background__", "pear", "plum"]}, 1),
        ({"names": {0: "apple", 1: "pear", 2: "plum", 3: "BG"}}, 3),
    ],
    ids=["last", "second", "last by ids"],
)
def test_a_background_that_is_not_first_moves_no_other_name(tmp_path, state, held, place):
    torch.save({"model": state, **held}, tmp_path / "w.pth")
    loaded = load_tiny(tmp_path / "w.pth")
    assert loaded.categories == ("__background__", *FRUIT)
    assert f"the weights name the background in place {place}" in loaded.notes[0]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["apple", "apple", "plum"], ("apple", "apple 2", "plum")),
        (["", "pear", " "], ("class 1", "pear", "class 3")),
    ],
    ids=["doubles", "empty"],
)
def test_names_that_tell_no_class_apart_are_numbered_and_said(tmp_path, state, names, expected):
    torch.save({"model": state, "classes": names}, tmp_path / "w.pth")
    loaded = load_tiny(tmp_path / "w.pth")
    assert loaded.categories == ("__background__", *expected)
    assert "as another or not at all: label" in loaded.notes[0]


@pytest.mark.parametrize(
    ("held", "name"),
    [
        ({"classes": "person"}, "person"),
        ({"class_name": "traffic light"}, "traffic light"),
        ({"classes": "data/coco.yaml"}, "class 1"),
        ({"names": "run3"}, "class 1"),
        ({"classes": "[person"}, "class 1"),
    ],
)
def test_the_one_name_of_a_model_of_one_class(tmp_path, held, name):
    torch.save({"model": small_state(NAME, 2), **held}, tmp_path / "w.pth")
    loaded = load_model(DetectorConfig(weights=str(tmp_path / "w.pth")))
    assert loaded.categories == ("__background__", name)


def test_names_that_do_not_fit_are_not_used(tmp_path):
    torch.save({"model": small_state(NAME, 3), "classes": [*FRUIT, "fig"]}, tmp_path / "w.pth")
    loaded = load_model(DetectorConfig(weights=str(tmp_path / "w.pth")))
    assert loaded.categories == ("__background__", "class 1", "class 2")
    assert "--classes-file" in loaded.notes[0]


def test_eighty_names_for_ninety_one_labels():
    names = coco_names(81)[1:]
    assert fit_names(names, 91) == coco_names(91)
    assert fit_names(names, 90) is None


@pytest.mark.parametrize(
    "value", [7, None, "apple", [], {}, [1, 2], [{"id": 1}], {"a": {"b": 1}}, {"lr": 0.1}, {1: 2}]
)
def test_what_is_no_list_of_names(value):
    assert read_forms(value) == []


@pytest.mark.parametrize(
    "text",
    [
        "apple\npear\nplum\n",
        "\ufeffapple\r\npear\r\n\r\nplum",
        "__background__\napple\npear\nplum\n",
        "# fruit\nbackground\napple\npear\nplum\n",
        '["apple", "pear", "plum"]',
        '{"1": "apple", "2": "pear", "3": "plum"}',
        '[{"id": 1, "name": "apple"}, {"id": 2, "name": "pear"}, {"id": 3, "name": "plum"}]',
        "1: apple\n2: pear\n3: plum\n",
        "0 apple\n1 pear\n2 plum\n",
        "2: pear\n3: plum\n1: apple\n",
        "3,plum\n1,apple\n2,pear\n",
        "0: background\n1: apple\n2: pear\n3: plum\n",
        '"apple"\n"pear"\n"plum"\n',
        "'apple',\n'pear',\n'plum'\n",
        "apple,pear, plum\n",
        "- apple\n- pear\n- plum\n",
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\napple:1,2,3::\npear:::\nplum:::\n",
        "path: data\nnames:\n  0: apple\n  1: pear  # green\n  2: 'plum'\nnc: 3\n",
        "nc: 3\nnames: [apple, 'pear', \"plum\"]\nval: images\n",
        "names: {0: apple, 1: pear, 2: plum}\n",
        "names:\n- apple\n- pear\n- plum\ntrain: images\n",
        '{"names": ["apple", "pear", "plum"], "nc": 3}',
        '[{"name": "apple", "attributes": []}, {"name": "pear"}, {"name": "plum"}]',
        json.dumps(
            {"info": {}, "categories": [dict(id=3 * k, name=n) for k, n in enumerate(FRUIT)]}
        ),
        "apple\npear\nplum\nbackground\n",
    ],
)
def test_a_file_of_names_overrides_others(tmp_path, state, text):
    names = tmp_path / "names.txt"
    names.write_text(text, encoding="utf-8")
    torch.save({"model": state, "classes": ["a", "b", "c"]}, tmp_path / "w.pth")
    loaded = load_tiny(tmp_path / "w.pth", classes_file=str(names))
    assert loaded.categories == ("__background__", *FRUIT)
    assert loaded.notes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("apple\npear\n", "holds 2 names, the model has 3 classes beside the background"),
        ("apple\npear\nplum\nfig\n", "holds 4 names, the model has 3 classes"),
        ('["apple"]', "holds 1 names, the model has 3 classes"),
        ("", "holds no names of classes"),
        ("[1, 2, 3]", "holds no names of classes"),
        ('["apple"', "JSON"),
        ("apple\npear\napple\n", "names 'apple' twice"),
        ('["apple", "", "plum"]', "holds an empty name"),
    ],
)
def test_a_file_of_names_that_cannot_be(tmp_path, state, tracker, make_video, text, message):
    (tmp_path / "names.txt").write_text(text)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=message) as caught:
        load_tiny(tmp_path / "w.pth", classes_file=str(tmp_path / "names.txt"))
    assert "names.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_in_bytes_that_are_no_text(tmp_path):
    (tmp_path / "names.txt").write_bytes(b"\xc3\x28apple")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_names(tmp_path / "names.txt", 4)


@pytest.mark.parametrize(
    "names", [("2 wheeler", "3 wheeler", "car"), ("1 way", "2 way", "2 way x"), ("a, b", "c", "d")]
)
def test_numbers_and_commas_that_are_of_the_names_stay(tmp_path, names):
    (tmp_path / "names.txt").write_text("\n".join(names))
    assert read_names(tmp_path / "names.txt", 4) == ("__background__", *names)


def test_a_file_names_what_a_builder_brings(monkeypatch, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(f"thing {k}" for k in range(80)))
    names = read_names(tmp_path / "names.txt", 91)
    assert (names[1], names[90]) == ("thing 0", "thing 79")
    assert names[12] == "N/A"


def test_a_run_remembers_where_the_names_were(tmp_path, monkeypatch):
    (tmp_path / "names.txt").write_text("apple\n")
    monkeypatch.chdir(tmp_path)
    config = RunConfig(detector=DetectorConfig(classes_file="names.txt")).anchored()
    assert config.detector.classes_file == str(tmp_path / "names.txt")


# ---- the whole way --------------------------------------------------------------------------


def test_run_with_a_checkpoint_and_names(tmp_path, tracker, make_video):
    embedded = read_weights(builders.find_weights("embedded")).tensors
    checkpoint = {
        "model": prefixed(renamed(embedded, *OLD_NAMES), "module."),
        "args": argparse.Namespace(lr=0.1),
        "epoch": np.int64(3),
    }
    torch.save(checkpoint, tmp_path / "w.pth")
    make_video(frames=3)
    few = ("--set", "detector.min_size=64")
    code, out, err = tracker("run", "video.mp4", "--weights", "w.pth", "-o", "a", *few)
    assert code == 0
    assert "detector: the weights name none of their 2 classes; --classes-file FILE" in out
    (tmp_path / "names.txt").write_text("person\nvehicle\n")
    named = ("--classes-file", "names.txt", "--classes", "vehicle")
    code, out, err = tracker("run", "video.mp4", "--weights", "w.pth", "-o", "b", *few, *named)
    assert code == 0
    assert "detector:" not in out
    assert "names.txt" in (tmp_path / "b" / "run.toml").read_text()
    (tmp_path / "names.txt").write_text("person\n")
    code, out, err = tracker("run", "video.mp4", "--weights", "w.pth", "-o", "c", *few, *named)
    assert code == 2
    assert "names.txt: holds 1 names, the model has 2 classes" in err
    code, out, err = tracker("run", "video.mp4", "--classes-file", "gone.txt", "-o", "d")
    assert code == 2
    assert "gone.txt: no such file of class names" in err


def test_a_checkpoint_is_trained_on(tmp_path, state):
    from tracker.train.build import build_model
    from tracker.train.settings import build

    old = renamed(small_state(V1, 4), *OLD_NAMES)
    torch.save({"model": old, "args": argparse.Namespace(), "classes": FRUIT}, tmp_path / "w.pth")
    settings = build({"weights": str(tmp_path / "w.pth"), "data": ["x.json"]})
    started = build_model(settings, ("__background__", "plum", "fig"))
    assert started.architecture == V1
    assert epsilons(started.module) == {1e-5}
    assert started.kept == ("__background__", "plum")
