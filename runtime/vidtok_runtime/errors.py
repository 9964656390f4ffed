"""What can go wrong at run time. Every text says what was expected, what was found and what to do."""


class VidtokError(Exception):
    """Base of every error that `vidtok_runtime` raises on purpose."""


class BundleError(VidtokError, ValueError):
    """A bundle that is missing, incomplete, altered, or that its manifest does not describe."""


class TokenFileError(VidtokError, ValueError):
    """A token file that is truncated, altered or not a token file."""


class MismatchError(VidtokError, ValueError):
    """Tokens that belong to another variant or to other weights than the bundle."""


class ProviderError(VidtokError, RuntimeError):
    """A provider that is not installed or does not load."""


class VideoError(VidtokError, ValueError):
    """A video that cannot be opened, is truncated or holds no frames."""


class InputError(VidtokError, ValueError):
    """An array, size or option that does not fit."""


class OutputError(VidtokError, OSError):
    """A target that exists already or cannot be written."""


class QuarantineError(VidtokError, RuntimeError):
    """Clips of a data set that could not be tokenized; all the others are finished."""


class ServerError(VidtokError, OSError):
    """An address that cannot be served on, or a page whose files are missing."""
