"""The training: steps, validation, the best model kept, and an exact way back after a kill."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricOptimizer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from tracker.detect.hardware import available_cores, find_device
from tracker.errors import ConfigError, ModelError
from tracker.train.augment import TrainingCrops
from tracker.train.build import StartedModel, keep_coordinates_exact
from tracker.train.records import Epoch, Folder
from tracker.train.samples import Dataset
from tracker.train.schedule import Schedule, mix
from tracker.train.settings import TrainConfig
from tracker.train.validate import validate
from tracker.types import Detections

_VERSION = 2
Losses = dict[str, float]


@dataclass(slots=True)
class Progress:
    """Where a training is: all that a resumed one must know beside the tensors."""

    step: int = 0  # steps done
    losses: list[Losses] = field(default_factory=list)  # of the steps of the current epoch
    epochs: list[Epoch] = field(default_factory=list)
    seconds: float = 0.0  # of training and validation, over all sittings

    @property
    def best(self) -> Epoch | None:
        """The first epoch of the highest mask mAP."""
        return max(self.epochs, key=lambda epoch: epoch.scores.mask, default=None)


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a caller may watch, and how it stops a training between two steps."""

    on_step: Callable[[int, int, Losses], None] = lambda *_: None
    on_epoch: Callable[[Epoch], None] = lambda *_: None
    on_sheet: Callable[[Dataset, Mapping[int, Detections]], None] = lambda *_: None
    should_stop: Callable[[], bool] = lambda: False


def start_fabric(config: TrainConfig) -> Fabric:
    """Take the device and start the other processes; what follows runs in each of them."""
    device = find_device(config.device)
    threads = config.threads or max(1, available_cores() // config.processes)
    torch.set_num_threads(threads)
    if device.type == "cpu" and config.processes > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if device.type == "cuda" and config.processes > torch.cuda.device_count():
        raise ConfigError(
            f"processes ({config.processes}) exceeds the GPUs here ({torch.cuda.device_count()})"
        )
    devices: Any = config.processes
    if device.type == "cuda" and device.index is not None and config.processes == 1:
        devices = [device.index]
    fabric = Fabric(
        accelerator=device.type,
        devices=devices,
        strategy="ddp" if config.processes > 1 else "auto",
        precision="32-true",  # its mixed precision rounds the boxes it is given
    )
    fabric.launch()
    return fabric


class Trainer:
    """One training of a model on one data set, in one of its processes.

    Every random draw is a function of the seed and the step, so that a resumed training goes on
    exactly as the uninterrupted one would have.
    """

    def __init__(
        self,
        fabric: Fabric,
        config: TrainConfig,
        started: StartedModel,
        data: tuple[Dataset, Dataset],
        folder: Folder,
    ) -> None:
        self.config, self.started, self.folder = config, started, folder
        self._fabric = fabric
        self._train, self._val = data
        self._schedule = Schedule(self._train.samples, config, len(started.stages))
        self.progress = Progress()
        module = cast(GeneralizedRCNN, started.module.to(fabric.device))
        self._raw = module.to(memory_format=torch.channels_last)  # a sixth faster on a CPU
        self._sizes = (int(self._raw.transform.min_size[-1]), int(self._raw.transform.max_size))
        self._side = config.crop or self._sizes[0]
        self._ema = {k: v.detach().clone() for k, v in self._raw.state_dict().items()}
        self._mixed = config.precision == "bfloat16" or (
            config.precision == "auto"
            and fabric.device.type == "cuda"
            and torch.cuda.is_bf16_supported(including_emulation=False)
        )
        if self._mixed:
            keep_coordinates_exact(self._raw)
        self._unfrozen = -1
        self._model: Any = None
        self._optimizer = cast(_FabricOptimizer, fabric.setup_optimizers(self._make_optimizer()))
        self._saved_at = time.monotonic()

    @property
    def steps(self) -> int:
        """The number of steps of the whole training."""
        return self._schedule.steps

    # ---- the loop ---------------------------------------------------------------------------

    def run(self, hooks: Hooks) -> bool:
        """Train to the end, or to an early stop; False where `should_stop` ended it before.

        Raises ModelError where the losses are no longer finite.
        """
        schedule, progress = self._schedule, self.progress
        began = time.monotonic() - progress.seconds
        if len(progress.epochs) * schedule.steps_per_epoch < progress.step - (
            progress.step % schedule.steps_per_epoch
        ):  # it was stopped between an epoch's last step and its validation
            self._validate(len(progress.epochs), hooks)
        while progress.step < schedule.steps and not self._is_stale():
            epoch = progress.step // schedule.steps_per_epoch
            passes = self._load_epoch(epoch)
            while progress.step < (epoch + 1) * schedule.steps_per_epoch:
                losses = self._step(passes)
                progress.step += 1
                progress.losses.append(losses)
                hooks.on_step(progress.step, schedule.steps, losses)
                self.folder.write_step(progress.step, losses)
                progress.seconds = time.monotonic() - began
                if self._agree(hooks.should_stop()):
                    self.save()
                    return False
                if self._agree(time.monotonic() - self._saved_at > self.config.checkpoint_s):
                    self.save()
            self._validate(epoch, hooks)
            progress.seconds = time.monotonic() - began
        return True

    def _step(self, passes: Iterator[list[tuple[Tensor, dict[str, Tensor]]]]) -> Losses:
        """Make one step; return the losses part by part, averaged over its passes."""
        config, fabric, step = self.config, self._fabric, self.progress.step
        self._unfreeze(step)
        self._set_modes()
        rate = self._schedule.rate(step)
        for group in self._optimizer.param_groups:
            group["lr"] = group["highest_lr"] * rate
        sums: dict[str, Tensor] = {}
        for number in range(config.accumulate):
            crops = next(passes)
            torch.manual_seed(mix(config.seed, 1, step, number, fabric.global_rank) % 2**63)
            images = [image.to(fabric.device) for image, _ in crops]
            targets = [{k: v.to(fabric.device) for k, v in one.items()} for _, one in crops]
            with fabric.no_backward_sync(
                self._model, enabled=number + 1 < config.accumulate and config.processes > 1
            ):
                with torch.autocast(fabric.device.type, torch.bfloat16, enabled=self._mixed):
                    losses = self._model(images, targets)
                fabric.backward(sum(losses.values()) / config.accumulate)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach().float() / config.accumulate
        table = torch.stack(list(sums.values()))
        if config.processes > 1:
            table = cast(Tensor, fabric.all_reduce(table, reduce_op="mean"))
        if not bool(torch.isfinite(table).all()):
            raise ModelError(
                f"the losses are not finite at step {step + 1}; take a lower learning rate (--lr)"
            )
        fabric.clip_gradients(
            self._model, self._optimizer, max_norm=config.clip, error_if_nonfinite=False
        )
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._average(step)
        return dict(zip(sums, table.tolist(), strict=True))

    def _load_epoch(self, epoch: int) -> Iterator[list[tuple[Tensor, dict[str, Tensor]]]]:
        first = self.progress.step - epoch * self._schedule.steps_per_epoch
        batches = list(self._schedule.batches(epoch, first, self._fabric.global_rank))
        cores = max(1, available_cores() // self.config.processes)
        automatic = 0 if self._fabric.device.type == "cpu" else min(8, cores)
        loader = DataLoader(
            TrainingCrops(self._train.samples, self.config, self._sizes, self._side),
            batch_sampler=cast(Any, batches),
            num_workers=automatic if self.config.workers is None else self.config.workers,
            collate_fn=list,
        )
        return iter(cast(Any, loader))

    def _average(self, step: int) -> None:
        """Follow the weights with their moving average; early steps count less (as timm does)."""
        decay = min(self.config.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in self._raw.state_dict().items():
                if value.is_floating_point():
                    self._ema[name].lerp_(value, 1 - decay)
                else:
                    self._ema[name].copy_(value)

    # ---- what is trained --------------------------------------------------------------------

    def _unfreeze(self, step: int) -> None:
        """Let the backbone's stages join; the model is wrapped again, for gradients are synced."""
        count = self._schedule.unfrozen(step)
        if count == self._unfrozen and self._model is not None:
            return
        self._unfrozen = count
        for number, stage in enumerate(self.started.stages):
            for layer in stage:
                layer.requires_grad_(number < count)
        transform: Any = self._raw.transform
        transform.min_size, transform.max_size = (self._side,), self._side
        self._model = self._fabric.setup_module(self._raw, move_to_device=False)

    def _set_modes(self) -> None:
        """Set training mode, but for batch norms that keep the statistics they came with."""
        self._model.train()
        for norm in self.started.norms:
            norm.eval()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        config = self.config
        backbone = {id(p) for stage in self.started.stages for m in stage for p in m.parameters()}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for parameter in self._raw.parameters():
            if parameter.requires_grad:
                key = (id(parameter) in backbone, parameter.ndim > 1)
                groups.setdefault(key, []).append(parameter)
        settings = [
            {
                "params": parameters,
                "highest_lr": config.learning_rate * (config.backbone_lr if inner else 1.0),
                "weight_decay": config.decay if decays else 0.0,
            }
            for (inner, decays), parameters in groups.items()
        ]
        if config.optimizer == "sgd":
            return torch.optim.SGD(settings, lr=config.learning_rate, momentum=0.9)
        return torch.optim.AdamW(settings, lr=config.learning_rate)

    # ---- validation -------------------------------------------------------------------------

    def _validate(self, epoch: int, hooks: Hooks) -> None:
        """Measure the model of the averaged weights; keep it where it is the best so far."""
        progress, fabric = self.progress, self._fabric
        began = time.monotonic()
        if fabric.world_size > 1:  # each process has statistics of its own pictures
            for name, _ in self._raw.named_buffers():
                self._ema[name] = cast(Tensor, fabric.broadcast(self._ema[name]))
        module = self._averaged()
        scores, found = validate(fabric, module, self.started.architecture, self._val)
        names = progress.losses[0] if progress.losses else {}
        mean = {n: sum(step[n] for step in progress.losses) / len(progress.losses) for n in names}
        rate = self._schedule.rate(progress.step - 1) * self.config.learning_rate
        better = progress.best is None or scores.mask > progress.best.scores.mask
        done = Epoch(epoch + 1, progress.step, mean, scores, rate, better, time.monotonic() - began)
        progress.epochs.append(done)
        progress.losses = []
        if fabric.is_global_zero:
            self.folder.write_epoch(progress.epochs)
            if better:
                self.folder.save_best(module, self.started, self._train.categories, done)
        self.save()
        if fabric.is_global_zero:
            hooks.on_sheet(self._val, found)
        hooks.on_epoch(done)
        fabric.barrier()

    def _averaged(self) -> GeneralizedRCNN:
        """Return a copy of the model with the averaged weights, ready to be run."""
        module = copy.deepcopy(self._raw)
        module.load_state_dict(self._ema)
        transform: Any = module.transform
        transform.min_size, transform.max_size = (self._sizes[0],), self._sizes[1]
        return module.eval().requires_grad_(False)

    def _is_stale(self) -> bool:
        patience, best = self.config.patience, self.progress.best
        if not patience or best is None:
            return False
        return len(self.progress.epochs) - best.number >= patience

    # ---- the way back -----------------------------------------------------------------------

    def save(self) -> None:
        """Write the checkpoint; the old one is there until the new one is whole."""
        self._saved_at = time.monotonic()
        if self._fabric.is_global_zero:
            progress = self.progress
            self.folder.save_checkpoint(
                {
                    "version": _VERSION,
                    "data": self.folder.fingerprint,
                    "model": self._raw.state_dict(),
                    "ema": self._ema,
                    "optimizer": self._optimizer.state_dict(),
                    "step": progress.step,
                    "losses": progress.losses,
                    "epochs": [epoch.to_json() for epoch in progress.epochs],
                    "seconds": progress.seconds,
                }
            )
        self._fabric.barrier()

    def restore(self) -> None:
        """Go on where the checkpoint is; raise ConfigError where the data are others."""
        content = self.folder.load_checkpoint()
        if content.get("version") != _VERSION or content.get("data") != self.folder.fingerprint:
            raise ConfigError(
                f"{self.folder.path}: was trained on other data or by another version; "
                "start anew with another --output, or --force"
            )
        self._raw.load_state_dict(content["model"])
        self._ema = {k: v.to(self._fabric.device) for k, v in content["ema"].items()}
        self._optimizer.load_state_dict(content["optimizer"])
        self.progress = Progress(
            step=content["step"],
            losses=content["losses"],
            epochs=[Epoch.from_json(item) for item in content["epochs"]],
            seconds=content["seconds"],
        )
        self.folder.rewind(self.progress.step, self.progress.epochs)

    def _agree(self, wish: bool) -> bool:
        """Return whether any process wishes it: all must leave the loop at the same step."""
        if self._fabric.world_size == 1:
            return wish
        votes = torch.tensor(float(wish), device=self._fabric.device)
        return bool(cast(Tensor, self._fabric.all_reduce(votes, reduce_op="sum")) > 0)
