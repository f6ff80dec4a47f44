"""numba kernels of the AUC: which margins are larger than which."""

import numpy as np

from shmps.system.compiling import kernel


@kernel
def parted(margins, positive):
    """Return the margins of the positive rows, and those of the other rows; margins, positive (n,)."""
    ours, others, count = np.empty(len(margins)), np.empty(len(margins)), 0
    for i in range(len(margins)):  # without a branch, which nothing could predict
        ours[count] = others[i - count] = margins[i]
        count += positive[i]
    return ours[:count], others[: len(margins) - count]


@kernel
def won(winners, losers):
    """Return twice the number of pairs in which the winner is larger, plus the number of ties.

    winners, losers: sorted. A merge, so memory is read in sequence.
    """
    below = upto = total = 0
    for winner in winners:
        while below < len(losers) and losers[below] < winner:
            below += 1
        upto = max(upto, below)
        while upto < len(losers) and losers[upto] <= winner:
            upto += 1
        total += below + upto
    return total
