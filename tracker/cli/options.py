"""Options that several commands share, and how their texts become settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tracker.config import Override
from tracker.errors import ConfigError

Model = Annotated[
    str | None,
    typer.Option(
        help="torchvision builder, package.module:function or file.py:function. "
        "\\[default: what --weights says]"
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="default (COCO, downloaded once), embedded (small, in the package: people and "
        "vehicles), or a .pth or .safetensors file."
    ),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Start = Annotated[
    str | None, typer.Option(help="First moment: 12.5 (s), 1:02:03, or 300f (frame).")
]

Shift = Annotated[
    int | None,
    typer.Option(
        help="Added to the frames' numbers in text: 1 for MOTChallenge text that counts from 0, -1 "
        "for MOTS text that counts from 1."
    ),
]


def given(**options: Any) -> list[tuple[str, Any]]:
    """Return options as overrides of the settings section__key, but for those not given."""
    return [
        (name.replace("__", "."), value) for name, value in options.items() if value is not None
    ]


def split_names(names: str) -> list[str]:
    """Return the parts of a list with commas."""
    return [name.strip() for name in names.split(",") if name.strip()]


def split_numbers(text: str | None, option: str) -> frozenset[int]:
    """Return the class numbers of a list with commas; raise ConfigError that names the option."""
    try:
        return frozenset(int(number) for number in split_names(text or ""))
    except ValueError as exc:
        raise ConfigError(f"{option} takes class numbers, as 1,2, got {text!r}") from exc


def split_pair(text: str, option: str) -> tuple[str, str]:
    """Return the two sides of NAME=NAME; raise ConfigError that names the option."""
    left, _, right = (part.strip() for part in text.partition("="))
    if not left or not right:
        raise ConfigError(f"{option} takes NAME=NAME, as vehicle=car, got {text!r}")
    return left, right


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Return the width and height, px, of a text as 640x480; raise ConfigError."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})\s*[xX*]\s*([1-9]\d{0,4})", text.strip())
    if not match:
        raise ConfigError(f"--size takes WIDTHxHEIGHT in px, as 640x480, got {text!r}")
    return int(match[1]), int(match[2])


def line_settings(lines: Sequence[str]) -> list[Override]:
    """Return --line options as overrides; raise ConfigError."""
    settings: dict[str, list[float]] = {}
    for text in lines:
        name, _, points = text.partition("=")
        try:
            numbers = [float(value) for value in points.split(",")]
        except ValueError:
            numbers = []
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) or len(numbers) != 4:
            raise ConfigError(
                "--line takes NAME=x1,y1,x2,y2 with a name of letters, digits, - and _, "
                f"got {text!r}"
            )
        if name in settings:
            raise ConfigError(f"--line {name} is given twice; every line needs a name of its own")
        settings[name] = numbers
    return [(f"count.lines.{name}", numbers) for name, numbers in settings.items()]


def find_config(name: str | None) -> Path | None:
    """Return a file the user named, or a shipped configuration of this name."""
    if name is None:
        return None
    if Path(name).is_file() or name.endswith(".toml"):
        return Path(name)
    package = Path(__file__).parents[1]
    shipped = {
        path.stem: path
        for folder in (package.parent / "configs", package / "configs")
        for path in sorted(folder.glob("*.toml"))
    }
    if name not in shipped:
        raise ConfigError(
            f"--config {name}: is neither a file nor a shipped configuration ({', '.join(shipped)})"
        )
    return shipped[name]
