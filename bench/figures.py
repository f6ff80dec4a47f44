"""The look of the figures. matplotlib (extra `plot`) is imported only to draw one."""

from pathlib import Path
from typing import Any

COLOURS = {"sync": "#0072b2", "async": "#d55e00", "published": "#000000"}  # safe for the colour-blind
MORE_COLOURS = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
REFERENCE: dict[str, Any] = {"color": "#7f7f7f", "linestyle": ":", "linewidth": 1.2}


def panels(count: int, title: str, share: bool = True) -> tuple[Any, list[Any]]:
    """Return a figure with `count` panels side by side; share: whether they share the vertical axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 + 4.7 * count, 4.2), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(1, count, sharey=share, squeeze=False)[0]
    for panel in axes:
        panel.grid(alpha=0.25)
    return figure, list(axes)


def line(name: str, alpha: float = 1.0) -> dict[str, Any]:
    """Return the line style of a mode, or of the published figures."""
    return {"color": COLOURS[name], "linewidth": 1.2, "alpha": alpha}


def band(panel: Any, x: list[Any], spreads: list[dict[str, Any]], unit: float = 1.0, **style: Any) -> None:
    """Draw the medians of `spreads` as a line, and the range from min to max as a shade."""
    median, least, most = ([each[name] / unit for each in spreads] for name in ("median", "min", "max"))
    panel.plot(x, median, "o-", **style)
    panel.fill_between(x, least, most, color=style["color"], alpha=0.2, lw=0)


def save(figure: Any, path: Path) -> list[Path]:
    """Write the figure as SVG and as PNG. The same figure gives the same bytes."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "shmps"}):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(path.with_suffix(".png"), dpi=120)
    return [path.with_suffix(".svg"), path.with_suffix(".png")]
