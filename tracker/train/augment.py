"""Turn a labelled picture into a training crop: scale, place, mirror, colours, pasted pieces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2

from tracker.errors import FormatError
from tracker.masks import Mask
from tracker.train.samples import Instance, Sample, read_picture
from tracker.train.settings import TrainConfig
from tracker.types import Image

_GREY = 114  # of what lies outside a picture, and of crowds: about ImageNet's mean
_FOCUS = 0.7  # share of crops placed on an object, of a random category
_LEAST_AREA = 16  # px in the crop: smaller objects are no examples
_LEAST_SHARE = 0.2  # of an object that must be in the crop, or left by what is pasted over it
_PASTED = 0.5  # chance of each object of the other picture
_PIECES = 5  # of background that are pasted at most
_LARGEST_PIECE, _LEAST_PIECE = 0.5, 0.1  # heights: of the crop, and of the largest
_LARGEST_SCALE = 8.0  # a picture is never blown up more


@dataclass(frozen=True, slots=True)
class _Crop:
    """A square training picture: (3, S, S) uint8, with (N,) labels and (N, S, S) masks."""

    image: Tensor
    labels: Tensor
    masks: Tensor


class TrainingCrops(TorchDataset[tuple[Tensor, dict[str, Tensor]]]):
    """Training crops of samples; an item is (sample's number, seed) and depends on nothing else.

    Gives (3, S, S) float32 in [0, 1], and boxes, labels and masks as torchvision takes them.
    Crowds are painted grey: what lies there is neither right nor wrong.
    """

    def __init__(
        self, samples: Sequence[Sample], config: TrainConfig, sizes: tuple[int, int], side: int
    ) -> None:
        self._samples, self._config = samples, config
        self._sizes, self._side = sizes, side
        self._colors = v2.Compose(
            [
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.04)], config.color),
                v2.RandomGrayscale(0.2 * config.color),
                v2.RandomApply([v2.GaussianBlur(5, (0.3, 1.5))], 0.2 * config.color),
            ]
        )
        self._flip = v2.RandomHorizontalFlip(config.flip)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        number, seed = item
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            crop = self._crop(self._samples[number])
            if _chance(self._config.paste):
                crop = _paste(crop, self._crop(self._samples[_below(len(self._samples))]))
            if _chance(self._config.distract):
                crop = _distract(crop, self._crop(self._samples[_below(len(self._samples))]))
            image = self._colors(crop.image)
        keep = crop.masks.flatten(1).sum(1) >= _LEAST_AREA
        masks, labels = crop.masks[keep], crop.labels[keep]
        boxes = masks_to_boxes(masks) if len(masks) else torch.zeros(0, 4)
        boxes[:, 2:] += 1  # half-open
        target = {"boxes": boxes.float(), "labels": labels, "masks": masks}
        return torch.as_tensor(image).float() / 255, target

    # ---- one picture ------------------------------------------------------------------------

    def _crop(self, sample: Sample) -> _Crop:
        """Cut a random square out of a picture at a random scale, mirrored or not."""
        low, high = (math.log(factor) for factor in self._config.jitter)
        fit = min(
            self._sizes[0] / min(sample.width, sample.height),
            self._sizes[1] / max(sample.width, sample.height),
        )
        scale = min(fit * math.exp(low + _random() * (high - low)), _LARGEST_SCALE)
        span = self._side / scale  # px of the picture
        things = [(one, one.mask) for one in sample.instances]
        focus = _pick([thing for thing in things if not thing[0].crowd])
        x, width = _window(sample.width, span, None if focus is None else focus.box[0::2])
        y, height = _window(sample.height, span, None if focus is None else focus.box[1::2])
        left, top = max(0, -x), max(0, -y)  # px of the crop that lie outside the picture
        window = Mask(max(x, 0), max(y, 0), np.ones((height, width), np.bool_))
        pixels = _decoded(sample)[window.y : window.y + height, window.x : window.x + width]
        size = [max(1, round(height * scale)), max(1, round(width * scale))]
        size = [min(side, self._side) for side in size]
        image = v2.functional.resize(
            tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)),
            size,
            antialias=True,
        )
        labels, masks, crowds = _cut(things, window, size)
        image[:, crowds & ~masks.any(0)] = _GREY
        corner = [min(round(left * scale), self._side - size[1])]
        corner.append(min(round(top * scale), self._side - size[0]))
        right, below = (
            self._side - size[1] - corner[0],
            self._side - size[0] - corner[1],
        )
        padding = [corner[0], corner[1], right, below]
        image = v2.functional.pad(image, padding, fill=_GREY)
        masks = v2.functional.pad(tv_tensors.Mask(masks.to(torch.uint8)), padding)
        image, masks = self._flip(tv_tensors.Image(image), tv_tensors.Mask(masks))
        return _Crop(image.as_subclass(Tensor), labels, masks.as_subclass(Tensor))


def _paste(crop: _Crop, other: _Crop) -> _Crop:
    """Paste some objects of another crop over this one (arXiv:2012.07177)."""
    chosen = torch.rand(len(other.labels)) < _PASTED
    if not bool(chosen.any()):
        return crop
    masks = other.masks[chosen]
    left = _covered(crop, masks.bool().any(0), other)  # any() of bytes gives bytes
    return _Crop(
        left.image,
        torch.cat([left.labels, other.labels[chosen]]),
        torch.cat([left.masks, masks]),
    )


def _distract(crop: _Crop, other: _Crop) -> _Crop:
    """Paste pieces of another crop's background over this one (arXiv:1708.01642).

    So neither the edges of what is pasted nor an upright shape are enough to be an object.
    """
    side = crop.image.shape[-1]
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    cover = torch.zeros(side, side, dtype=torch.bool)
    for _ in range(1 + _below(_PIECES)):
        height = side * _LEAST_PIECE ** _random() * _LARGEST_PIECE
        width = height * math.exp(math.log(0.15) + _random() * math.log(2.0 / 0.15))
        u = (x - side * _random()).abs() / (width / 2)
        v = (y - side * _random()).abs() / (height / 2)
        cover |= torch.maximum(u, v) < 1 if _chance(0.5) else u**2 + v**2 < 1
    return _covered(crop, cover & ~other.masks.bool().any(0), other)


def _covered(crop: _Crop, cover: Tensor, other: _Crop) -> _Crop:
    """Put the pixels of another crop over this one where `cover` says so."""
    left = crop.masks * (~cover).to(torch.uint8)
    before, after = crop.masks.flatten(1).sum(1), left.flatten(1).sum(1)
    keep = after >= _LEAST_SHARE * before
    return _Crop(torch.where(cover, other.image, crop.image), crop.labels[keep], left[keep])


def _decoded(sample: Sample) -> Image:
    try:
        return read_picture(sample)
    except OSError as exc:
        raise FormatError(
            f"{sample.path}: is damaged behind a good header; `tracker train --check` finds all "
            "such pictures: mend them and start anew"
        ) from exc


def _cut(
    things: Sequence[tuple[Instance, Mask]], window: Mask, size: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return labels (N,) and masks (N, h, w) bool of what is seen in a window, and its crowds."""
    height, width = window.bits.shape
    labels: list[int] = []
    planes: list[np.ndarray] = []
    crowds = np.zeros((height, width), np.uint8)
    for one, mask in things:
        seen = mask.moved(-window.x, -window.y).clipped(width, height)
        if not seen.area:
            continue
        h, w = seen.bits.shape
        place = (slice(seen.y, seen.y + h), slice(seen.x, seen.x + w))
        if one.crowd or seen.area < _LEAST_SHARE * mask.area:
            crowds[place] |= seen.bits
            continue
        plane = np.zeros((height, width), np.uint8)
        plane[place] = seen.bits
        labels.append(one.label)
        planes.append(plane)
    dense = torch.from_numpy(np.stack([*planes, crowds]))
    resized = v2.functional.resize(tv_tensors.Mask(dense), size).as_subclass(Tensor).bool()
    return torch.tensor(labels, dtype=torch.int64), resized[:-1], resized[-1]


def _pick(things: Sequence[tuple[Instance, Mask]]) -> Mask | None:
    """Choose the object that a crop is placed on: first its category, then one of it."""
    if not things or not _chance(_FOCUS):
        return None
    labels = sorted({one.label for one, _ in things})
    label = labels[_below(len(labels))]
    masks = [mask for one, mask in things if one.label == label]
    return masks[_below(len(masks))]


def _window(length: int, span: float, focus: tuple[int, int] | None) -> tuple[int, int]:
    """Return where a crop begins along one side, maybe below 0, and how much of it is picture."""
    if span >= length:  # the whole side fits, somewhere
        return -int(_random() * (span - length)), length
    whole = max(1, min(math.ceil(span), length))
    low, high = 0, length - whole
    if focus is not None:
        middle = sum(focus) // 2
        low, high = max(low, middle - whole), min(high, middle)
    return low + _below(max(1, high - low + 1)), whole


def _random() -> float:
    return float(torch.rand(()))


def _chance(share: float) -> bool:
    return _random() < share


def _below(number: int) -> int:
    return int(torch.randint(number, ()))
