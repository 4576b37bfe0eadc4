"""torchvision's own loop, as its documentation has it: what speed and results are measured by."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tracker.config import DetectorConfig
from tracker.detect.hardware import available_cores, find_device
from tracker.detect.models.builders import kept_labels, load_model
from tracker.detect.results import AnswerError, found_in, to_detections
from tracker.errors import ModelError
from tracker.types import Detections, Frame
from tracker.types.stages import DetectorInfo


class ReferenceDetector:
    """Run a model eagerly in float32 by its own forward, one picture at a time.

    Takes the same settings as MaskRCNNDetector, but for precision and batch size. The masks are
    pasted into full frames: 829 MB for 100 instances at 1080p. Raises what MaskRCNNDetector does.
    """

    def __init__(self, config: DetectorConfig | None = None) -> None:
        self.config = config or DetectorConfig()
        self.device = find_device(self.config.device)
        torch.set_num_threads(self.config.threads or available_cores())
        self.model = load_model(self.config)
        self.categories = self.model.categories
        self._module = self.model.module.to(self.device)
        self._kept = kept_labels(self.config.classes, self.categories)

    @property
    def info(self) -> DetectorInfo:
        """What it is."""
        return DetectorInfo(self.model.name, self.categories, device=str(self.device))

    def reset(self) -> None:
        """Do nothing: it learns nothing."""

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return one Detections per frame."""
        return [self._detect(frame) for frame in frames]

    def _detect(self, frame: Frame) -> Detections:
        pixels = torch.tensor(frame.image).permute(2, 0, 1).float() / 255
        with torch.inference_mode():
            found = found_in(self._module([pixels.to(self.device)])[0])
        classes = len(self.categories)
        size = (frame.width, frame.height)
        try:
            return to_detections(found, *size, self.config, self._kept, classes)
        except AnswerError as exc:
            raise ModelError(f"{self.model.name}: {exc}") from exc
