"""numba kernels over rows in CSR: `indptr` (rows + 1,), `indices` and `data` (non-zeros,)."""

import numpy as np

from shmps.system.compiling import kernel


@kernel
def take_rows(indptr, indices, data, chosen):
    """Copy the `chosen` rows (k,): return their indptr, indices and data."""
    out_indptr = np.zeros(len(chosen) + 1, np.int64)
    for i in range(len(chosen)):
        out_indptr[i + 1] = out_indptr[i] + indptr[chosen[i] + 1] - indptr[chosen[i]]
    out_indices = np.empty(out_indptr[-1], indices.dtype)
    out_data = np.empty(out_indptr[-1], data.dtype)
    for i in range(len(chosen)):
        begin = indptr[chosen[i]]
        for p in range(out_indptr[i + 1] - out_indptr[i]):
            out_indices[out_indptr[i] + p] = indices[begin + p]
            out_data[out_indptr[i] + p] = data[begin + p]
    return out_indptr, out_indices, out_data
