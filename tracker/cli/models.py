"""`tracker models`: what models are known and which lie here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from tracker.detect.models.cards import ModelCard
    from tracker.detect.models.weights import ModelInfo


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            help="One model, to see its card: a builder, embedded, or a .safetensors file that "
            "`tracker train` wrote.",
            metavar="[NAME]",
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the model's weights and check their hash.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models that are known, and fetch their weights.

    [bold]Examples[/bold]

      tracker models

      tracker models maskrcnn_resnet50_fpn_v2              its card, with all classes

      tracker models maskrcnn_resnet50_fpn_v2 --download

      tracker models embedded                              what the package's own model is made of

      tracker models runs/train/best.safetensors
    """
    from tracker.detect.models.cards import download as fetch  # torch takes seconds to import
    from tracker.detect.models.cards import find_card, known_models
    from tracker.errors import ConfigError

    console = Console()
    if download:
        if name is None:
            raise ConfigError("--download needs the name of a model")
        typer.echo(f"{name}: {fetch(name)}")
        return
    cards = [find_card(name)] if name else known_models()
    if as_json:
        typer.echo(json.dumps([_to_json(card) for card in cards], indent=2))
        return
    console.print(_table(cards))
    if name:
        _print_card(console, cards[0])


def _to_json(card: ModelCard) -> dict[str, object]:
    fields = ("name", "weights", "url", "megabytes", "box_map", "has_masks", "categories")
    return {
        **{name: getattr(card, name) for name in fields},
        "cached": str(card.cached or ""),
        "card": card.info.card if card.info else {},
    }


def _table(cards: Sequence[ModelCard]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("model", "masks", "box mAP", "MB", "weights here"):
        table.add_column(title, justify="right" if title in ("box mAP", "MB") else "left")
    for card in cards:
        table.add_row(
            escape(card.name),
            "yes" if card.has_masks else "no",
            f"{card.box_map:.1f}" if card.box_map else "",
            f"{card.megabytes:.0f}",
            str(card.cached) if card.cached else "no",
        )
    return table


def _print_card(console: Console, card: ModelCard) -> None:
    """Print what the table has no room for."""
    classes = [c for c in card.categories if c not in ("__background__", "N/A")]
    listed = f"{len(classes)} classes: {', '.join(classes)}"
    console.print(listed, markup=False, highlight=False, soft_wrap=True)
    if card.url:
        console.print(f"weights: {card.url}", soft_wrap=True)
    if card.info is not None:
        _print_info(console, card.info)


def _print_info(console: Console, info: ModelInfo) -> None:
    """Print what a model of ours says of itself, one line an item."""
    said = {
        "architecture": info.architecture,
        "input": f"shorter side {info.min_size} px, longer at most {info.max_size} px",
        **info.card,
    }
    for name, value in said.items():
        label = name.replace("_", " ")
        if value in ([], {}, ""):
            continue
        if isinstance(value, dict):
            console.print(f"{label}:", markup=False, highlight=False)
            for key, item in value.items():
                text = json.dumps(item) if isinstance(item, dict) else item
                console.print(f"  {key}: {text}", markup=False, highlight=False, soft_wrap=True)
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            console.print(f"{label}: {text}", markup=False, highlight=False, soft_wrap=True)
