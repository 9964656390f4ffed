"""What can go wrong at export."""


class ExportError(Exception):
    """Base of every error that `vidtok_export` raises on purpose."""


class ParityError(ExportError, ArithmeticError):
    """The written bundle does not compute what the reference computes."""


class TargetError(ExportError, OSError):
    """The bundle's folder exists already or cannot be written."""
