"""Build a detection model by name, with its weights and the names of its classes."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import nn
from torchvision.models import detection, get_model_builder, get_model_weights, list_models
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from tracker.config import DetectorConfig
from tracker.errors import ConfigError, ModelError

T = TypeVar("T")
_CLASSIFIER = "roi_heads.box_predictor.cls_score.weight"


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model ready to be run."""

    module: nn.Module
    categories: tuple[str, ...]  # name of each label
    name: str
    weights: str  # where they came from
    sha256: str | None  # of the weights' file; None where a factory brings its own


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known about one of torchvision's models without loading it."""

    name: str
    weights: str  # name of the default weights
    url: str
    megabytes: float
    box_map: float | None  # COCO val2017 box mAP, per cent
    categories: tuple[str, ...]
    has_masks: bool
    cached: Path | None  # where the weights lie if they are here


def load_model(config: DetectorConfig) -> LoadedModel:
    """Build `config.model` with `config.weights` and its limits, in evaluation mode on the CPU.

    Raises ModelError for an unknown name, a factory that fails, weights that cannot be had, do
    not fit, hold code, or are not finite; ConfigError for a size where the model's is fixed.
    """
    loaded = _from_factory(config) if ":" in config.model else _from_torchvision(config)
    broken = [n for n, p in loaded.module.state_dict().items() if not _is_finite(p)]
    if broken:
        raise ModelError(
            f"{loaded.weights}: {len(broken)} tensors hold NaN or infinity, as {broken[0]}"
        )
    _set_limits(loaded.module, config)
    return LoadedModel(
        loaded.module.eval().requires_grad_(False),
        loaded.categories,
        loaded.name,
        loaded.weights,
        loaded.sha256,
    )


def _set_limits(module: nn.Module, config: DetectorConfig) -> None:
    """Set sizes, thresholds and numbers where the settings name them."""
    transform: Any = getattr(module, "transform", None)
    if config.min_size or config.max_size:
        if transform is None or getattr(transform, "fixed_size", None):
            raise ConfigError(f"{config.model}: has a fixed size; leave out min_size and max_size")
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
            hint = f"did you mean {near[0]!r}?" if near else "`tracker models NAME` lists them"
            raise ConfigError(f"{name!r} is none of the model's classes; {hint}")
        labels.append(list(categories).index(name))
    return torch.tensor(labels)


def known_models() -> list[ModelCard]:
    """Describe every detection model of torchvision that has published weights."""
    return [_card(name) for name in list_models(module=detection)]


def find_card(name: str) -> ModelCard:
    """Describe one model; raise ModelError for an unknown name."""
    _check_name(name)
    return _card(name)


def download(name: str) -> Path:
    """Fetch the default weights of a torchvision model, check their hash, and say where they lie.

    Raises ModelError.
    """
    _check_name(name)
    weights = get_model_weights(name).DEFAULT
    _fetched(name, lambda: weights.get_state_dict(progress=False, check_hash=True))
    path = _card(name).cached
    if path is None:
        raise ModelError(f"{name}: the weights vanished after the download")
    return path


# ---- torchvision's builders -----------------------------------------------------------------


def _from_torchvision(config: DetectorConfig) -> LoadedModel:
    name = config.model
    _check_name(name)
    build: Callable[..., nn.Module] = get_model_builder(name)
    if config.weights == "default":
        # By the builder itself: with its own weights it also sets their batch norms' epsilon.
        module = _fetched(name, lambda: build(weights=get_model_weights(name).DEFAULT))
        card = _card(name)
        digest = _sha256(card.cached) if card.cached else None
        return LoadedModel(module, card.categories, name, card.weights, digest)
    path, default = Path(config.weights), _card(name).categories
    state, stored = read_weights(path)
    classes = len(state[_CLASSIFIER]) if _CLASSIFIER in state else len(default)
    categories = _categories(stored, classes, default)
    module = build(weights=None, weights_backbone=None, num_classes=len(categories))
    _load_state(module, state, str(path), name)
    return LoadedModel(module, categories, name, str(path), _sha256(path))


def _check_name(name: str) -> None:
    known = list_models(module=detection)
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
            f"the weights of {name} cannot be had ({why}); fetch {weights.url} where there is a "
            "network and give the file with --weights"
        ) from exc


# ---- factories of the user ------------------------------------------------------------------


def _from_factory(config: DetectorConfig) -> LoadedModel:
    place, _, function = config.model.rpartition(":")
    factory = _find_factory(place, function)
    try:
        module = factory()
    except Exception as exc:
        raise ModelError(
            f"{config.model}: the factory failed: {type(exc).__name__}: {exc}"
        ) from exc
    if not isinstance(module, nn.Module):
        raise ModelError(f"{config.model}: must return a torch module, got {type(module).__name__}")
    own = getattr(module, "categories", None)
    if config.weights == "default":
        stored, source, digest = None, config.model, None
    else:
        path = Path(config.weights)
        state, stored = read_weights(path)
        _load_state(module, state, str(path), config.model)
        source, digest = str(path), _sha256(path)
    categories = stored or own
    if not categories:
        raise ModelError(f"{config.model}: the model must have a `categories` list of class names")
    return LoadedModel(module, tuple(map(str, categories)), config.model, source, digest)


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


def read_weights(path: Path) -> tuple[Mapping[str, torch.Tensor], tuple[str, ...] | None]:
    """Read tensors and, if stored, class names of a .safetensors or .pth file; run no code of it.

    Raises ModelError.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
            stored = json.loads(metadata["categories"]) if "categories" in metadata else None
            return safetensors.torch.load_file(path), tuple(stored) if stored else None
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        raise ModelError(
            f"{path}: refused: the file is damaged or holds code, not only tensors"
        ) from exc
    except Exception as exc:
        why = str(exc).partition("\n")[0]
        raise ModelError(f"{path}: is not a file of weights ({why})") from exc
    stored = content.get("categories") if isinstance(content, dict) else None
    for key in ("model", "state_dict", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ModelError(f"{path}: must hold a dictionary of tensors")
    tensors = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise ModelError(f"{path}: holds no tensors")
    return tensors, tuple(map(str, stored)) if stored else None


def _categories(
    stored: tuple[str, ...] | None, classes: int, default: tuple[str, ...]
) -> tuple[str, ...]:
    if stored and len(stored) == classes:
        return stored
    if len(default) == classes:
        return default
    return ("__background__", *(f"class {i}" for i in range(1, classes)))


def _load_state(
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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
