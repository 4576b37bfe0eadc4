"""Every setting of a training, once: name, type, default, unit and range."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field, ValidationError, model_validator

from tracker.config import Device, Fraction01, Section, sentences
from tracker.errors import ConfigError


class TrainConfig(Section):
    """How a model is fine-tuned. Shares are shares of the whole training."""

    data: tuple[str, ...] = ()  # files and folders of labelled pictures to train on
    val: tuple[str, ...] = ()  # the same, to validate by; none = those of data, or a part of it
    pictures: str | None = None  # folder of the pictures; none = beside the labels
    categories: tuple[str, ...] = ()  # names to learn; none = all of the data
    model: str | None = None  # torchvision builder; none = what the weights file says
    weights: str = "default"  # to start from: default (COCO), embedded, a file, or none
    backbone: str | None = None  # file of ImageNet weights for the backbone alone
    min_size: Annotated[int, Field(ge=32, le=8192)] | None = None  # shorter side, px
    max_size: Annotated[int, Field(ge=32, le=8192)] | None = None  # longer side, px
    crop: Annotated[int, Field(ge=64, le=4096)] | None = None  # side of training crops; min_size
    jitter: tuple[float, float] = (0.4, 2.0)  # objects are shown so many times larger
    flip: Fraction01 = 0.5  # share of pictures that are mirrored
    color: Fraction01 = 0.5  # share whose colours are changed
    paste: Fraction01 = 0.3  # share into which objects of another picture are pasted
    distract: Fraction01 = 0.2  # share into which pieces of another's background are pasted
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 20
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 8  # pictures a step, over all processes
    accumulate: Annotated[int, Field(ge=1, le=4096)] = 1  # passes a step is made in, for memory
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: Annotated[float, Field(gt=0, le=10)] | None = None  # none = adamw 5e-4, sgd 0.02
    backbone_lr: Fraction01 = 0.3  # the backbone's learning rate, as a share of it
    weight_decay: Annotated[float, Field(ge=0, le=1)] | None = None  # none = adamw 0.05, sgd 1e-4
    clip: Annotated[float, Field(gt=0)] = 5.0  # largest norm of the gradients
    warmup: Fraction01 = 0.05  # share in which the learning rate rises; then it falls as a cosine
    frozen: Fraction01 = 0.3  # share of the backbone's layers, from below, that stay as they are
    unfreeze: Fraction01 = 0.1  # share in which the others join, from above
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.998  # decay of the averaged weights a step
    balance: Fraction01 = 0.1  # pictures of a category in fewer than this share come more often
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.15  # held back where no validation is given
    patience: Annotated[int, Field(ge=0)] = 10  # epochs without a gain until it stops; 0 = never
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of the passes; weights: float32
    device: Device = "auto"
    processes: Annotated[int, Field(ge=1, le=1024)] = 1  # on one machine: GPUs, or CPU processes
    workers: Annotated[int, Field(ge=0, le=256)] | None = None  # that load pictures; none = auto
    threads: Annotated[int, Field(ge=0, le=1024)] = 0  # CPU threads a process; 0 = auto
    checkpoint_s: Annotated[float, Field(ge=0)] = 60.0  # a killed training loses no more than this
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        low, high = self.jitter
        if not 0 < low <= high <= 100:
            raise ValueError(f"jitter must be two ascending factors, got {self.jitter}")
        if self.batch_size % (self.accumulate * self.processes):
            raise ValueError(
                f"batch_size ({self.batch_size}) must be a multiple of accumulate x processes "
                f"({self.accumulate} x {self.processes})"
            )
        if self.min_size and self.max_size and self.min_size > self.max_size:
            raise ValueError(
                f"min_size ({self.min_size}) must not exceed max_size ({self.max_size})"
            )
        return self

    @property
    def learning_rate(self) -> float:
        """The highest learning rate."""
        return self.lr or {"adamw": 5e-4, "sgd": 0.02}[self.optimizer]

    @property
    def decay(self) -> float:
        """The weight decay."""
        given = self.weight_decay
        return {"adamw": 0.05, "sgd": 1e-4}[self.optimizer] if given is None else given

    def to_toml(self) -> str:
        """Return the settings as a file that `read` takes."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def build(values: dict[str, Any], where: str = "settings") -> TrainConfig:
    """Check plain values and return the settings; raise ConfigError that names each fault."""
    try:
        return TrainConfig.model_validate(values, strict=False)
    except ValidationError as exc:
        raise ConfigError(f"{where}: {'; '.join(sentences(exc, TrainConfig))}") from exc


def read(path: Path) -> TrainConfig:
    """Read settings from a TOML file; raise ConfigError."""
    try:
        return build(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ConfigError(f"{path}: is not valid TOML: {exc}") from exc
