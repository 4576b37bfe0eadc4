"""The folder of a training: settings, losses, epochs, the best model and the checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tracker.config import TrackerConfig
from tracker.detect.models.weights import describe, save_model
from tracker.errors import ConfigError, SinkError
from tracker.files import JsonObject, new_file
from tracker.train.build import StartedModel
from tracker.train.score import Scores

SETTINGS, STEPS, EPOCHS = "train.toml", "steps.jsonl", "epochs.jsonl"
BEST, CHECKPOINT = "best.safetensors", "last.pt"
CURVES, SHEET = "curves.png", "predictions.png"
_CLASSIFIER = "roi_heads.box_predictor.cls_score.bias"
_LEAST_SCORE = 0.01  # thresholds nearer to 0 or 1 are luck
FILES = (SETTINGS, STEPS, EPOCHS, BEST, CHECKPOINT, CURVES, SHEET)


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch came to."""

    number: int  # from 1
    step: int  # steps done
    losses: Mapping[str, float]  # part by part, averaged over the epoch
    scores: Scores
    lr: float
    best: bool  # whether the model of this epoch was kept
    val_s: float  # of the validation

    def to_json(self) -> JsonObject:
        """Return plain values; all digits, so that nothing is lost on the way back."""
        scores = self.scores
        return {
            "epoch": self.number,
            "step": self.step,
            "losses": dict(self.losses),
            "box_map": scores.box,
            "mask_map": scores.mask,
            "mask_map_50": scores.mask_50,
            "mask_map_75": scores.mask_75,
            "categories": dict(scores.categories),
            "thresholds": dict(scores.thresholds),
            "lr": self.lr,
            "best": self.best,
            "val_s": round(self.val_s, 3),
        }

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Epoch:
        """Return what `to_json` wrote."""
        keys = ("box_map", "mask_map", "mask_map_50", "mask_map_75", "categories", "thresholds")
        return cls(
            item["epoch"],
            item["step"],
            item["losses"],
            Scores(*(item[key] for key in keys)),
            item["lr"],
            item["best"],
            item["val_s"],
        )


class Folder:
    """Where a training writes; only its first process does."""

    def __init__(
        self, path: Path, fingerprint: str, card: Mapping[str, Any], *, writes: bool
    ) -> None:
        self.path, self.fingerprint = path, fingerprint
        self._card, self._writes = card, writes

    def write_step(self, step: int, losses: Mapping[str, float]) -> None:
        """Append the losses of one step."""
        if self._writes:
            line = {"step": step} | {name: round(value, 6) for name, value in losses.items()}
            try:
                with (self.path / STEPS).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            except OSError as exc:
                raise SinkError(f"{self.path / STEPS}: cannot be written: {exc.strerror}") from exc

    def write_epoch(self, epochs: Sequence[Epoch]) -> None:
        """Write the table of all epochs so far."""
        text = "".join(json.dumps(epoch.to_json()) + "\n" for epoch in epochs)
        self._replace(EPOCHS, text)

    def save_best(
        self, module: nn.Module, started: StartedModel, categories: tuple[str, ...], epoch: Epoch
    ) -> None:
        """Write the model with its card, and scores that mean what the tracker takes them for."""
        card = {
            **self._card,
            "started_from": started.start,
            "epoch": epoch.number,
            "steps": epoch.step,
            "validation": epoch.scores.to_json(),
            "scores": "shifted so that these thresholds are the tracker's confident score",
        }
        info = describe(module, started.architecture, categories, card)
        state = calibrated(module.state_dict(), categories, epoch.scores.thresholds)
        save_model(self.path / BEST, state, info)

    def save_checkpoint(self, content: Mapping[str, Any]) -> None:
        """Write the checkpoint; the old one stays until the new one is on the disk."""
        with new_file(self.path / CHECKPOINT, "wb", durable=True) as file:
            torch.save(dict(content), file)

    def load_checkpoint(self) -> JsonObject:
        """Read the checkpoint; raise ConfigError where there is none."""
        path = self.path / CHECKPOINT
        if not path.is_file():
            raise ConfigError(f"{self.path}: holds no {CHECKPOINT} to resume from")
        try:
            content: JsonObject = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as exc:
            raise ConfigError(f"{path}: is damaged; start anew with --force") from exc
        return content

    def rewind(self, step: int, epochs: Sequence[Epoch]) -> None:
        """Take back what was written after the checkpoint."""
        if not self._writes:
            return
        path = self.path / STEPS
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self._replace(STEPS, "".join(line + "\n" for line in lines[:step]))
        self.write_epoch(epochs)

    def _replace(self, name: str, text: str) -> None:
        with new_file(self.path / name) as file:
            file.write(text)


def calibrated(
    state: Mapping[str, Tensor], categories: Sequence[str], thresholds: Mapping[str, float]
) -> dict[str, Tensor]:
    """Shift each category's logit so that its threshold becomes the tracker's confident score.

    Trained on few pictures a model is far too sure of itself, and how much so differs. Within a
    category the order of the detections stays, and so, but for what is of two at once, the mAP.
    """
    shifted = dict(state)
    if _CLASSIFIER in shifted:
        wanted = _logit(TrackerConfig().confident_score)
        shift = [wanted - _logit(thresholds[n]) if n in thresholds else 0.0 for n in categories]
        shifted[_CLASSIFIER] = shifted[_CLASSIFIER] + shifted[_CLASSIFIER].new_tensor(shift)
    return shifted


def _logit(score: float) -> float:
    score = min(max(score, _LEAST_SCORE), 1 - _LEAST_SCORE)
    return math.log(score / (1 - score))
