"""The numba parser of svmlight text: it fills arrays from bytes, and reports a fault by number and offset.

A text is (bytes,) uint8 and ends with LF, so that every loop ends without a check of bounds. The kernels
release the interpreter's lock: pieces of a text are parsed at the same time.
"""

from typing import Any

import numpy as np

from shmps.system.compiling import compiled

kernel: Any = compiled(nogil=True, error_model="numpy")

TAB, LF, CR, SPACE, HASH, PLUS, MINUS, POINT, COLON = b"\t\n\r #+-.:"
ZERO, UPPER_E, LOWER_E = b"0Ee"

# The kinds of numbers for the parser, and the faults with which it stops.
EXACT, LATE, MALFORMED = range(3)
FINE, BAD_LABEL, BAD_INDEX, BAD_VALUE = range(4)

NUMBER, WORD, FEATURE = range(3)  # how rows start: with a number, any word, or without a label

INDEX_CEILING = 10**18  # stands for an index of more digits; every limit is below it
DIGITS = 18  # that always fit in 64 bits
MANTISSA_EXACT = 2**53  # every integer up to here is a float64
TENS = np.array([float(10**k) for k in range(23)])  # the powers of ten that float64 holds exactly

POWERS = 64  # the tables have 10**-64 to 10**64, each as the sum of two float64
_RATIOS = [(10 ** max(k, 0), 10 ** max(-k, 0)) for k in range(-POWERS, POWERS + 1)]
_HIGH = [above / below for above, below in _RATIOS]


def _rest(above: int, below: int, high: float) -> float:
    """Return above / below - high, rounded once."""
    numerator, denominator = high.as_integer_ratio()
    return (above * denominator - numerator * below) / (below * denominator)


HIGH = np.array(_HIGH)
LOW = np.array([_rest(*ratio, high) for ratio, high in zip(_RATIOS, _HIGH, strict=True)])


@kernel
def census(text):
    """Count (line ends, colons, bytes that no text may have: NUL, and CR without LF)."""
    line_ends, colons, strange = 1, 0, 0
    for i in range(text.size - 1):
        line_ends += text[i] == LF
        colons += text[i] == COLON
        strange += (text[i] == 0) | ((text[i] == CR) & (text[i + 1] != LF))
    return line_ends, colons, strange


@kernel
def parse(text, i, end, base, limit, form, row, entry, labels, lengths, indices, values, late):
    """Fill the arrays from the lines text[i:end].

    Labels (if form is NUMBER) and lengths (entries a row) are filled from `row` on, indices and values from
    `entry` on. `late` gets what Python must read, numbers for float() and words that rows start with: the
    offset of each, and its slot: k for entry k, ~r for the start of row r. Returns (fault, offset of the
    fault, row and entry after the last, number of late ones, largest index or base - 1).
    """
    lates, largest = np.int64(0), base - 1  # typed, as i, row and entry are
    while i < end:
        i = _blanks_end(text, i)
        if not _line_ends(text, i):
            stop, kind = i, EXACT
            if form == NUMBER:
                labels[row], stop, kind = _number(text, i)
            elif form == WORD:
                stop, kind = _word_end(text, i), LATE
            if kind == MALFORMED:
                return BAD_LABEL, i, row, entry, lates, largest
            if kind == LATE:
                late[lates, 0], late[lates, 1] = i, ~row
                lates += 1
            first = entry
            fault, i, entry, lates, last = _parse_features(
                text, stop, base, limit, entry, indices, values, lates, late
            )
            if fault != FINE:
                return fault, i, row, entry, lates, largest
            largest = max(largest, last)
            lengths[row] = entry - first
            row += 1
        while _byte(text, i) != LF:  # a comment, or the CR of CR LF
            i += 1
        i += 1
    return FINE, i, row, entry, lates, largest


@kernel
def _parse_features(text, i, base, limit, entry, indices, values, lates, late):
    """Parse the features of one row from offset i on: (fault, offset, entry, late numbers, last index)."""
    previous = base - 1
    while True:
        i = _blanks_end(text, i)
        if _line_ends(text, i):
            return FINE, i, entry, lates, previous
        index, stop = _integer(text, i)
        if stop == i or _byte(text, stop) != COLON or not previous < index <= limit:
            return BAD_INDEX, i, entry, lates, previous
        start = stop + 1
        value, end, kind = _number(text, start)
        if kind == MALFORMED and not _line_ends(text, _blanks_end(text, start)):
            start = _blanks_end(text, start)  # liblinear reads blanks after the colon
            value, end, kind = _number(text, start)
        if kind == MALFORMED:
            return BAD_VALUE, start, entry, lates, previous
        if kind == LATE:
            late[lates, 0], late[lates, 1] = start, entry
            lates += 1
        indices[entry], values[entry] = index - base, value
        previous = index
        entry += 1
        i = end


@kernel
def _number(text, start):
    """Parse the number text[start:stop]: (value, stop, EXACT), or (no value, stop, LATE or MALFORMED).

    The number is mantissa * 10**power. If mantissa <= 2**53 and |power| <= 22, float64 holds both without
    error, so that their one product or quotient is correctly rounded (Clinger, How to Read Floating Point
    Numbers Accurately, PLDI 1990).
    """
    negative = _byte(text, start) == MINUS
    first = start + (negative or _byte(text, start) == PLUS)
    mantissa, i = _digits(text, first, 0)
    digits, power = i - first, 0
    if _byte(text, i) == POINT:
        mantissa, stop = _digits(text, i + 1, mantissa)
        power = i + 1 - stop
        digits -= power
        i = stop
    if digits and (_byte(text, i) == LOWER_E or _byte(text, i) == UPPER_E):
        exponent, stop = _exponent(text, i + 1)
        digits *= stop > i + 1  # none: malformed
        power += exponent
        i = stop
    if digits == 0 or not (_line_ends(text, i) or _byte(text, i) in (SPACE, TAB)):
        return 0.0, i, MALFORMED
    while digits > DIGITS and (_byte(text, first) == ZERO or _byte(text, first) == POINT):
        digits -= _byte(text, first) == ZERO  # zeros in front do not count
        first += 1
    if digits > DIGITS or abs(power) > POWERS:
        return 0.0, i, LATE
    if mantissa <= MANTISSA_EXACT and abs(power) <= 22:
        value, kind = mantissa / TENS[-power] if power < 0 else mantissa * TENS[power], EXACT
    else:
        value, kind = _product(mantissa, power)
    return -value if negative else value, i, kind


@kernel
def _product(mantissa, power):
    """Return (mantissa * 10**power, EXACT), correctly rounded, or LATE if rounding is too close to call.

    Both factors are sums of two float64, and so is their product, with a relative error below 2**-102
    (Dekker, Numer. Math. 18, 1971). If the sum minus the error and the sum plus the error (taken four times
    as large, to be safe) round to the same number, the product rounds to it too.
    """
    near, high, low = float(mantissa), HIGH[power + POWERS], LOW[power + POWERS]
    whole = near * high
    near_1, near_2 = _halves(near)
    high_1, high_2 = _halves(high)
    rest = ((near_1 * high_1 - whole) + near_1 * high_2 + near_2 * high_1) + near_2 * high_2
    rest += near * low + float(mantissa - np.int64(near)) * high
    error = whole * 2.0**-100
    value = whole + (rest - error)
    return value, EXACT if value == whole + (rest + error) else LATE


@kernel
def _halves(number):
    """Split the number into a sum of two with 26 bits each (Dekker 1971)."""
    shifted = number * (2.0**27 + 1)
    first = shifted - (shifted - number)
    return first, number - first


@kernel
def _exponent(text, start):
    """Parse `5`, `+5` or `-5`: (exponent, stop); stop == start if there is none."""
    negative = _byte(text, start) == MINUS
    first = start + (negative or _byte(text, start) == PLUS)
    exponent, stop = _integer(text, first)
    return -exponent if negative else exponent, stop if stop > first else start


@kernel
def _integer(text, start):
    """Parse the digits at start: (integer or INDEX_CEILING, stop); stop == start if there are none."""
    first = start
    while _byte(text, first) == ZERO:
        first += 1
    value, stop = _digits(text, first, 0)
    return value if stop - first <= DIGITS else INDEX_CEILING, stop


@kernel
def _digits(text, i, value):
    """Append the digits at i to the value: (value modulo 2**64, end of the digits)."""
    while True:
        digit = _byte(text, i) - ZERO
        if digit < 0 or digit > 9:
            return value, i
        value = value * 10 + digit
        i += 1


@kernel
def _blanks_end(text, i):
    """Return the first offset from i on that is neither space nor tab."""
    while _byte(text, i) in (SPACE, TAB):
        i += 1
    return i


@kernel
def _word_end(text, i):
    """Return the first offset from i on that is a blank, or the end of the line."""
    while _byte(text, i) not in (SPACE, TAB, LF, CR):
        i += 1
    return i


@kernel
def _line_ends(text, i):
    """Whether the row ends at i: with the line, or with a comment."""
    return _byte(text, i) in (LF, CR, HASH)


@kernel
def _byte(text, i):
    """Return a byte as int64: uint8 would wrap.

    The offset is unsigned: a signed one may count from the end, and that check took a quarter of the time.
    """
    return np.int64(text[np.uint64(i)])
