"""A fast equivalent of torchvision's Faster and Mask R-CNN, from uint8 pictures to small maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import batched_nms, clip_boxes_to_image, nms

from tracker.detect.fast.canvas import Canvas
from tracker.detect.fast.parts import take_parts
from tracker.detect.fast.roi_align import roi_align, takes

_MOST_SIZES = 4  # of pictures, whose space and anchors are kept
_MASK_CHUNK = 128  # instances that go through the mask head at once: bounds the memory
_SMALLEST = 1e-2  # px: detections of less width or height are none, as in torchvision


@dataclass(slots=True)
class Instances:
    """What was found in a batch of N pictures, by picture and descending score; on the device."""

    boxes: torch.Tensor  # (K, 4) xyxy in px of the source pictures, float32
    scores: torch.Tensor  # (K,) float32
    labels: torch.Tensor  # (K,) int64
    images: torch.Tensor  # (K,) int64, which picture
    maps: torch.Tensor | None  # (K, M, M) float32, probabilities in the boxes; None without masks
    embeddings: torch.Tensor | None  # (K, D) float32


def is_fast(module: nn.Module) -> bool:
    """Tell whether every stage of the model is torchvision's own, so that FastRCNN equals it."""
    return (
        isinstance(module, GeneralizedRCNN)
        and type(module).forward is GeneralizedRCNN.forward
        and type(module.transform) is GeneralizedRCNNTransform
        and type(module.rpn) is RegionProposalNetwork
        and type(module.roi_heads) is RoIHeads
        and {type(module.rpn.box_coder), type(module.roi_heads.box_coder)} == {BoxCoder}
    )


class FastRCNN:
    """Run a torchvision Faster or Mask R-CNN; takes the module's dense parts over.

    `dtype` is that of the dense parts; the last layers of the box branch, the geometry and the
    scores stay float32. `labels` (L,) are the only classes whose masks are made, None = all.
    """

    def __init__(
        self,
        module: GeneralizedRCNN,
        device: torch.device,
        dtype: torch.dtype,
        *,
        labels: torch.Tensor | None = None,
        embeddings: bool = False,
    ) -> None:
        self.device, self.dtype = device, dtype
        self.labels = None if labels is None else labels.to(device)
        self.embeddings = embeddings
        self._transform: Any = module.transform
        self._rpn: Any = module.rpn
        self._heads: Any = module.roi_heads
        self._canvases: dict[tuple[int, int], Canvas] = {}  # by height, width; latest use last
        self._sound = torch.ones((), dtype=torch.bool, device=device)
        self._parts = take_parts(module, device, dtype)

    # ---- one batch --------------------------------------------------------------------------

    def __call__(self, pictures: torch.Tensor) -> Instances:
        """Find instances in (N, H, W, 3) uint8 pictures on the device."""
        self._sound = torch.ones((), dtype=torch.bool, device=self.device)
        canvas = self._lay_out(pictures)
        features = self._parts.backbone(canvas.pixels[: len(pictures)])
        boxes, images = self._propose(features, canvas)
        named = dict(zip(self._parts.levels, features, strict=True))
        found = self._classify(named, boxes, images, canvas)
        scale = found.boxes.new_tensor(
            [s / r for s, r in zip(canvas.source, canvas.resized, strict=True)]
        )
        found.boxes = found.boxes * scale[[1, 0, 1, 0]]
        return found

    def forget_sizes(self) -> None:
        """Make what depends on the pictures' size anew, as after a change of the transform."""
        self._canvases.clear()

    def _lay_out(self, pictures: torch.Tensor) -> Canvas:
        source = (int(pictures.shape[1]), int(pictures.shape[2]))
        canvas = self._canvases.pop(source, None)
        if canvas is None or len(canvas.pixels) < len(pictures):
            canvas = Canvas(self._transform, source, len(pictures), self.device)
        self._canvases[source] = canvas
        while len(self._canvases) > _MOST_SIZES:
            del self._canvases[next(iter(self._canvases))]
        canvas.lay(pictures)
        return canvas

    def _propose(
        self, features: Sequence[torch.Tensor], canvas: Canvas
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the boxes worth a look, (P, 4) in px of the canvas, and the picture of each."""
        rpn, count = self._rpn, len(features[0])
        logits, deltas = [], []
        for feature in features:
            score, delta = self._parts.rpn_head(feature)
            # The order of anchors: row, column, then the anchors of that place.
            logits.append(score.permute(0, 2, 3, 1).reshape(count, -1).to(torch.float32))
            anchors_here = score.shape[1]
            delta = delta.view(count, anchors_here, 4, *delta.shape[-2:])
            deltas.append(delta.permute(0, 3, 4, 1, 2).reshape(count, -1, 4))
        counts = [level.shape[1] for level in logits]
        anchors = torch.split(canvas.anchors(rpn.anchor_generator, features), counts)
        boxes, scores = [], []
        most = rpn.pre_nms_top_n()
        for level, delta, anchor in zip(logits, deltas, anchors, strict=True):
            best, index = level.topk(min(most, level.shape[1]), dim=1)
            chosen = delta.gather(1, index[..., None].expand(-1, -1, 4)).to(torch.float32)
            decoded = rpn.box_coder.decode_single(
                chosen.reshape(-1, 4), anchor[index].reshape(-1, 4)
            )
            boxes.append(clip_boxes_to_image(decoded, canvas.resized).view(count, -1, 4))
            scores.append(best.sigmoid())
        self._check(*features, *logits, *deltas)
        return self._suppress_proposals(boxes, scores)

    def _check(self, *values: torch.Tensor) -> None:
        """Note whether all values are finite; looked at once, since each look waits."""
        for value in values:
            self._sound = self._sound & torch.isfinite(value.sum())

    def _suppress_proposals(
        self, boxes: Sequence[torch.Tensor], scores: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Suppress within each picture and level, then take the best of each picture."""
        rpn, count = self._rpn, len(boxes[0])
        level = torch.cat(
            [torch.full((b.shape[1],), k, device=self.device) for k, b in enumerate(boxes)]
        )
        all_boxes, all_scores = torch.cat(list(boxes), dim=1), torch.cat(list(scores), dim=1)
        sides = all_boxes[..., 2:] - all_boxes[..., :2]
        good = (sides >= rpn.min_size).all(dim=-1) & (all_scores >= rpn.score_thresh)
        chosen, images = [], []
        for k in range(count):  # the kernel takes one picture; all before it ran for all at once
            here = good[k].nonzero().flatten()
            found, score = all_boxes[k, here], all_scores[k, here]
            keep = _suppress(found, score, level[here], rpn.nms_thresh)
            keep = keep[: rpn.post_nms_top_n()]
            chosen.append(found[keep])
            images.append(torch.full_like(keep, k))
        return torch.cat(chosen), torch.cat(images)

    def _classify(
        self,
        features: dict[str, torch.Tensor],
        boxes: torch.Tensor,
        images: torch.Tensor,
        canvas: Canvas,
    ) -> Instances:
        heads = self._heads
        if len(boxes):
            pooled = self._pool(heads.box_roi_pool, features, boxes, images, canvas)
            logits, deltas = self._parts.box_predictor(
                self._parts.box_head(pooled).to(torch.float32)
            )
        else:
            logits, deltas = boxes.new_zeros(0, 2), boxes.new_zeros(0, 8)
        self._check(logits, deltas)
        if not self._sound:
            raise FloatingPointError("what it sees in a picture is not finite")
        probabilities = logits.softmax(dim=-1)
        classes = probabilities.shape[1]
        wanted = probabilities > heads.score_thresh
        wanted[:, 0] = False  # background
        row, label = wanted.nonzero(as_tuple=True)
        deltas = deltas.view(len(boxes), deltas.shape[1] // 4, 4)
        delta = deltas[row, label if deltas.shape[1] == classes else torch.zeros_like(label)]
        found = heads.box_coder.decode_single(delta, boxes[row])
        found = clip_boxes_to_image(found, canvas.resized)
        score, image = probabilities[row, label], images[row]
        large = ((found[:, 2:] - found[:, :2]) >= _SMALLEST).all(dim=1)
        keep = []
        for k in range(len(next(iter(features.values())))):
            here = ((image == k) & large).nonzero().flatten()
            best = batched_nms(found[here], score[here], label[here], heads.nms_thresh)
            keep.append(here[best[: heads.detections_per_img]])
        rows = torch.cat(keep)
        if self.labels is not None:  # after the limit, as if all classes were asked for
            rows = rows[torch.isin(label[rows], self.labels)]
        instances = Instances(found[rows], score[rows], label[rows], image[rows], None, None)
        if self._parts.mask_head is not None:
            self._add_masks(instances, features, canvas)
        return instances

    def _add_masks(
        self, found: Instances, features: dict[str, torch.Tensor], canvas: Canvas
    ) -> None:
        maps, embeddings = [], []
        for first in range(0, len(found.boxes), _MASK_CHUNK):
            rows = slice(first, first + _MASK_CHUNK)
            pool = self._heads.mask_roi_pool
            pooled = self._pool(pool, features, found.boxes[rows], found.images[rows], canvas)
            maps.append(self._map(pooled, found.labels[rows]))
            if self.embeddings:
                embeddings.append(_mean_inside(pooled.to(torch.float32), maps[-1]))
        found.maps = torch.cat(maps) if maps else found.boxes.new_zeros(0, 1, 1)
        if self.embeddings and embeddings:
            found.embeddings = torch.cat(embeddings)

    def _map(self, pooled: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the (K, M, M) probabilities of each instance's own class."""
        x = cast(nn.Module, self._parts.mask_head)(pooled)
        if self._parts.mask_predictor is not None:
            logits = self._parts.mask_predictor(x).to(torch.float32)
            return torch.cat(maskrcnn_inference(logits, [labels]))[:, 0]
        x = cast(nn.Module, self._parts.deconvolution)(x)
        last = self._parts.mask_logits
        weight = last.weight[labels, :, 0, 0].to(x.dtype)
        rows = x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1])
        logits = torch.bmm(rows, weight[:, :, None])[..., 0].to(torch.float32)
        logits = logits + last.bias[labels][:, None]
        return torch.sigmoid(logits).view(len(x), x.shape[2], x.shape[3])

    def _pool(
        self,
        pool: Any,
        features: dict[str, torch.Tensor],
        boxes: torch.Tensor,
        images: torch.Tensor,
        canvas: Canvas,
    ) -> torch.Tensor:
        if takes(pool, self.device):
            levels = [v for k, v in features.items() if k in pool.featmap_names]
            return roi_align(levels, boxes, images, pool, canvas.resized)
        # Another pooling: in the form that its kernel is fastest in and always takes.
        plain = {k: v.to(torch.float32).contiguous() for k, v in features.items()}
        count = len(next(iter(plain.values())))
        per_image = [boxes[images == k] for k in range(count)]
        pooled = cast(torch.Tensor, pool(plain, per_image, [canvas.resized] * count))
        return pooled.to(self.dtype).contiguous(memory_format=torch.channels_last)


def _suppress(
    boxes: torch.Tensor, scores: torch.Tensor, level: torch.Tensor, threshold: float
) -> torch.Tensor:
    """Suppress within each level; return rows by descending score."""
    if boxes.device.type != "cpu":
        return cast(torch.Tensor, batched_nms(boxes, scores, level, threshold))
    counts = torch.bincount(level).tolist() if len(level) else []
    starts = [sum(counts[:k]) for k in range(len(counts))]
    kept = [
        start + nms(boxes[start : start + n], scores[start : start + n], threshold)
        for start, n in zip(starts, counts, strict=True)
    ]
    rows = torch.cat(kept) if kept else level
    return rows[torch.argsort(scores[rows], descending=True, stable=True)]


def _mean_inside(features: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Return (K, C): the mean of the features that each mask was made of.

    Only the pixels of the mask count, so that neighbours and background do not.
    """
    size = (int(features.shape[-2]), int(features.shape[-1]))
    weights = F.adaptive_avg_pool2d(maps[:, None], size)
    total = weights.sum(dim=(2, 3)).clamp(min=1e-6)
    return (features * weights).sum(dim=(2, 3)) / total
