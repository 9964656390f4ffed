"""How far the H.264 encoder looks ahead: memory that grows with the frame, so large frames get fewer."""

from __future__ import annotations

USUAL, LEAST = 40, 10  # x264's own numbers of frames, of its presets medium and veryfast
PIXELS = 40_000_000  # of all frames ahead; x264 takes 3.3 bytes for each (measured)


def frames_ahead(height: int, width: int) -> int:
    """Frames of a size in pixels that wait in the encoder."""
    return min(USUAL, max(LEAST, PIXELS // (height * width)))
