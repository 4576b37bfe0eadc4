"""Draw the curves of an evaluation."""

from __future__ import annotations

from pathlib import Path

from tracker.errors import MissingExtraError
from tracker.files import new_file
from tracker.measure.scores import ALPHAS, PANELS, Evaluation


def plot(evaluation: Evaluation, path: Path) -> None:
    """Draw HOTA, DetA and AssA over alpha as PNG: a row of panels a class, a line a result.

    Raises SinkError, and MissingExtraError without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingExtraError("tracker evaluate --plot", "eval") from exc
    # Okabe and Ito's colours, which the colour-blind can tell apart; dashes go on where they end.
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
    dashes = [dash for dash in ("-", "--", ":") for _ in colours]
    rows = len(evaluation.scores)
    figure = Figure(figsize=(13.5, 0.4 + 4 * rows), dpi=120, layout="constrained")
    grid = figure.subplots(rows, len(PANELS), squeeze=False, sharey=True)
    for (label, results), row in zip(evaluation.scores.items(), grid, strict=True):
        for panel, axes in zip(PANELS, row, strict=True):
            axes.set_prop_cycle(color=colours * 3, linestyle=dashes)
            for name, scores in results.items():
                (line,) = axes.plot(ALPHAS, scores[None].curves[panel], marker="o", markersize=3)
                line.set_label(f"{scores[None].values[panel]:.1f}  {name}")
            axes.set(xlim=(0, 1), ylim=(0, 102), title=f"{label}: {panel}, %", xlabel="IoU alpha")
            axes.grid(color="#dddddd")
            for text in axes.legend(loc="lower left", title="mean", alignment="left").get_texts():
                text.set_parse_math(False)  # a name may hold a dollar
    with new_file(path, "wb") as file:
        figure.savefig(file, format="png")
