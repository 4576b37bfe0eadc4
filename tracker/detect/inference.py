"""Run a detection model on batches of frames and return cropped, checked detections."""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import groupby
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.transform import resize_boxes

from tracker.config import DetectorConfig
from tracker.detect.maskrcnn import LoadedModel, load_model
from tracker.detect.paste import THRESHOLD, paste_masks
from tracker.errors import ConfigError, ModelError
from tracker.masks import Mask
from tracker.types import Detections, Frame, Image

_SELF_TEST_SIDE = 128  # px: small, since it only shows whether the model is sound
Output = dict[str, torch.Tensor]


class MaskRCNNDetector:
    """Find instances with Mask R-CNN, or with any detection model of torchvision's form.

    Raises ModelError where the model cannot be built, does not fit the device, or answers its
    self-test picture with anything but finite boxes; ConfigError for an unknown class name.
    """

    def __init__(self, config: DetectorConfig | None = None, *, embeddings: bool = False) -> None:
        self.config = config or DetectorConfig()
        self.embeddings = embeddings  # whether instances are given their looks
        self.device = _device(self.config.device)
        self.threads = self.config.threads or available_cores()
        torch.set_num_threads(self.threads)
        self.model: LoadedModel = load_model(self.config)
        self.categories = self.model.categories
        self.precision = _precision(self.config.precision)
        self.batch_size = self.config.batch_size or (1 if self.device.type == "cpu" else 8)
        self._kept = _kept_labels(self.config.classes, self.categories)
        self._module = self.model.module
        self._prepare(self._module)
        self._test_itself()

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return one Detections per frame, by descending score; raise ModelError if not finite.

        Frames of one size go through the model together; a change of size starts a new batch, so
        that padding never depends on the neighbours.
        """
        results: list[Detections] = []
        for _, group in groupby(frames, key=lambda frame: frame.image.shape):
            images = [frame.image for frame in group]
            results += self._detect_images(images)
        return results

    # ---- one batch --------------------------------------------------------------------------

    def _detect_images(self, images: Sequence[Image]) -> list[Detections]:
        height, width = images[0].shape[:2]
        with torch.inference_mode():
            inputs = [self._to_input(image) for image in images]
            if isinstance(self._module, GeneralizedRCNN):
                outputs = self._run_rcnn(self._module, inputs)
            else:
                outputs = self._module(inputs)
            return [self._to_detections(output, width, height) for output in outputs]

    def _to_input(self, image: Image) -> torch.Tensor:
        pixels = torch.from_numpy(image) if image.flags.writeable else torch.tensor(image)
        pixels = pixels.to(self.device, non_blocking=True)  # as uint8: a quarter of the bytes
        return pixels.permute(2, 0, 1).to(torch.float32) / 255

    def _run_rcnn(self, module: GeneralizedRCNN, inputs: list[torch.Tensor]) -> list[Output]:
        """Do what GeneralizedRCNN.forward does, but leave the masks as small maps."""
        sizes = [(int(x.shape[-2]), int(x.shape[-1])) for x in inputs]
        images, _ = module.transform(inputs)
        pixels = images.tensors.to(self.precision).contiguous(memory_format=torch.channels_last)
        features: Any = module.backbone(pixels)
        if isinstance(features, torch.Tensor):
            features = {"0": features}
        # RoIAlign is slower on channels-last features than the copy costs.
        features = {k: v.to(torch.float32).contiguous() for k, v in features.items()}
        for feature in features.values():
            if not torch.isfinite(feature.sum()):
                raise ModelError(f"{self.model.name}: the features of a picture are not finite")
        proposals, _ = module.rpn(images, features, None)
        outputs = self._run_heads(module, features, proposals, images.image_sizes)
        for output, resized, size in zip(outputs, images.image_sizes, sizes, strict=True):
            output["boxes"] = resize_boxes(output["boxes"], resized, size)
        return outputs

    def _run_heads(
        self, module: GeneralizedRCNN, features: Any, proposals: Any, sizes: Any
    ) -> list[Output]:
        """Run box and mask heads; with `embeddings`, note what the mask head pools on the way."""
        pool = getattr(module.roi_heads, "mask_roi_pool", None)
        if not self.embeddings or not isinstance(pool, nn.Module):
            return cast(list[Output], module.roi_heads(features, proposals, sizes, None)[0])
        pooled: list[torch.Tensor] = []
        hook = pool.register_forward_hook(lambda _module, _inputs, out: pooled.append(out))
        try:
            outputs = cast(list[Output], module.roi_heads(features, proposals, sizes, None)[0])
        finally:
            hook.remove()
        if pooled:
            self._add_embeddings(outputs, pooled[-1])
        return outputs

    def _add_embeddings(self, outputs: list[Output], pooled: torch.Tensor) -> None:
        """Give each instance the mean of the features that its mask was made of.

        Only the pixels of the mask count, so that neighbours and background do not.
        """
        counts = [len(output["boxes"]) for output in outputs]
        if len(pooled) != sum(counts) or not all("masks" in o for o in outputs):
            return
        for output, features in zip(outputs, torch.split(pooled, counts), strict=True):
            size = (int(features.shape[-2]), int(features.shape[-1]))
            weights = nn.functional.adaptive_avg_pool2d(output["masks"], size)
            total = weights.sum(dim=(2, 3)).clamp(min=1e-6)
            output["embeddings"] = (features * weights).sum(dim=(2, 3)) / total

    def _to_detections(self, output: Output, width: int, height: int) -> Detections:
        try:  # all comes to the CPU here, once: masks are pasted there
            boxes, scores, labels = (output[key].cpu() for key in ("boxes", "scores", "labels"))
        except (KeyError, TypeError) as exc:
            raise ModelError(
                f"{self.model.name}: must return dictionaries with boxes, scores and labels"
            ) from exc
        if not (torch.isfinite(boxes).all() and torch.isfinite(scores).all()):
            raise ModelError(f"{self.model.name}: boxes or scores are not finite")
        keep = scores >= self.config.score_threshold
        if self._kept is not None:
            keep &= torch.isin(labels, self._kept)
        order = torch.argsort(scores[keep], descending=True, stable=True)
        rows = torch.nonzero(keep).flatten()[order]
        if self.config.max_detections:
            rows = rows[: self.config.max_detections]
        embeddings = np.zeros((len(rows), 0), np.float32)
        if self.embeddings and "embeddings" in output:
            embeddings = output["embeddings"].cpu()[rows].to(torch.float32).numpy()
            if not np.isfinite(embeddings).all():
                raise ModelError(f"{self.model.name}: embeddings are not finite")
        boxes, scores, labels = boxes[rows], scores[rows], labels[rows]
        if len(labels) and int(labels.max()) >= len(self.categories):
            raise ModelError(
                f"{self.model.name}: label {int(labels.max())} is beyond its "
                f"{len(self.categories)} categories"
            )
        return Detections(
            boxes=boxes.to(torch.float32).numpy(),
            scores=scores.to(torch.float32).clamp(0, 1).numpy(),
            labels=labels.to(torch.int64).numpy(),
            masks=self._to_masks(output, rows, boxes, width, height),
            embeddings=embeddings,
        )

    def _to_masks(
        self, output: Output, rows: torch.Tensor, boxes: torch.Tensor, width: int, height: int
    ) -> tuple[Mask | None, ...]:
        maps = output.get("masks")
        if maps is None:
            return (None,) * len(rows)
        maps = maps.cpu()[rows][:, 0]
        if not torch.isfinite(maps).all():
            raise ModelError(f"{self.model.name}: masks are not finite")
        if isinstance(self._module, GeneralizedRCNN):
            return tuple(paste_masks(maps, boxes, width, height))
        return tuple(Mask(0, 0, m.numpy()).tight() for m in maps >= THRESHOLD)

    # ---- set-up -----------------------------------------------------------------------------

    def _prepare(self, module: nn.Module) -> None:
        config = self.config
        try:
            module.to(self.device)
        except (RuntimeError, AssertionError) as exc:
            why = str(exc).partition("\n")[0]
            raise ModelError(f"{config.model} does not fit on {self.device}: {why}") from exc
        transform = getattr(module, "transform", None)
        if config.min_size or config.max_size:
            if transform is None or getattr(transform, "fixed_size", None):
                raise ConfigError(
                    f"{config.model}: has a fixed size; leave out min_size and max_size"
                )
            transform.min_size = (config.min_size,) if config.min_size else transform.min_size
            transform.max_size = config.max_size or transform.max_size
        if not isinstance(module, GeneralizedRCNN):
            return
        backbone: nn.Module = module.backbone
        backbone.to(self.precision).to(memory_format=torch.channels_last)
        if hasattr(module.roi_heads, "score_thresh"):
            module.roi_heads.score_thresh = config.score_threshold
        if config.max_detections and hasattr(module.roi_heads, "detections_per_img"):
            module.roi_heads.detections_per_img = config.max_detections

    def _test_itself(self) -> None:
        """Run a picture of noise, so that a broken model is found before the video is opened."""
        picture = np.random.default_rng(0).integers(
            0, 256, (_SELF_TEST_SIDE, _SELF_TEST_SIDE, 3), np.uint8
        )
        transform = getattr(self._module, "transform", None)
        sizes = (transform.min_size, transform.max_size) if transform is not None else None
        if transform is not None:
            transform.min_size, transform.max_size = (_SELF_TEST_SIDE,), _SELF_TEST_SIDE
        try:
            self._detect_images([picture])
        except ModelError:
            raise
        except Exception as exc:
            why = f"{type(exc).__name__}: {exc}".partition("\n")[0]
            raise ModelError(f"{self.model.name}: fails on a test picture: {why}") from exc
        finally:
            if transform is not None and sizes is not None:
                transform.min_size, transform.max_size = sizes


def available_cores() -> int:
    """Count the cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as exc:
        raise ConfigError(
            f"detector.device must be auto, cpu, cuda or cuda:1, got {name!r}"
        ) from exc
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"detector.device is {name!r}, but no CUDA device is to be found")
    return device


def _precision(name: str) -> torch.dtype:
    return cast(torch.dtype, getattr(torch, "float32" if name == "auto" else name))


def _kept_labels(classes: Sequence[str], categories: Sequence[str]) -> torch.Tensor | None:
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
