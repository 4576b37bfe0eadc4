"""What a run is made of: one that goes on must be made of the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tracker.config import RunConfig
from tracker.errors import redact
from tracker.files import JsonObject
from tracker.snapshot import State
from tracker.types.stages import DetectorInfo
from tracker.video.address import on_disk
from tracker.video.listing import find_images

Fingerprint = dict[str, str | int]  # what tells a file, or a folder of images, from another
_LOOK = 1 << 20  # bytes at either end of a file
_GLANCE, _SAMPLE = 1 << 11, 1000  # the same of an image, and of how many images at least


class MadeDetector(State):
    """The detector of a run."""

    model: str
    sha256: str | None
    categories: tuple[str, ...]
    device: str
    precision: str
    threads: int  # of the CPU, where it runs there
    batch_size: int


class Made(State):
    """What a run is made of: one that goes on must be made of the same."""

    program: str
    source: Fingerprint
    settings: JsonObject
    detector: MadeDetector


def made_of(source: Fingerprint, config: RunConfig, detector: DetectorInfo) -> Made:
    """Return what a run is made of that begins now."""
    on_cpu = detector.device in ("", "cpu")
    return Made(
        program=version_of("mask-tracker"),
        source=source,
        settings=config.deciding(),
        detector=MadeDetector(
            model=detector.name,
            sha256=detector.sha256,
            categories=detector.categories,
            device=detector.device,
            precision=detector.precision,
            threads=detector.threads if on_cpu else 0,
            batch_size=detector.batch_size,
        ),
    )


def fingerprint(uri: str) -> Fingerprint:
    """Return what tells a file, or a folder of images, from another."""
    text = on_disk(uri)
    if text is None:
        return {"uri": redact(uri)}
    path = Path(text)
    place: Fingerprint = {"uri": str(path.absolute())}
    try:
        if path.is_file():
            size, digest = path.stat().st_size, hashlib.sha256(_ends(path, _LOOK)).hexdigest()
            return place | {"bytes": size, "sha256_of_ends": digest}
        images = find_images(text).paths
        return place | _of_images(images) if images else place
    except OSError:
        return place


def _of_images(images: Sequence[Path]) -> Fingerprint:
    told = hashlib.sha256(repr([(one.name, one.stat().st_size) for one in images]).encode())
    for one in images[:: max(1, len(images) // _SAMPLE)]:
        told.update(_ends(one, _GLANCE))
    return {"images": len(images), "sha256_of_images": told.hexdigest()}


def _ends(path: Path, look: int) -> bytes:
    """Return the first and the last `look` bytes of a file."""
    with path.open("rb") as file:
        first = file.read(look)
        file.seek(max(0, path.stat().st_size - look))
        return first + file.read(look)


def version_of(package: str) -> str:
    """Return the version of an installed package, nothing of any other."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
