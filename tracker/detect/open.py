"""Open the detector that the settings name."""

from __future__ import annotations

from pathlib import Path

from tracker.config import DetectorConfig
from tracker.errors import ConfigError, ModelError
from tracker.types.stages import Detector


def open_detector(config: DetectorConfig, *, embeddings: bool = False) -> Detector:
    """Load a model and see that it works; raise ModelError, ConfigError.

    With `embeddings` each instance is given its looks, by which it may be known again.
    """
    if config.weights not in ("default", "embedded") and not Path(config.weights).is_file():
        raise ModelError(f"{config.weights}: no such weights file")
    if config.classes_file is not None and not Path(config.classes_file).is_file():
        raise ConfigError(f"{config.classes_file}: no such file of class names")
    from tracker.detect.maskrcnn import MaskRCNNDetector  # torch takes seconds to import

    return MaskRCNNDetector(config, embeddings=embeddings)
