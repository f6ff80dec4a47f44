"""How the curvature changes along the steps of a search, which limits what a quadratic model can tell.

Half of Newton's decrement estimates the gap to the minimum if the curvature stays the same on the way there.
It does not where a few rows with large values make most of the curvature: they are soon classified well, and
then the other rows decide. Along such steps the curvature falls, and values and slopes show it.
"""

import math

_STEPS = 3  # that are remembered


class Bends:
    """The last steps of a search."""

    def __init__(self) -> None:
        self._steps: list[tuple[float, float]] = []  # relative change of the curvature; curvature

    def add(self, change: float, slope: float, end_slope: float, rounding: float) -> None:
        """Add a step: the value's change along it, the slopes at start and end, per length of the step.

        The value differs from the trapezoid below the slopes by a twelfth of the third derivative. rounding:
        error of `change`.
        """
        curvature = end_slope - slope
        if curvature > 0:
            excess = change - (slope + end_slope) / 2
            third = -12 * math.copysign(max(abs(excess) - rounding, 0.0), excess)
            self._steps = [*self._steps, (third / curvature, curvature)][-_STEPS:]

    def fall_ahead(self, gap: float) -> float:
        """Return by which share the curvature may fall along a step that decreases the value by `gap`.

        The change is proportional to the length of a step, and the square of the length to the decrease.
        """
        return max((-bend * math.sqrt(2 * gap / curvature) for bend, curvature in self._steps), default=0.0)

    def fall_behind(self, steps: int) -> float:
        """Return by how much the logarithm of the curvature has fallen along so many last steps, about."""
        return sum(max(-bend, 0.0) for bend, _ in self._steps[-steps:]) if steps else 0.0
