"""What comes when: which pictures, which learning rate, which layers; all by number, no state."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence

import torch

from tracker.train.samples import Sample
from tracker.train.settings import TrainConfig

_LAST_SHARE = 0.01  # of the learning rate, at the end


def mix(*numbers: int) -> int:
    """Return a seed that depends on all the numbers."""
    text = ",".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big")


def repeats(samples: Sequence[Sample], share: float) -> list[float]:
    """Return how often each picture comes an epoch, at least once.

    A category that is in a share f < `share` of the pictures makes its pictures come
    sqrt(share / f) times: the repeat factors of LVIS (arXiv:1908.03195).
    """
    present = [{one.label for one in s.instances if not one.crowd} for s in samples]
    counts = Counter(label for labels in present for label in labels)
    factor = {
        label: max(1.0, math.sqrt(share * len(samples) / count)) for label, count in counts.items()
    }
    return [max((factor[label] for label in labels), default=1.0) for labels in present]


class Schedule:
    """The order of a training over `samples`, by the number of its steps."""

    def __init__(self, samples: Sequence[Sample], config: TrainConfig, stages: int) -> None:
        self._config, self._stages = config, stages
        self._repeats = repeats(samples, config.balance)
        self.steps_per_epoch = max(1, round(sum(self._repeats) / config.batch_size))
        self.steps = config.epochs * self.steps_per_epoch

    def batches(self, epoch: int, first: int, rank: int = 0) -> Iterator[list[tuple[int, int]]]:
        """Yield the (sample, seed) pairs of each pass of an epoch from step `first` on.

        A step has `accumulate` passes; each process takes its share of a step's pictures.
        """
        config = self._config
        order = self._order(epoch)
        for step in range(first, self.steps_per_epoch):
            start = step * config.batch_size
            rows = range(start, start + config.batch_size)
            items = [(order[k % len(order)], mix(config.seed, epoch, k)) for k in rows]
            mine = items[rank :: config.processes]
            size = len(mine) // config.accumulate
            for k in range(config.accumulate):
                yield mine[k * size : (k + 1) * size]

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(mix(self._config.seed, epoch) % 2**63)
        chances = torch.rand(len(self._repeats), generator=generator).tolist()
        rows = [
            row
            for row, (times, chance) in enumerate(zip(self._repeats, chances, strict=True))
            for _ in range(int(times) + (chance < times % 1))
        ]
        return [rows[k] for k in torch.randperm(len(rows), generator=generator).tolist()]

    def rate(self, step: int) -> float:
        """Return the learning rate of a step as a share of the highest: warm-up, then cosine."""
        warm = self._config.warmup * self.steps
        if step < warm:
            return (step + 1) / (warm + 1)
        share = (step - warm) / max(1.0, self.steps - warm)
        return _LAST_SHARE + (1 - _LAST_SHARE) * (1 + math.cos(math.pi * share)) / 2

    def unfrozen(self, step: int) -> int:
        """Return how many stages of the backbone are trained at a step."""
        span = self._config.unfreeze * self.steps
        if span <= 0:
            return self._stages
        return min(self._stages, int(step / span * self._stages))
