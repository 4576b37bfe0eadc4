"""Lay pictures out for a model: resized, normalised and padded, in memory that is kept for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torchvision.models.detection.image_list import ImageList


class Canvas:
    """What depends only on the size of the pictures, made once: padded space and anchors.

    `source` and `resized` are (height, width) before and after GeneralizedRCNNTransform's
    resizing; `pixels` is (N, 3, H, W) float32, zeros beyond the pictures.
    """

    def __init__(
        self,
        transform: Any,
        source: tuple[int, int],
        count: int,
        device: torch.device,
    ) -> None:
        self.source = source
        self.resized, padded = _resized_and_padded(transform, source)
        self.pixels = torch.zeros((count, 3, *padded), device=device).contiguous(
            memory_format=torch.channels_last
        )
        mean, std = statistics(transform, device)
        self._scale, self._shift = 1 / (255 * std), -mean / std
        self._anchors: torch.Tensor | None = None

    def lay(self, pictures: torch.Tensor) -> None:
        """Take (N, H, W, 3) uint8 pictures; equals the transform's arithmetic but for rounding."""
        height, width = self.resized
        pixels = pictures.permute(0, 3, 1, 2).to(torch.float32)
        if self.resized != self.source:
            pixels = F.interpolate(pixels, size=self.resized, mode="bilinear", align_corners=False)
        pixels = torch.addcmul(self._shift, pixels, self._scale)
        taken = self.pixels[: len(pictures)]
        taken[..., :height, :width] = pixels
        taken[..., height:, :] = 0  # a backbone that works in place leaves something there
        taken[..., width:] = 0

    def anchors(self, generator: Any, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the (A, 4) anchors of all levels, made at the first call."""
        if self._anchors is None:
            images = ImageList(self.pixels[:1], [self.resized])
            levels = [feature[:1].to(torch.float32) for feature in features]
            self._anchors = generator(images, levels)[0]
        return self._anchors


def _resized_and_padded(
    transform: Any, source: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the (height, width) after resizing and after padding, as the transform has them."""
    if transform.fixed_size is not None:
        width, height = transform.fixed_size
        resized = (int(height), int(width))
    else:
        scale = min(transform.min_size[-1] / min(source), transform.max_size / max(source))
        resized = (math.floor(source[0] * scale), math.floor(source[1] * scale))
    step = transform.size_divisible
    height, width = (-(-side // step) * step for side in resized)
    return resized, (height, width)


def statistics(transform: Any, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the transform's mean and standard deviation of pixels in [0, 1], each (3, 1, 1)."""
    mean, std = (
        torch.tensor(v, dtype=torch.float32, device=device).view(-1, 1, 1)
        for v in (transform.image_mean, transform.image_std)
    )
    return mean, std
