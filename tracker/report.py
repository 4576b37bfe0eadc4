"""What a run is made of and how it went: run.toml and report.json."""

from __future__ import annotations

import platform
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import tomli_w

from tracker.config import RunConfig
from tracker.errors import redact
from tracker.pipeline import RunStats
from tracker.types import Detector, Source

_REPORTED_PACKAGES = (
    "mask-tracker",
    "torch",
    "torchvision",
    "av",
    "numpy",
    "scipy",
    "opencv-python",
)


def made_of(source: dict[str, Any], config: RunConfig, detector: Detector) -> dict[str, Any]:
    """Return what a run is made of, as JSON types: one that goes on must be made of the same."""
    model = getattr(detector, "model", None)
    return {
        "program": _version("mask-tracker"),
        "source": source,
        "settings": config.telling(),
        "detector": {
            "model": str(getattr(model, "name", type(detector).__name__)),
            "sha256": getattr(model, "sha256", None),
            "categories": list(detector.categories),
            **_hardware(detector),
        },
    }


def to_report(
    uri: str,
    file: dict[str, Any],
    source: Source,
    detector: Detector,
    stats: RunStats,
    error: BaseException | None,
    notes: list[str],
    *,
    running: bool = False,
) -> dict[str, Any]:
    """Return the content of report.json; `file` is the fingerprint of the source."""
    read = source.report
    finished = error is None and not stats.stopped and not running
    return {
        "version": 1,
        "source": redact(uri),
        "finished": finished,
        "stopped": stats.stopped,
        "error": redact(f"{error}") if error else None,
        "frames": stats.frames,
        "input": {
            "file": file,
            "complete": read.complete and finished,
            "packets": read.packets,
            "frames": read.frames,
            "skipped": read.skipped,
            "dropped": read.dropped,
            "unprocessed": read.frames - read.dropped - stats.frames,  # read ahead of a stop
            "bad_packets": read.bad_packets,
            "missing": read.missing,
            "suspect": read.suspect,
            "gaps": read.gaps,
            "clock_jumps": read.clock_jumps,
            "size_changes": read.size_changes,
            "rotation": read.rotation,
            "declared_frames": read.declared_frames,
            "notes": [redact(note) for note in read.notes],
        },
        "detector": {**_hardware(detector), "notes": list(getattr(detector, "notes", ()))},
        "output": {"notes": [redact(note) for note in notes]},
        "speed": {
            "wall_s": round(stats.wall_s, 3),
            "fps": round(stats.frames / stats.wall_s, 3) if stats.wall_s else 0.0,
            "stages": {
                name: {"seconds": round(stage.seconds, 3), "fps": round(stage.fps, 2)}
                for name, stage in stats.stages.items()
            },
        },
    }


def run_toml(uri: str, config: RunConfig, detector: Detector, started: datetime) -> str:
    """Return the resolved settings with what else made the result: loads as a config again."""
    model = getattr(detector, "model", None)
    about = {
        "source": redact(uri),
        "started": started.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        **_hardware(detector),
        "weights": str(getattr(model, "weights", type(detector).__name__)),
        "weights_sha256": getattr(model, "sha256", None) or "",
        "packages": {name: _version(name) for name in _REPORTED_PACKAGES},
    }
    settings = config.model_dump(mode="json", exclude_none=True)
    header = "".join(f"# {line}\n" for line in tomli_w.dumps(about).splitlines())
    return (
        f"# A run of Tracker; use it again with: tracker run VIDEO --config run.toml\n{header}\n"
        + (tomli_w.dumps(settings))
    )


def _hardware(detector: Detector) -> dict[str, Any]:
    """Return what the detector ran on and how, where it says so."""
    return {
        "device": str(getattr(detector, "device", "")),
        "precision": str(getattr(detector, "precision", "")).removeprefix("torch."),
        "threads": getattr(detector, "threads", 0),
        "batch_size": getattr(detector, "batch_size", 1),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
