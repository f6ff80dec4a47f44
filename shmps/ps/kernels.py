"""Numba kernels over keys and values. They are serial: the parallelism is that of the processes.

Shapes: `keys` (k,) int64 sorted and unique; `values` (k, width) float64; `state` (k, width, m).
"""

import numpy as np

from shmps.system.compiling import at, kernel
from shmps.system.prefetch import AHEAD, prefetch


@kernel
def cut(keys, bounds, cuts):
    """Cut sorted keys by server: server s has keys[cuts[s]:cuts[s + 1]].

    bounds, cuts: (servers + 1,) int64. Return the position of the first key that lies outside [0, bounds[-1])
    or is not above the key before it; -1 if there is none.
    """
    before, server = -1, 0
    for i in range(len(keys)):
        key = keys[i]
        if key <= before or key >= bounds[-1]:
            return i
        while key >= bounds[server]:
            cuts[server] = i
            server += 1
        before = key
    cuts[server:] = len(keys)
    return -1


@kernel
def _copy(values, out):
    """out[i] = values[i].

    Not `out[:] = values`: for the message of its error numba compiles string formatting, for 1.7 s.
    """
    for i in range(len(values)):
        out[i] = values[i]


@kernel
def gather(rows, keys, out):
    """out[i] = rows[keys[i]]: rows (n, width), out (k or more, width). All arrays here are contiguous.

    Keys without a gap, such as all keys of a partition, are one piece of memory, and one copy.
    """
    count, width = len(keys), rows.shape[1]
    if count > 0 and keys[-1] - keys[0] == count - 1:
        _copy(rows[keys[0] : keys[-1] + 1].ravel(), out.ravel())
        return
    for i in range(count):
        if i + AHEAD < count:
            prefetch(rows, keys[i + AHEAD])
        key = at(keys[i])
        for d in range(width):
            out[i, d] = rows[key, d]


@kernel
def scatter(values, keys, rows):
    """rows[keys[i]] = values[i]: the reverse of `gather`."""
    count, width = len(keys), rows.shape[1]
    if count > 0 and keys[-1] - keys[0] == count - 1:
        _copy(values[:count].ravel(), rows[keys[0] : keys[-1] + 1].ravel())
        return
    for i in range(count):
        key = at(keys[i])
        for d in range(width):
            rows[key, d] = values[i, d]


@kernel
def digest(keys, values, state):
    """A 64-bit sum over the bits of k values (width) and states (m), each mixed with its key and column.

    The mixing is the finaliser of MurmurHash3 (Appleby 2011); sums wrap.
    """
    total = np.uint64(0)
    for i in range(len(keys)):
        for d in range(values.shape[1] + state.shape[1]):
            word = values[i, d] if d < values.shape[1] else state[i, d - values.shape[1]]
            h = np.float64(word).view(np.uint64) ^ (np.uint64(keys[i]) * np.uint64(0x9E3779B97F4A7C15))
            h ^= np.uint64(d) << np.uint64(32)
            h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
            h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
            total += h ^ (h >> np.uint64(33))
    return np.int64(total)


@kernel
def add_scaled(total, values, factor):
    """total += factor * values, (k, width) each."""
    into, more = total.ravel(), values.ravel()  # one loop, which the compiler vectorizes
    for i in range(len(into)):
        into[i] += factor * more[i]


@kernel
def merge(keys, values, more_keys, more_values, factor):
    """Add sparse `values` and `factor` times sparse `more_values`.

    Return the sorted union of the keys, (u,), and the sums, (u, width). Merging two sorted lists costs time
    in proportion to the keys, not to the size of the partition.
    """
    most = len(keys) + len(more_keys)
    width = values.shape[1]
    out_keys, out = np.empty(most, np.int64), np.empty((most, width))
    a = b = count = 0
    while a < len(keys) or b < len(more_keys):
        take_a = b == len(more_keys) or (a < len(keys) and keys[a] <= more_keys[b])
        take_b = a == len(keys) or (b < len(more_keys) and more_keys[b] <= keys[a])
        out_keys[count] = keys[a] if take_a else more_keys[b]
        for d in range(width):
            total = values[a, d] if take_a else 0.0
            out[count, d] = total + factor * more_values[b, d] if take_b else total
        a += take_a
        b += take_b
        count += 1
    return out_keys[:count], out[:count]
