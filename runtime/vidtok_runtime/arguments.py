"""What callers hand over, as what is meant: arrays of anything that holds numbers, whole numbers, frame rates."""

from __future__ import annotations

import numbers
import operator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.errors import InputError


def as_array(values: Any, what: str) -> NDArray[Any]:
    """An array as it is, a sequence of arrays stacked, a tensor by `__array__` or DLPack; raises InputError.

    what: what the values are, for messages.
    """
    if isinstance(values, np.ndarray):
        found = values
    elif isinstance(values, (list, tuple)) and values:
        parts = [_converted(part, what) for part in values]
        if len({part.shape for part in parts}) > 1:
            sizes = " and ".join(str(list(shape)) for shape in sorted({part.shape for part in parts})[:2])
            raise InputError(f"{what} of one stream have one size, got {sizes}")
        found = np.stack(parts)
    else:
        found = _converted(values, what)
    if found.ndim == 0 or found.dtype.kind not in "buif":
        raise InputError(f"{what} are an array, a sequence of arrays or a tensor, got {type(values).__name__}")
    return found


def _converted(value: Any, what: str) -> NDArray[Any]:
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except Exception as error:  # of whatever library made it, as for a tensor on a device
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{what} cannot be read as an array: {reason}") from error


def whole(name: str, value: Any, least: int, most: int = 2**31 - 1) -> int:
    """A whole number of the range; raises InputError for all else, 2.0, "2" and True among it."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, (bool, np.bool_)) or not least <= number <= most:
        limit = "" if most == 2**31 - 1 else f" and at most {most}"
        raise InputError(f"{name} must be a whole number of at least {least}{limit}, got {value!r:.60}")
    return number


def frame_rate(value: Any) -> Fraction | None:
    """Frames a second of a number or of text such as `30000/1001`; raises InputError."""
    if value is None:
        return None
    try:
        if not isinstance(value, (numbers.Number, str)) or isinstance(value, bool):
            raise TypeError
        exact = value if isinstance(value, (numbers.Rational, Decimal, str)) else float(value)  # type: ignore[arg-type]
        rate = Fraction(exact)
        if 0 < rate < 10**6:  # a float is no nice fraction, and files have 31 bits for each half of one
            rate = rate.limit_denominator(min(10**6, int((2**31 - 1) / rate)))
        if not 0 < rate < 10**6:
            raise ValueError
    except (TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise InputError(f"fps must be frames a second, as 25 or Fraction(30000, 1001), got {value!r:.60}") from error
    return rate
