"""seqinfo.ini, which MOTChallenge lays beside a sequence: size, frame rate and length."""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path

from tracker.errors import FormatError

NAME = "seqinfo.ini"
_SIZES = ("imwidth", "imheight", "seqlength")  # in small letters, as the parser gives its keys


@dataclass(frozen=True, slots=True)
class SeqInfo:
    """What the file tells; None where it does not."""

    path: Path
    name: str | None = None  # of the sequence
    width: int | None = None  # px
    height: int | None = None
    fps: float | None = None
    length: int | None = None  # frames


def find_seqinfo(path: Path) -> SeqInfo | None:
    """Return what lies beside a text file or, for SEQ/gt/gt.txt, in SEQ; raise FormatError."""
    folders = [path.parent]
    if path.parent.resolve().name in ("gt", "det"):
        folders.append(path.resolve().parents[1])
    file = next((folder / NAME for folder in folders if (folder / NAME).is_file()), None)
    return _read(file) if file else None


def _read(path: Path) -> SeqInfo:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
        section = parser["Sequence"] if parser.has_section("Sequence") else parser["DEFAULT"]
        told = {key: value for key, value in section.items() if value.strip()}
        sizes = [int(told[key]) if key in told else None for key in _SIZES]
        fps = float(told["framerate"]) if "framerate" in told else None
    except (OSError, ValueError, configparser.Error) as exc:
        why = str(exc).replace("\n", " ")
        raise FormatError(f"{path}: cannot be read as seqinfo.ini: {why}") from exc
    if any(value is not None and not 0 < value < 1e9 for value in (*sizes, fps)):
        raise FormatError(f"{path}: imWidth, imHeight, seqLength and frameRate must be above 0")
    width, height, length = sizes
    return SeqInfo(path, told.get("name"), width, height, fps, length)
