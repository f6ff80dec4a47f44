"""The exponential of many numbers at once, in loops that the compiler vectorises: a quarter of libm's time.

Its operations are additions, products and shifts of IEEE numbers, so all machines compute the same bits.
"""

import numpy as np

from shmps.system.compiling import kernel

_LOG2_E = 1.4426950408889634
# Cody & Waite, Software Manual for the Elementary Functions, 1980: the first part of log 2 has so few bits
# that its product with a whole number below 2^11 is exact.
_LOG2_HIGH, _LOG2_LOW = 6.93145751953125e-1, 1.42860682030941723212e-6
_TO_WHOLE = 1.5 * 2.0**52  # added to a number, it leaves the nearest whole number in the lowest bits
_BIAS, _FRACTION_BITS = 1023, 52  # of a float64
_LARGEST = 700.0  # exp(-700) = 1e-304 is a normal number


@kernel
def exponentials(values, out, scratch):
    """out_i = exp(-|values_i|), at least 1e-304, within 2 units in the last place; all (n,) float64.

        exp(-a) = 2^k exp(r),  k = round(-a / log 2),  r = -a - k log 2,  |r| <= log(2) / 2

    exp(r) is its Taylor polynomial of degree 12, which leaves 2e-16. `scratch` is for 2^k.
    """
    for i in range(len(values)):
        a = -abs(values[i])
        a = -_LARGEST if a < -_LARGEST else a  # nan stays
        shifted = a * _LOG2_E + _TO_WHOLE
        k = shifted - _TO_WHOLE
        r = (a - k * _LOG2_HIGH) - k * _LOG2_LOW
        p = 1.0 / 479001600.0
        p = p * r + 1.0 / 39916800.0
        p = p * r + 1.0 / 3628800.0
        p = p * r + 1.0 / 362880.0
        p = p * r + 1.0 / 40320.0
        p = p * r + 1.0 / 5040.0
        p = p * r + 1.0 / 720.0
        p = p * r + 1.0 / 120.0
        p = p * r + 1.0 / 24.0
        p = p * r + 1.0 / 6.0
        p = p * r + 0.5
        p = p * r + 1.0
        p = p * r + 1.0
        out[i], scratch[i] = p, shifted
    bits = scratch.view(np.int64)
    for i in range(len(values)):
        bits[i] = (bits[i] + _BIAS) << _FRACTION_BITS  # which shifts all bits but those of k out
    for i in range(len(values)):
        out[i] *= scratch[i]
