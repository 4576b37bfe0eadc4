"""Build a detection model by name, with its weights and the names of its classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import get_model_builder, get_model_weights
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from tracker.config import DetectorConfig
from tracker.detect.models.architectures import (
    build_module,
    builders_in,
    count_classes,
    describe_foreign,
    find_builder,
    is_foreign,
    nearest_builder,
    note_alike,
    shapes_of,
)
from tracker.detect.models.cards import card_of, check_name, fetched
from tracker.detect.models.classnames import Names, coco_names, fit_names, tidied
from tracker.detect.models.factory import call_factory
from tracker.detect.models.mobile import NAME
from tracker.detect.models.namefiles import read_names
from tracker.detect.models.pickled import code_refusal
from tracker.detect.models.statedict import Fit, fit, load_state
from tracker.detect.models.weights import (
    ModelInfo,
    WeightsFile,
    apply_info,
    find_weights,
    read_info,
    read_weights,
    sha256,
)
from tracker.errors import ConfigError, ModelError

DEFAULT = "maskrcnn_resnet50_fpn_v2"
# Builders whose published COCO_V1 weights need batch norms with an epsilon of zero.
_WITHOUT_EPSILON = (
    "fasterrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn",
)


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model ready to be run."""

    module: nn.Module
    categories: tuple[str, ...]  # name of each label
    name: str
    weights: str  # where they came from
    sha256: str | None  # of the weights' file; None where a factory brings its own
    info: ModelInfo | None = None  # what a file of ours says of itself
    notes: tuple[str, ...] = ()  # what the user should know of how it was read


def load_model(config: DetectorConfig) -> LoadedModel:
    """Build `config.model` with `config.weights` and its limits, in evaluation mode on the CPU.

    Raises ModelError for an unknown name, a factory that fails, weights that cannot be had, do
    not fit, hold code, or are not finite; ConfigError for a size where the model's is fixed, and
    for names that are not one for each class.
    """
    file = _read(config)
    name = _name_of(config, file)
    loaded = _from_factory(name, config, file) if ":" in name else _from_builder(name, config, file)
    broken = [n for n, p in loaded.module.state_dict().items() if not _is_finite(p)]
    if broken:
        raise ModelError(
            f"{loaded.weights}: {len(broken)} tensors hold NaN or infinity, as {broken[0]}"
        )
    set_limits(loaded.module, config)
    return LoadedModel(
        loaded.module.eval().requires_grad_(False),
        loaded.categories,
        loaded.name,
        loaded.weights,
        loaded.sha256,
        loaded.info,
        loaded.notes,
    )


def set_limits(module: nn.Module, config: DetectorConfig) -> None:
    """Set sizes, thresholds and numbers where the settings name them."""
    if config.min_size or config.max_size:
        _set_sizes(transform_of(module), config)
    if not isinstance(module, GeneralizedRCNN):
        return
    heads: Any = module.roi_heads
    rpn: Any = module.rpn
    if hasattr(heads, "score_thresh"):
        heads.score_thresh = config.score_threshold
    if config.max_detections and hasattr(heads, "detections_per_img"):
        heads.detections_per_img = config.max_detections
    if config.proposals and hasattr(rpn, "_post_nms_top_n"):
        rpn._post_nms_top_n["testing"] = config.proposals


def _set_sizes(transform: Any, config: DetectorConfig) -> None:
    """Set the sizes that are named; raise ConfigError where the model's is fixed."""
    if transform is None or getattr(transform, "fixed_size", None):
        raise ConfigError("the model has a fixed size; leave out min_size and max_size")
    transform.min_size = (config.min_size,) if config.min_size else transform.min_size
    transform.max_size = config.max_size or transform.max_size


def transform_of(module: nn.Module) -> Any:
    """Return what resizes pictures in a model as torchvision's does; None for no such thing."""
    transform = getattr(module, "transform", None)
    return transform if hasattr(transform, "min_size") and hasattr(transform, "max_size") else None


def kept_labels(classes: Sequence[str], categories: Sequence[str]) -> torch.Tensor | None:
    """Return the labels of the named classes, (L,), None for all; raise ConfigError."""
    if not classes:
        return None
    labels = []
    for name in classes:
        if name not in categories:
            near = get_close_matches(name, categories, n=1)
            known = [c for c in categories if c not in ("__background__", "N/A")]
            hint = "`tracker models NAME` lists them" if len(known) > 12 else ", ".join(known)
            hint = f"did you mean {near[0]!r}?" if near else hint
            raise ConfigError(f"{name!r} is none of the model's classes; {hint}")
        labels.append(list(categories).index(name))
    return torch.tensor(labels)


def model_name(config: DetectorConfig) -> str:
    """Return the model that the settings mean; where they name none, the weights' file tells.

    Raises ModelError.
    """
    if config.model is not None or config.weights == "default":
        return config.model or DEFAULT
    path = find_weights(config.weights)
    info = read_info(path)  # without its tensors
    return _name_of(config, WeightsFile({}, info=info) if info else read_weights(path))


def _name_of(config: DetectorConfig, file: WeightsFile | None) -> str:
    """Return the model that the settings or else the tensors mean; raise ModelError."""
    if config.model is not None or file is None:
        return config.model or DEFAULT
    if file.info is None:
        return _builder_of(file, config.weights)
    if ":" in file.info.architecture:  # no file makes this program run code the user did not name
        raise ModelError(f"{config.weights}: is for a model of one's own; give --model again")
    return file.info.architecture


def _builder_of(file: WeightsFile, source: str) -> str:
    """Return the builder whose model a file's tensors are, or nearest to; raise ModelError."""
    if not file.tensors:
        return DEFAULT
    name = find_builder(file.tensors, _named(file, source)) or nearest_builder(file.tensors)
    if name is None:
        raise _foreign(file, source, "a detector of torchvision")
    return name


def _named(file: WeightsFile, source: str) -> tuple[str, ...]:
    """Return the builders that a file names, in it or by its own name."""
    return (*file.builders, *builders_in(Path(source).name))


def _read(config: DetectorConfig) -> WeightsFile | None:
    """Return the file of weights; None where the model brings its own."""
    if config.weights == "default" and config.model != NAME:
        return None
    return read_weights(_path_of(config))


def _path_of(config: DetectorConfig) -> Path:
    return find_weights("embedded" if config.weights == "default" else config.weights)


def _from_builder(name: str, config: DetectorConfig, file: WeightsFile | None) -> LoadedModel:
    check_name(name)
    if file is None:
        # By the builder itself: with its own weights it also sets their batch norms' epsilon.
        build: Callable[..., nn.Module] = get_model_builder(name)
        module = fetched(name, lambda: build(weights=get_model_weights(name).DEFAULT))
        card = card_of(name)
        digest = sha256(card.cached) if card.cached else None
        categories = _override(config, card.categories)
        return LoadedModel(module, categories, name, card.weights, digest)
    if file.info is not None and file.info.architecture != name:
        raise ModelError(
            f"{config.weights}: is a {file.info.architecture}; leave out detector.model ({name})"
        )
    path = _path_of(config)
    try:
        module, found, notes = _built(name, file, path)
    except ModelError as exc:
        raise _advise(exc, config, file) from exc
    if config.model is None and file.info is None:
        notes += note_alike(name, _named(file, config.weights))
    classes = count_classes(found, name) or 2
    categories, naming = _name_classes(config, file, classes)
    digest = sha256(path)
    if name in _WITHOUT_EPSILON and digest.startswith(_published(name)):
        _set_epsilon(module, 0.0)
    return LoadedModel(module, categories, name, str(path), digest, file.info, (*notes, *naming))


def _built(name: str, file: WeightsFile, path: Path) -> tuple[nn.Module, Fit, list[str]]:
    """Return a builder's model with the weights of a file; raise ModelError."""
    found = _fitted(file, shapes_of(name, 2), path, name)
    module = build_module(name, count_classes(found, name) or 2)
    if file.info is not None:
        apply_info(module, file.info)
    return module, found, load_state(module, found, str(path), name)


def _from_factory(name: str, config: DetectorConfig, file: WeightsFile | None) -> LoadedModel:
    module = call_factory(name)
    own = tuple(map(str, getattr(module, "categories", None) or ()))
    if file is None:
        return LoadedModel(module, _own_names(config, module, own, name), name, name, None)
    path = _path_of(config)
    if file.info is not None and isinstance(module, GeneralizedRCNN):
        apply_info(module, file.info)
    found = _fitted(file, module.state_dict(), path, name)
    notes = load_state(module, found, str(path), name)
    classes = len(own) or _heads_classes(module)
    stored, said = _stored_names(file, module, classes)
    notes += said if config.classes_file is None else []
    own = stored or own
    categories = _own_names(config, module, own, name)
    return LoadedModel(module, categories, name, str(path), sha256(path), file.info, tuple(notes))


def _stored_names(
    file: WeightsFile, module: nn.Module, classes: int | None
) -> tuple[Names, list[str]]:
    """Return the names in a file that fit a model of the user's own, and what is to be said."""
    for names in file.names:
        # Where another kind of model has its background, its own list says.
        is_whole = len(names) == classes and not isinstance(module, GeneralizedRCNN)
        fitting = fit_names(names, classes) if classes and not is_whole else names
        if fitting is not None:
            return tidied(names, fitting)
    return (), []


def _fitted(file: WeightsFile, expected: Mapping[str, Any], path: Path, name: str) -> Fit:
    """Return the weights of a file that a model knows; raise ModelError where few are."""
    if not file.tensors:
        raise ModelError(f"{path}: holds no tensors")
    found = fit(file.tensors, expected)
    if is_foreign(found, expected):
        raise _foreign(file, str(path), name)
    return found


def _foreign(file: WeightsFile, source: str, name: str) -> ModelError:
    """Return the sentence for weights of another kind of model."""
    if file.pickled is not None:
        return code_refusal(Path(source), file.pickled)
    return ModelError(
        f"{source}: does not fit {name}: it {describe_foreign(file.tensors)}; a model of another "
        "kind needs a function that builds it: --model file.py:function"
    )


def _advise(error: ModelError, config: DetectorConfig, file: WeightsFile) -> ModelError:
    """Add to what says that weights do not fit a builder's model which model they are of."""
    if config.model is None:
        return ModelError(
            f"{error}; of the known models it is the nearest, one of your own is given by --model "
            "file.py:function"
        )
    other = find_builder(file.tensors, _named(file, config.weights))
    if other is None:
        return error
    return ModelError(f"{config.weights}: is a {other}; leave out detector.model ({config.model})")


def _own_names(config: DetectorConfig, module: nn.Module, names: Names, name: str) -> Names:
    """Return the class names of a model of the user's own; raise ModelError where it has none."""
    if config.classes_file is not None:
        return read_names(Path(config.classes_file), len(names) or _heads_classes(module))
    if not names:
        raise ModelError(
            f"{name}: the model must have a `categories` list of class names, or --classes-file "
            "gives them"
        )
    return names


def _override(config: DetectorConfig, names: Names) -> Names:
    if config.classes_file is None:
        return names
    return read_names(Path(config.classes_file), len(names))


def _name_classes(
    config: DetectorConfig, file: WeightsFile, classes: int
) -> tuple[Names, list[str]]:
    """Return the name of each label and what is to be said of them; raise ConfigError."""
    if config.classes_file is not None:
        return read_names(Path(config.classes_file), classes), []
    for names in file.names:
        fitting = fit_names(names, classes)
        if fitting is not None:
            return tidied(names, fitting)
    known = coco_names(classes)
    give = "--classes-file FILE gives others, one a line"
    if known is not None:
        packed = "N/A" not in known
        return known, [f"its {classes - 1} classes are taken for COCO's, in order; {give}"][:packed]
    numbered = tuple(f"class {label}" for label in range(1, classes))
    return ("__background__", *numbered), [
        f"the weights name none of their {classes - 1} classes; {give}"
    ]


def _heads_classes(module: nn.Module) -> int | None:
    """Return the number of labels of a model of torchvision's form; None of any other."""
    heads = getattr(module, "roi_heads", None)
    scores = getattr(getattr(heads, "box_predictor", None), "cls_score", None)
    return scores.out_features if isinstance(scores, nn.Linear) else None


def _published(name: str) -> str:
    """Return how the hash of a builder's COCO_V1 weights begins: their file is named by it."""
    url: str = get_model_weights(name)["COCO_V1"].url
    return url.rpartition("-")[2].partition(".")[0]


def _set_epsilon(module: nn.Module, epsilon: float) -> None:
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = epsilon


def _is_finite(tensor: torch.Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
