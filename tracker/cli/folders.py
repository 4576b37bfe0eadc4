"""Choose the run folders of the videos that a command names."""

from __future__ import annotations

from pathlib import Path

from tracker.errors import ConfigError, SourceError, redact
from tracker.video.address import on_disk


def choose_folders(
    videos: list[str], output: Path | None, resume: Path | None, *, replace: bool
) -> list[Path]:
    """Return a folder for each video; no two are the same, none of an earlier run is reused.

    `output`, or `resume`, is the folder of a single video's run, and of several videos' folders;
    `resume` also of a single one, where it is what holds run folders.
    Raises ConfigError where it cannot be.
    """
    named = resume or output
    together = resume and not (resume / "run.toml").exists() and any(resume.glob("*/run.toml"))
    if named is not None and len(videos) == 1 and not together:
        return [named]
    if resume and (resume / "run.toml").is_file():
        raise ConfigError(
            f"{resume}: is the folder of one run; with several videos --resume takes the folder "
            "in which their run folders are"
        )
    parent = named or Path("runs")
    chosen: list[Path] = []
    for uri in videos:
        name = folder_name(uri)
        folder, number = parent / name, 1
        while folder in chosen or (named is None and not replace and folder.exists()):
            number += 1
            folder = parent / f"{name}-{number}"
        chosen.append(folder)
    return chosen


def folder_name(uri: str) -> str:
    """Return a safe folder name for a source."""
    try:
        place = on_disk(uri)
    except SourceError:  # which is told when its turn comes
        place = None
    text = {"-": "stdin"}.get(uri) or redact(place or uri)
    if "://" in text:
        text = text.partition("://")[2].replace("***@", "").partition("?")[0]
        text = text.strip("/").replace("/", "-")
    else:
        text = f"camera{uri}" if uri.isdecimal() else Path(text.rstrip("/")).stem
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in text).strip("._")
    return safe[:64] or "video"
