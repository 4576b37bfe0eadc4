"""What is known of models without loading them: sizes, scores, classes, and where weights lie."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

import torch
from torchvision.models import detection, get_model_weights, list_models

from tracker.detect.models.mobile import NAME
from tracker.detect.models.weights import EMBEDDED, ModelInfo, read_info
from tracker.errors import ModelError

T = TypeVar("T")


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


def known_models() -> list[ModelCard]:
    """Describe our own model and every detection model of torchvision with published weights."""
    return [_own_card(EMBEDDED), *(card_of(name) for name in list_models(module=detection))]


def find_card(name: str) -> ModelCard:
    """Describe one model, by its builder's name, `embedded`, or a file that `tracker train` wrote.

    Raises ModelError for an unknown name, and for a file that says nothing of itself.
    """
    if name in ("embedded", NAME):
        return _own_card(EMBEDDED)
    if Path(name).suffix == ".safetensors" or Path(name).is_file():
        return _own_card(Path(name))
    check_name(name)
    return card_of(name)


def download(name: str) -> Path:
    """Fetch the default weights of a torchvision model, check their hash, and say where they lie.

    Raises ModelError.
    """
    if name in ("embedded", NAME):
        return EMBEDDED
    check_name(name)
    weights = get_model_weights(name).DEFAULT
    fetched(name, lambda: weights.get_state_dict(progress=False, check_hash=True))
    path = card_of(name).cached
    if path is None:
        raise ModelError(f"{name}: the weights vanished after the download")
    return path


def check_name(name: str) -> None:
    """Raise ModelError for a name that no builder has."""
    known = [*list_models(module=detection), NAME]
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "`tracker models` lists what is known"
        raise ModelError(f"unknown model {name!r}; {hint}")


def card_of(name: str) -> ModelCard:
    """Describe a model of torchvision's with published weights."""
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


def fetched(name: str, fetch: Callable[[], T]) -> T:
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
