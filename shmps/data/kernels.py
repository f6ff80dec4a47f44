"""numba kernels over rows in CSR: `indptr` (rows + 1,), `indices` and `data` (non-zeros,)."""

import numpy as np

from shmps.system.compiling import at, kernel


@kernel
def take_rows(indptr, indices, data, chosen):
    """Copy the `chosen` rows (k,): return their indptr, indices and data."""
    out_indptr = np.zeros(len(chosen) + 1, np.int64)
    for i in range(len(chosen)):
        out_indptr[i + 1] = out_indptr[i] + indptr[chosen[i] + 1] - indptr[chosen[i]]
    out_indices = np.empty(out_indptr[-1], indices.dtype)
    out_data = np.empty(out_indptr[-1], data.dtype)
    q = at(0)
    for row in chosen:
        for p in range(at(indptr[row]), at(indptr[row + 1])):
            out_indices[q], out_data[q] = indices[p], data[p]
            q += at(1)
    return out_indptr, out_indices, out_data
