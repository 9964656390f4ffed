// How the frames of a stream fall into latents, and both into groups that stand on their own.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>

#include "error.hpp"

namespace vidtok {

/// The padded length of a stream of frames: `first` plus a multiple of `multiple`.
struct Length {
    std::size_t first = 0;
    std::size_t multiple = 1;

    /// The smallest such length that is not less than `frames`.
    std::size_t padded(std::size_t frames) const {
        return frames <= first ? first : first + (frames - first + multiple - 1) / multiple * multiple;
    }

    friend bool operator==(const Length& a, const Length& b) { return a.first == b.first && a.multiple == b.multiple; }
};

/// How a clip is cut into groups of frames and latents that are streams of their own.
///
/// shared_frames, shared_latents: what a group has in common with the one before. whole: the frames of a group need all
/// of its latents. multiple: another length in frames may be asked for, a multiple of this; none: not.
struct Groups {
    std::size_t frames = 1;
    std::size_t latents = 1;
    std::size_t shared_frames = 0;
    std::size_t shared_latents = 0;
    bool whole = true;
    std::optional<std::size_t> multiple;

    /// Whether both cut alike, whatever other lengths they allow.
    friend bool operator==(const Groups& a, const Groups& b) {
        return a.frames == b.frames && a.latents == b.latents && a.shared_frames == b.shared_frames &&
               a.shared_latents == b.shared_latents && a.whole == b.whole;
    }
};

/// Frames a latent, copies of the first frame in front of each stream, frames a decoder looks ahead, padded lengths.
///
/// groups: none: a clip is one stream.
struct Timing {
    std::size_t time_factor = 1;
    std::size_t front_frames = 0;
    std::size_t look_ahead = 0;
    Length length;
    std::optional<Groups> groups;

    /// Frames of a stream with its padding behind, without that in front.
    std::size_t padded(std::size_t frames) const { return length.padded(front_frames + frames) - front_frames; }

    /// Latents of one stream (a clip, or one group) of so many frames, from 1.
    std::size_t stream_latents(std::size_t frames) const {
        return (length.padded(front_frames + frames) + time_factor - 1) / time_factor;
    }

    /// The most frames, padding behind among them, that a stream of so many latents can hold.
    std::size_t stream_frames(std::size_t latents) const {
        if (groups && latents == groups->latents) return padded(groups->frames);
        const std::size_t most = latents * time_factor;
        if (most < length.first) return 0;
        const std::size_t longest = length.first + (most - length.first) / length.multiple * length.multiple;
        return longest - std::min(longest, front_frames);
    }

    /// Latents that so many frames from the start of a group on fill or begin.
    std::size_t latents(std::size_t frames) const {
        const Place last = last_frame(frames);
        return last.latents_before + std::max(last.shared_latents, stream_latents(last.frames));
    }

    /// Latents that a decoder needs to give as many frames from the start of a group on, if there are that many.
    std::size_t latents_to_decode(std::size_t frames) const {
        const Place last = last_frame(frames);
        std::size_t needed = stream_latents(last.frames + look_ahead);
        if (groups) needed = groups->whole ? groups->latents : std::min(groups->latents, needed);
        return last.latents_before + std::max(last.shared_latents, needed);
    }

    /// Throw FormatError unless the latents of the groups are what their frames come to, and they share less than that.
    void check_groups() const {
        if (groups && (groups->latents != stream_latents(groups->frames) || groups->shared_frames >= groups->frames ||
                       groups->shared_latents >= groups->latents)) {
            throw FormatError("groups of " + std::to_string(groups->frames) + " frames and " +
                              std::to_string(groups->latents) + " latents do not fit each other or what they share");
        }
    }

private:
    /// Where the last of some frames lies: latents before its group, and the frames of that group so far.
    struct Place {
        std::size_t latents_before;
        std::size_t frames;
        std::size_t shared_latents;  // with the group before, if there is one
    };

    Place last_frame(std::size_t frames) const {
        if (!groups || frames <= groups->frames) return {0, frames, 0};
        const std::size_t step = groups->frames - groups->shared_frames;
        const std::size_t before = (frames - groups->frames + step - 1) / step;
        return {before * (groups->latents - groups->shared_latents), frames - before * step,
                groups->shared_latents};
    }
};

}  // namespace vidtok
