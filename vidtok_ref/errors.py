"""What can go wrong while a reference model is described, built or loaded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class ModelError(Exception):
    """Base of every error that `vidtok_ref` raises on purpose; its text names the cure."""


class VariantError(ModelError, ValueError):
    """A variant that does not exist, or a description that no model can be built from."""


class WeightsError(ModelError, ValueError):
    """Weights that cannot be read or do not belong to the variant."""


class MisfitError(WeightsError):
    """Weights whose names or shapes are not those of the model."""


class ShapeError(ModelError, ValueError):
    """A tensor whose axes do not fit the model."""


class DataError(ModelError, ValueError):
    """Training material that is missing or unreadable."""


class MissingError(ModelError, ImportError):
    """A library that is not installed; the text names the extra that brings it."""


class DivergedError(ModelError, ArithmeticError):
    """A training run whose loss or gradient is no longer a finite number."""


@contextlib.contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn the import of a library that is not installed into MissingError, which names the extra that brings it."""
    try:
        yield
    except MissingError:
        raise
    except ImportError as error:
        raise MissingError(f"this needs the extra `{extra}` ({error}); pip install 'vidtok-onnx[{extra}]'") from error
