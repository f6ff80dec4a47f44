"""How figures look; matplotlib (extra `plot`) is only imported when one is drawn."""

from pathlib import Path
from typing import Any

COLOURS = {
    "sync": "#0072b2",
    "async": "#d55e00",
    "published": "#000000",
}  # told apart by the colour-blind too
MORE_COLOURS = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
REFERENCE: dict[str, Any] = {"color": "#7f7f7f", "linestyle": ":", "linewidth": 1.2}


def panels(count: int, title: str, share: bool = True) -> tuple[Any, list[Any]]:
    """A figure with `count` panels side by side, which share their vertical axis or do not."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 + 4.7 * count, 4.2), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(1, count, sharey=share, squeeze=False)[0]
    for panel in axes:
        panel.grid(alpha=0.25)
    return figure, list(axes)


def line(name: str, alpha: float = 1.0) -> dict[str, Any]:
    return {"color": COLOURS[name], "linewidth": 1.2, "alpha": alpha}


def save(figure: Any, path: Path) -> list[Path]:
    """As SVG and as PNG; the same figure gives the same bytes, so that nothing changes without a reason."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "shmps"}):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(path.with_suffix(".png"), dpi=120)
    return [path.with_suffix(".svg"), path.with_suffix(".png")]
