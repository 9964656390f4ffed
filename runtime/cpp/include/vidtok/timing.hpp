// How the frames of a stream fall into latents, and both into groups that stand on their own.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>

namespace vidtok {

/// Frames a latent, copies of the first frame in front of each group, frames a decoder looks ahead.
///
/// group: latents after which the state starts anew; none: the stream is one group. windows: a group is a window of a
/// non-causal variant, whose frames need all of its latents.
struct Timing {
    std::size_t time_factor = 1;
    std::size_t front_frames = 0;
    std::size_t look_ahead = 0;
    std::optional<std::size_t> group;
    bool windows = false;

    /// Frames that the latents of a whole group hold.
    std::optional<std::size_t> group_frames() const {
        return group ? std::optional(*group * time_factor - front_frames) : std::nullopt;
    }

    /// Latents that so many frames from the start of a group fill or begin.
    std::size_t latents(std::size_t frames) const {
        const auto [groups, rest] = split(frames);
        return groups * group.value_or(0) + (rest ? (front_frames + rest + time_factor - 1) / time_factor : 0);
    }

    /// Latents that a decoder needs to give as many frames from the start of a group, if there are that many.
    std::size_t latents_to_decode(std::size_t frames) const {
        if (!group) return latents(frames + look_ahead);
        const auto [groups, rest] = split(frames);
        const std::size_t needed = windows ? *group : latents(rest + look_ahead);
        return groups * *group + (rest ? std::min(*group, needed) : 0);
    }

private:
    struct Split {
        std::size_t groups;
        std::size_t rest;
    };
    Split split(std::size_t frames) const {
        const std::optional<std::size_t> length = group_frames();
        return length ? Split{frames / *length, frames % *length} : Split{0, frames};
    }
};

}  // namespace vidtok
