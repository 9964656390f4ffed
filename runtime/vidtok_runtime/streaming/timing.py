"""How the frames of a stream fall into latents, and both into groups that stand on their own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Frames a latent, copies of the first frame in front of each group, frames a decoder looks ahead.

    group: latents after which the state starts anew; None: the stream is one group. windows: a group is a window of
    a non-causal variant, whose frames need all of its latents.
    """

    time_factor: int
    front_frames: int
    look_ahead: int
    group: int | None
    windows: bool

    @property
    def group_frames(self) -> int | None:
        """Frames that the latents of a whole group hold."""
        return None if self.group is None else self.group * self.time_factor - self.front_frames

    def latents(self, frames: int) -> int:
        """Latents that so many frames from the start of a group fill or begin."""
        groups, rest = self._split(frames)
        return groups * (self.group or 0) + (-(-(self.front_frames + rest) // self.time_factor) if rest else 0)

    def latents_to_decode(self, frames: int) -> int:
        """Latents that a decoder needs to give as many frames from the start of a group, if there are that many."""
        groups, rest = self._split(frames)
        if self.group is None:
            return self.latents(frames + self.look_ahead)
        needed = self.group if self.windows else self.latents(rest + self.look_ahead)
        return groups * self.group + (min(self.group, needed) if rest else 0)

    def group_before(self, frame: int) -> tuple[int, int]:
        """First latent and first frame of the group that holds a frame."""
        groups, _ = self._split(frame)
        return groups * (self.group or 0), groups * (self.group_frames or 0)

    def _split(self, frames: int) -> tuple[int, int]:
        return (0, frames) if self.group_frames is None else divmod(frames, self.group_frames)
