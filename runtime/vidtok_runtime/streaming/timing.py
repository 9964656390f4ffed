"""How the frames of a clip fall into latents, and both into groups that stand on their own."""

from __future__ import annotations

from dataclasses import dataclass

from vidtok_runtime.bundle.stream_spec import Groups, Length


@dataclass(frozen=True)
class Timing:
    """Frames a latent, copies of the first frame in front of each group, frames a decoder looks ahead.

    length: which lengths groups are padded to. groups: None where the clip is one group. exact: of what latents the
    calls of a decoder take exactly so many, and the result depends on it; None: of none. surplus: whether a decoder
    drops what a group gives beyond its frames, which depends on how many these are.
    """

    time_factor: int
    front_frames: int
    look_ahead: int
    length: Length
    groups: Groups | None
    exact: Length | None = None
    surplus: bool = False

    def latents(self, frames: int) -> int:
        """Latents that so many frames from the start of a group fill or begin."""
        return self._counted(frames, self._of_group(self._rest(frames)))

    def latents_to_decode(self, frames: int) -> int:
        """Latents that a decoder needs to give as many frames from the start of a group, if there are that many."""
        needed = self._of_group(self._rest(frames) + self.look_ahead)
        if self.groups is not None:
            needed = self.groups.latents if self.groups.whole else min(self.groups.latents, needed)
        return self._counted(frames, needed)

    def group_before(self, frame: int) -> tuple[int, int]:
        """First latent and first frame of the group that a frame comes out of; it may share them with one before."""
        if self.groups is None:
            return 0, 0
        index, groups = self._group(frame), self.groups
        return index * (groups.latents - groups.shared_latents), index * (groups.frames - groups.shared_frames)

    def first_frame(self, latent: int) -> int:
        """The first frame that a latent holds."""
        index, rest = 0, latent
        if self.groups is not None:
            index, rest = divmod(latent, self.groups.latents - self.groups.shared_latents)
        before = index * (self.groups.frames - self.groups.shared_frames) if self.groups else 0
        return before + max(0, self.length.within(rest * self.time_factor) - self.front_frames)

    def can_end(self, end: int, frames: int, latents: int) -> bool:
        """Whether the frames before `end` decode alone as they do in a clip of so many frames and latents."""
        first, before = self.group_before(end - 1)
        part = min(latents, self.latents_to_decode(end)) - first
        frames, whole = frames - before, latents - first
        if self.groups is not None:
            frames, whole = min(frames, self.groups.frames), min(whole, self.groups.latents)
        if self.exact is not None and part not in (whole, self.exact.within(part)):
            return False
        return not self.surplus or self._surplus(end - before, part) == self._surplus(frames, whole)

    def _surplus(self, frames: int, latents: int) -> int:
        """What a decoder drops of a group, of whose latents so many are there and of whose frames so many are wanted.

        Leaves out what is the same for all groups.
        """
        if self._of_group(frames) != latents:  # it was cut
            frames = self.length.within(latents * self.time_factor) - self.front_frames
            if self.groups is not None:
                frames = min(frames, self.groups.frames)
        return latents * self.time_factor - self.length.padded(self.front_frames + frames)

    def _group(self, frame: int) -> int:
        """Number of the group that a frame comes out of."""
        if self.groups is None or frame < self.groups.frames:
            return 0
        return 1 + (frame - self.groups.frames) // (self.groups.frames - self.groups.shared_frames)

    def _rest(self, frames: int) -> int:
        """Of so many frames those in the last group, what it shares included."""
        return frames - self.group_before(frames - 1)[1] if frames else 0

    def _counted(self, frames: int, latents: int) -> int:
        """Latents up to those of the last group, which has so many of its own and shared ones."""
        if self.groups is None or frames <= self.groups.frames:
            return latents if frames else 0
        return self.group_before(frames - 1)[0] + max(self.groups.shared_latents, latents)

    def _of_group(self, frames: int) -> int:
        return -(-self.length.padded(self.front_frames + frames) // self.time_factor)
