"""Build a detection model by name, with its weights and the names of its classes."""

from __future__ import annotations

import importlib
import importlib.util
import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torchvision.models import detection, get_model_builder, get_model_weights, list_models
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from tracker.config import DetectorConfig
from tracker.detect.mobile import NAME, NAMES, maskrcnn_mobilenet_v3_small_fpn
from tracker.detect.weights import (
    EMBEDDED,
    ModelInfo,
    apply_info,
    find_weights,
    read_info,
    read_weights,
    sha256,
)
from tracker.errors import ConfigError, ModelError

T = TypeVar("T")
DEFAULT = "maskrcnn_resnet50_fpn_v2"
_CLASSIFIER = "roi_heads.box_predictor.cls_score.weight"


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model ready to be run."""

    module: nn.Module
    categories: tuple[str, ...]  # name of each label
    name: str
    weights: str  # where they came from
    sha256: str | None  # of the weights' file; None where a factory brings its own
    info: ModelInfo | None = None  # what a file of ours says of itself


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known about a model without loading it."""

    name: str
    weights: str  # name of the default weights
    url: str
    megabytes: float
    box_map: float | None  # COCO val2017 box mAP, per cent
    categories: tuple[str, ...]
    has_masks: bool
    cached: Path | None  # where the weights lie if they are here
    info: ModelInfo | None = None  # of a model of ours: how it was made and how good it is


def load_model(config: DetectorConfig) -> LoadedModel:
    """Build `config.model` with `config.weights` and its limits, in evaluation mode on the CPU.

    Raises ModelError for an unknown name, a factory that fails, weights that cannot be had, do
    not fit, hold code, or are not finite; ConfigError for a size where the model's is fixed.
    """
    name = model_name(config)
    loaded = _from_factory(name, config) if ":" in name else _from_builder(name, config)
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
    )


def set_limits(module: nn.Module, config: DetectorConfig) -> None:
    """Set sizes, thresholds and numbers where the settings name them."""
    transform: Any = getattr(module, "transform", None)
    if config.min_size or config.max_size:
        if transform is None or getattr(transform, "fixed_size", None):
            raise ConfigError("the model has a fixed size; leave out min_size and max_size")
        transform.min_size = (config.min_size,) if config.min_size else transform.min_size
        transform.max_size = config.max_size or transform.max_size
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


def known_models() -> list[ModelCard]:
    """Describe our own model and every detection model of torchvision with published weights."""
    return [_own_card(EMBEDDED), *(_card(name) for name in list_models(module=detection))]


def find_card(name: str) -> ModelCard:
    """Describe one model, by its builder's name, `embedded`, or a file that `tracker train` wrote.

    Raises ModelError for an unknown name, and for a file that says nothing of itself.
    """
    if name in ("embedded", NAME):
        return _own_card(EMBEDDED)
    if Path(name).suffix == ".safetensors" or Path(name).is_file():
        return _own_card(Path(name))
    _check_name(name)
    return _card(name)


def _own_card(path: Path) -> ModelCard:
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file")
    info = read_info(path)
    if info is None:
        raise ModelError(f"{path}: says nothing of itself; only what `tracker train` wrote does")
    box_map = info.card.get("validation", {}).get("box_map")
    return ModelCard(
        name="embedded" if path == EMBEDDED else str(path),
        weights=info.architecture,
        url="",
        megabytes=path.stat().st_size / 1e6,
        box_map=None if box_map is None or path == EMBEDDED else 100 * box_map,
        categories=info.categories,
        has_masks=True,
        cached=path,
        info=info,
    )


def download(name: str) -> Path:
    """Fetch the default weights of a torchvision model, check their hash, and say where they lie.

    Raises ModelError.
    """
    if name in ("embedded", NAME):
        return EMBEDDED
    _check_name(name)
    weights = get_model_weights(name).DEFAULT
    _fetched(name, lambda: weights.get_state_dict(progress=False, check_hash=True))
    path = _card(name).cached
    if path is None:
        raise ModelError(f"{name}: the weights vanished after the download")
    return path


# ---- torchvision's builders -----------------------------------------------------------------


def model_name(config: DetectorConfig) -> str:
    """Return the model that the settings mean; where they name none, the weights' file tells.

    Raises ModelError.
    """
    if config.model is not None:
        return config.model
    if config.weights == "default":
        return DEFAULT
    info = read_info(find_weights(config.weights))
    if info is None:
        return DEFAULT
    if ":" in info.architecture:  # no file makes this program run code that the user did not name
        raise ModelError(f"{config.weights}: is for a model of one's own; give --model again")
    return info.architecture


def build_module(name: str, num_classes: int) -> nn.Module:
    """Build a model of torchvision's or ours with random weights; raise ModelError."""
    _check_name(name)
    if name == NAME:
        return cast(nn.Module, maskrcnn_mobilenet_v3_small_fpn(num_classes))
    build: Callable[..., nn.Module] = get_model_builder(name)
    return build(weights=None, weights_backbone=None, num_classes=num_classes)


def _from_builder(name: str, config: DetectorConfig) -> LoadedModel:
    _check_name(name)
    if config.weights == "default" and name != NAME:
        # By the builder itself: with its own weights it also sets their batch norms' epsilon.
        build: Callable[..., nn.Module] = get_model_builder(name)
        module = _fetched(name, lambda: build(weights=get_model_weights(name).DEFAULT))
        card = _card(name)
        digest = sha256(card.cached) if card.cached else None
        return LoadedModel(module, card.categories, name, card.weights, digest)
    path = find_weights("embedded" if config.weights == "default" else config.weights)
    file = read_weights(path)
    if file.info is not None and file.info.architecture != name:
        raise ModelError(
            f"{config.weights}: is a {file.info.architecture}; leave out detector.model ({name})"
        )
    default = NAMES if name == NAME else _card(name).categories
    classes = len(file.tensors[_CLASSIFIER]) if _CLASSIFIER in file.tensors else len(default)
    categories = _categories(file.categories, classes, default)
    module = build_module(name, len(categories))
    if file.info is not None:
        apply_info(module, file.info)
    load_state(module, file.tensors, str(path), name)
    return LoadedModel(module, categories, name, str(path), sha256(path), file.info)


def _check_name(name: str) -> None:
    known = [*list_models(module=detection), NAME]
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "`tracker models` lists what is known"
        raise ModelError(f"unknown model {name!r}; {hint}")


def _card(name: str) -> ModelCard:
    weights = get_model_weights(name).DEFAULT
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    metrics = weights.meta.get("_metrics", {}).get("COCO-val2017", {})
    return ModelCard(
        name=name,
        weights=str(weights),
        url=weights.url,
        megabytes=weights.meta.get("_file_size", 0.0),
        box_map=metrics.get("box_map"),
        categories=tuple(weights.meta["categories"]),
        has_masks=name.startswith("maskrcnn"),
        cached=path if path.is_file() else None,
    )


def _fetched(name: str, fetch: Callable[[], T]) -> T:
    """Call what may download weights; say what to do where they cannot be had."""
    weights = get_model_weights(name).DEFAULT
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # torch chats there
            return fetch()
    except (OSError, RuntimeError, pickle.UnpicklingError) as exc:
        why = getattr(exc, "reason", None) or str(exc).partition("\n")[0]
        raise ModelError(
            f"the weights of {name} cannot be had ({why}); `--weights embedded` takes the small "
            f"model that is in the package, or fetch {weights.url} elsewhere and give the file"
        ) from exc


# ---- factories of the user ------------------------------------------------------------------


def _from_factory(name: str, config: DetectorConfig) -> LoadedModel:
    place, _, function = name.rpartition(":")
    factory = _find_factory(place, function)
    try:
        module = factory()
    except Exception as exc:
        raise ModelError(f"{name}: the factory failed: {type(exc).__name__}: {exc}") from exc
    if not isinstance(module, nn.Module):
        raise ModelError(f"{name}: must return a torch module, got {type(module).__name__}")
    own = getattr(module, "categories", None)
    if config.weights == "default":
        file, source, digest = None, name, None
    else:
        path = find_weights(config.weights)
        file = read_weights(path)
        if file.info is not None and hasattr(module, "transform"):
            apply_info(module, file.info)
        load_state(module, file.tensors, str(path), name)
        source, digest = str(path), sha256(path)
    categories = (file.categories if file else None) or own
    if not categories:
        raise ModelError(f"{name}: the model must have a `categories` list of class names")
    info = file.info if file else None
    return LoadedModel(module, tuple(map(str, categories)), name, source, digest, info)


def _find_factory(place: str, function: str) -> Callable[[], Any]:
    if not place or not function:
        raise ModelError(
            "detector.model must be a name, package.module:function or file.py:function"
        )
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(place).stem, place)
            if spec is None or spec.loader is None:
                raise ModelError(f"{place}: is not a Python file")
            python = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(python)
        else:
            python = importlib.import_module(place)
    except (ImportError, OSError, SyntaxError) as exc:
        raise ModelError(f"{place}: cannot be imported: {exc}") from exc
    factory = getattr(python, function, None)
    if not callable(factory):
        raise ModelError(f"{place}: has no function {function!r}")
    return factory  # type: ignore[no-any-return]


# ---- weights --------------------------------------------------------------------------------


def _categories(
    stored: tuple[str, ...] | None, classes: int, default: tuple[str, ...]
) -> tuple[str, ...]:
    if stored and len(stored) == classes:
        return stored
    if len(default) == classes:
        return default
    return ("__background__", *(f"class {i}" for i in range(1, classes)))


def load_state(
    module: nn.Module, state: Mapping[str, torch.Tensor], source: str, name: str
) -> None:
    expected = module.state_dict()
    missing = [k for k in expected if k not in state and not k.endswith("num_batches_tracked")]
    unknown = [k for k in state if k not in expected]
    other = [k for k in expected if k in state and expected[k].shape != state[k].shape]
    if missing or unknown or other:
        faults = []
        if other:
            want, got = tuple(expected[other[0]].shape), tuple(state[other[0]].shape)
            faults.append(
                f"{len(other)} tensors have another shape ({other[0]}: {want} needed, got {got})"
            )
        if missing:
            faults.append(f"{len(missing)} are missing ({missing[0]})")
        if unknown:
            faults.append(f"{len(unknown)} are unknown ({unknown[0]})")
        raise ModelError(f"{source}: does not fit {name}: {', '.join(faults)}")
    module.load_state_dict(state, strict=False)


def _is_finite(tensor: torch.Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
