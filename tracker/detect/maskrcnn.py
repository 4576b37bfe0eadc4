"""Run a detection model on batches of frames and return cropped, checked detections."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import groupby
from typing import cast

import numpy as np
import torch
from torch import nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from tracker.config import DetectorConfig
from tracker.detect.fast import FastRCNN, PrecisionError, is_fast
from tracker.detect.hardware import (
    available_cores,
    find_device,
    find_precision,
    give_back_freed_memory,
    keep_freed_memory,
)
from tracker.detect.models.builders import LoadedModel, kept_labels, load_model, transform_of
from tracker.detect.results import AnswerError, Found, found_in, to_detections
from tracker.errors import ModelError
from tracker.prefetch import prefetch
from tracker.types import Detections, Frame, Image
from tracker.types.stages import DetectorInfo

log = logging.getLogger(__name__)
_SELF_TEST_SIDE = 128  # px: small, since it only shows whether the model is sound
_SHRINK = 0.75  # of the picture's size in the model, where even one picture does not fit
_SMALLEST_SIDE = 128  # px: smaller than this is no answer to a lack of memory


class MaskRCNNDetector:
    """Find instances with Mask R-CNN, or with any detection model of torchvision's form.

    A model made of torchvision's own stages is rewritten to run several times faster with the
    same results (`fast/`); any other runs as it is. Raises ModelError where the model cannot
    be built, does not fit the device, or answers its self-test picture with anything but finite
    boxes; ConfigError for an unknown class name.
    """

    def __init__(
        self,
        config: DetectorConfig | None = None,
        *,
        embeddings: bool = False,
        load: Callable[[DetectorConfig], LoadedModel] = load_model,
    ) -> None:
        self.config = config or DetectorConfig()
        self._load = load  # gives a model that nobody else uses: it is rewritten
        self.embeddings = embeddings  # whether instances are given their looks
        self.device = find_device(self.config.device)
        self.threads = self.config.threads or available_cores()
        torch.set_num_threads(self.threads)
        if self.device.type == "cpu":
            keep_freed_memory()  # of the whole process: most of what it allocates is ours
        self.model: LoadedModel = load(self.config)
        self.categories = self.model.categories
        self.precision = find_precision(self.config.precision, self.device)
        self.batch_size = self._first_batch_size()
        self.overlaps = self.device.type != "cpu"  # else these cores would do it all anyway
        self.notes = list(self.model.notes)  # what the user should know of how it ran
        self._lasting = 0  # of the notes, those that hold for every video
        self._kept = kept_labels(self.config.classes, self.categories)
        self._module = self.model.module
        self._fast: FastRCNN | None = None
        self._move(self._module)
        if is_fast(self._module):
            self._rewrite()
        self._test_itself()
        self._lasting, self._own_sizes = len(self.notes), self.sizes
        give_back_freed_memory()

    @property
    def info(self) -> DetectorInfo:
        """What it is, and how it runs by now."""
        return DetectorInfo(
            name=self.model.name,
            categories=self.categories,
            batch_size=self.batch_size,
            device=str(self.device),
            precision=str(self.precision).removeprefix("torch."),
            threads=self.threads,
            weights=self.model.weights,
            sha256=self.model.sha256,
            notes=tuple(self.notes),
        )

    def reset(self) -> None:
        """Go back to the batches and the sizes it began with: the next video may have room."""
        del self.notes[self._lasting :]
        self.batch_size = self._first_batch_size()
        if self.sizes != self._own_sizes and self._own_sizes is not None:
            self._set_sizes(*self._own_sizes)

    @property
    def sizes(self) -> tuple[int, int] | None:
        """The model's min_size and max_size, px; None where it has none."""
        transform = transform_of(self._module)
        if transform is None or getattr(transform, "fixed_size", None):
            return None
        return int(transform.min_size[-1]), int(transform.max_size)

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return one Detections per frame, by descending score; raise ModelError if not finite.

        Frames of one size go through the model together; a change of size starts a new batch, so
        that padding never depends on the neighbours.
        """
        return [
            found
            for batch in self._batches(frames)
            for found in self._finish(batch, self._compute(self._upload(batch)))
        ]

    def stream(self, batches: Iterable[Sequence[Frame]]) -> Iterator[list[Detections]]:
        """Yield what `detect` returns for each batch, with the device kept busy in between.

        While one batch is computed, the next is made ready and the masks of the last are cropped,
        each in its own thread: worth it where the model does not run on these cores. On the device
        itself copies wait their turn behind the kernels.
        """
        if not self.overlaps:
            yield from map(self.detect, batches)
            return

        def upload() -> Iterator[list[tuple[list[Image], torch.Tensor]]]:
            for frames in batches:
                yield [(batch, self._upload(batch)) for batch in self._batches(frames)]

        def compute() -> Iterator[list[tuple[list[Image], list[Found]]]]:
            with closing(prefetch(upload(), 1)) as uploaded:
                for parts in uploaded:
                    yield [(batch, self._compute(pixels)) for batch, pixels in parts]

        with closing(prefetch(compute(), 1)) as computed:
            for parts in computed:
                yield [found for part in parts for found in self._finish(*part)]

    # ---- one batch --------------------------------------------------------------------------

    def _batches(self, frames: Sequence[Frame]) -> list[list[Image]]:
        by_size = groupby(frames, key=lambda frame: frame.image.shape)
        return [[frame.image for frame in group] for _, group in by_size]

    def _upload(self, images: Sequence[Image]) -> torch.Tensor:
        """Return (N, H, W, 3) uint8 on the device: a quarter of the bytes of float32."""
        pixels = torch.from_numpy(np.stack(images))
        if self.device.type == "cuda":
            return pixels.pin_memory().to(self.device, non_blocking=True)
        return pixels.to(self.device)

    def _compute(self, pixels: torch.Tensor) -> list[Found]:
        """Run the model; where memory ends, on fewer pictures at once, then on smaller ones."""
        found: list[Found] = []
        while len(found) < len(pixels):
            part = pixels[len(found) : len(found) + max(self.batch_size, 1)]
            try:
                found += self._run(part)
                continue
            except (RuntimeError, MemoryError) as exc:
                if not _out_of_memory(exc):
                    raise
            self._make_room(len(part))  # only here is nothing left that holds the failed call's
        return found

    def _run(self, pixels: torch.Tensor) -> list[Found]:
        with torch.inference_mode():
            if self._fast is None:
                return self._run_plain(pixels)
            try:
                found = self._fast(pixels)
            except FloatingPointError as exc:
                raise ModelError(f"{self.model.name}: {exc}") from exc
            # One copy for all of it: each would wait for the device.
            columns = [found.boxes, found.scores[:, None], found.labels[:, None].float()]
            columns.append(found.images[:, None].float())
            widths = [4, 1, 1, 1]
            for extra in (found.maps, found.embeddings):
                if extra is not None:
                    columns.append(extra.flatten(1))
                    widths.append(columns[-1].shape[1])
            table = torch.cat(columns, dim=1).cpu()
            side = found.maps.shape[-1] if found.maps is not None else 0
        boxes, scores, labels, images, *extras = torch.split(table, widths, dim=1)
        maps = extras[0].reshape(-1, side, side) if side else None
        embeddings = extras[-1] if found.embeddings is not None else None
        results = []
        for k in range(len(pixels)):
            rows = (images[:, 0] == k).nonzero().flatten()
            results.append(
                Found(
                    boxes[rows],
                    scores[rows, 0],
                    labels[rows, 0].to(torch.int64),
                    maps=None if maps is None else maps[rows],
                    embeddings=None if embeddings is None else embeddings[rows],
                )
            )
        return results

    def _run_plain(self, pixels: torch.Tensor) -> list[Found]:
        """Run a model that is not made of torchvision's stages as it is."""
        outputs = self._module([p.permute(2, 0, 1).to(torch.float32) / 255 for p in pixels])
        results = []
        for output in outputs:
            try:
                results.append(found_in(output))
            except (KeyError, TypeError) as exc:
                raise ModelError(
                    f"{self.model.name}: must return dictionaries with boxes, scores and labels"
                ) from exc
        return results

    def _finish(self, images: Sequence[Image], found: Sequence[Found]) -> list[Detections]:
        height, width = images[0].shape[:2]
        try:
            return [
                to_detections(
                    one,
                    width,
                    height,
                    self.config,
                    self._kept,
                    len(self.categories),
                    exact=self.model.info is not None,
                )
                for one in found
            ]
        except AnswerError as exc:
            raise ModelError(f"{self.model.name}: {exc}") from exc

    # ---- memory -----------------------------------------------------------------------------

    def _make_room(self, pictures: int) -> None:
        """Take fewer pictures at once, then smaller ones; raise ModelError at the end of that."""
        if self._fast is not None:
            self._fast.forget_sizes()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if pictures > 1:
            self.batch_size = pictures // 2
            self._note(f"memory ran out with {pictures} pictures at once; goes on with half")
            return
        if self.sizes is None or self.sizes[0] * _SHRINK < _SMALLEST_SIDE:
            raise ModelError(
                f"{self.model.name}: memory ran out on {self.device} with one picture; "
                "free some, or take a smaller model"
            )
        low, high = (int(side * _SHRINK) for side in self.sizes)
        self._set_sizes(low, high)
        self._note(
            f"memory ran out with one picture; goes on with min_size {low} "
            f"and max_size {high}, so small objects may be missed"
        )

    def _first_batch_size(self) -> int:
        return self.config.batch_size or (1 if self.device.type == "cpu" else 8)

    def _set_sizes(self, low: int, high: int) -> None:
        transform = transform_of(self._module)
        transform.min_size, transform.max_size = (low,), high
        if self._fast is not None:
            self._fast.forget_sizes()

    def _note(self, text: str) -> None:
        self.notes.append(text)
        log.warning("%s", text)

    # ---- set-up -----------------------------------------------------------------------------

    def _move(self, module: nn.Module) -> None:
        try:
            module.to(self.device)
        except (RuntimeError, AssertionError) as exc:
            why = str(exc).partition("\n")[0]
            raise ModelError(f"{self.model.name} does not fit on {self.device}: {why}") from exc

    def _rewrite(self) -> None:
        """Make the fast equivalent, in float32 where `auto` chose what the model cannot take.

        A model that cannot be rewritten at all is loaded again and runs as it is.
        """
        again = False
        try:
            self._fast = FastRCNN(
                cast(GeneralizedRCNN, self._module.to("cpu")),  # its parts are tried there
                self.device,
                self.precision,
                labels=self._kept,
                embeddings=self.embeddings,
            )
            return
        except FloatingPointError as exc:
            raise ModelError(f"{self.model.name}: {exc}") from exc
        except PrecisionError as exc:
            if self.config.precision != "auto":
                hint = "set detector.precision to float32"
                raise ModelError(f"{self.model.name}: {exc}; {hint}") from exc
            self._note(f"{exc}; goes on in float32")
            again = True
        except Exception as exc:  # whatever a model of the user's does that no part can be tried
            why = f"{type(exc).__name__}: {exc}".partition("\n")[0]
            self._note(f"the model runs as it is, and slower ({why})")
        self.precision = torch.float32
        self.model = self._load(self.config)
        self._module = self.model.module
        self._move(self._module)
        if again:  # at most once: nothing is converted in float32
            self._rewrite()

    def _test_itself(self) -> None:
        """Run a picture of noise, so that a broken model is found before the video is opened."""
        picture = np.random.default_rng(0).integers(
            0, 256, (_SELF_TEST_SIDE, _SELF_TEST_SIDE, 3), np.uint8
        )
        transform = transform_of(self._module)
        sizes = (transform.min_size, transform.max_size) if transform is not None else None
        if transform is not None:
            transform.min_size, transform.max_size = (_SELF_TEST_SIDE,), _SELF_TEST_SIDE
        try:
            self._finish([picture], self._run(self._upload([picture])))
        except ModelError:
            raise
        except Exception as exc:
            why = f"{type(exc).__name__}: {exc}".partition("\n")[0]
            raise ModelError(f"{self.model.name}: fails on a test picture: {why}") from exc
        finally:
            if transform is not None and sizes is not None:
                transform.min_size, transform.max_size = sizes
            if self._fast is not None:
                self._fast.forget_sizes()


def _out_of_memory(error: BaseException) -> bool:
    """Tell a lack of memory from other errors; on the CPU torch only says it in words."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
    return any(words in str(error) for words in said)
