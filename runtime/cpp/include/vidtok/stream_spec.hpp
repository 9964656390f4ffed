// What a model says about its streams, as data: the `stream` of a manifest, from which every call follows.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "fields.hpp"
#include "timing.hpp"

namespace vidtok {

inline const std::string first_call = "first call", second_call = "second call", flush_call = "flush call";

constexpr std::int64_t max_length = 65536;  // of a call, a group, or a padding, in frames or latents

/// One more call at the end of a stream: `size` copies of the last item, of whose output the first `keep` count.
struct Flush {
    std::size_t size = 1;
    std::size_t keep = 0;
};

/// How a stream is cut into calls of a role's graphs, in frames (encoder) or latents (decoder).
///
/// first: exact size of the first call. multiple: every call takes a multiple of it. max: at most so many; none: a
/// whole group in one call. exact: every call but the first takes exactly `max`. The last call takes what is left.
/// drop: what is thrown away of what the first calls give; none: the surplus, all that the calls of a stream give
/// beyond its frames. flags: of each flag the calls in which it is true.
struct CallSpec {
    std::optional<std::size_t> first;
    std::size_t multiple = 1;
    std::optional<std::size_t> max;
    bool exact = false;
    std::optional<std::size_t> drop;
    std::optional<Flush> flush;
    std::map<std::string, std::set<std::string>> flags;

    /// What calls of exact sizes come to; none where sizes change nothing.
    std::optional<Length> exact_sizes() const {
        return exact && max ? std::optional(Length{first.value_or(0), *max}) : std::nullopt;
    }

    /// Size of the next call when so many wait and perhaps more come; 0: it has to wait. opens: no call came before.
    std::size_t next_size(std::size_t waiting, bool opens) const {
        if (opens && first) return waiting >= *first ? *first : 0;
        return max ? full_size(waiting) : 0;
    }

    /// The same when no more come, of one or more that wait.
    std::size_t last_size(std::size_t waiting, bool opens) const {
        if (opens && first && waiting >= *first) return *first;
        const std::size_t full = full_size(waiting);
        return full ? full : waiting;
    }

private:
    std::size_t full_size(std::size_t waiting) const {
        if (exact) return waiting >= *max ? *max : 0;
        return std::min(max.value_or(waiting), waiting - waiting % multiple);
    }
};

/// The release's scale of the latents, a number for each channel: `(latent - mean) / deviation`.
struct LatentScale {
    std::vector<float> mean;
    std::vector<float> deviation;
};

/// The streams of a model. Keys and rules: docs/format.md.
struct StreamSpec {
    std::size_t time_factor = 1;
    std::size_t spatial_multiple = 1;
    bool square = false;
    std::optional<std::size_t> padding_multiple;  // of height and width; none: spatial_multiple
    std::size_t latent_channels = 1;
    std::optional<std::int64_t> codebook_size;
    double low = -1;  // what the darkest pixel becomes
    double high = 1;
    std::optional<LatentScale> latent_scale;
    std::size_t front_frames = 0;
    Length length;
    std::optional<Groups> groups;
    CallSpec encoder;
    CallSpec decoder;

    const CallSpec& calls(const std::string& role) const { return role == "encoder" ? encoder : decoder; }

    /// Frames that a decoder lags behind.
    std::size_t look_ahead() const { return decoder.flush ? decoder.flush->keep : 0; }

    Timing timing() const { return {time_factor, front_frames, look_ahead(), length, groups}; }

    /// The same with groups of another length in frames.
    StreamSpec regrouped(std::size_t frames) const {
        StreamSpec other = *this;
        other.groups->frames = frames;
        other.groups->latents = timing().stream_latents(frames);
        return other;
    }

    /// Whether a clip may be cut so: as the model itself does, in another length of its groups, or, if it has none, in
    /// any that share nothing and decode latent by latent.
    bool allows(const std::optional<Groups>& cut) const {
        if (!groups) return !cut || !(cut->whole || cut->shared_frames || cut->shared_latents);
        if (!cut) return false;
        const bool other_length = groups->multiple && cut->frames % *groups->multiple == 0;
        return *cut == *groups || (other_length && *cut == *regrouped(cut->frames).groups);
    }
};

namespace detail {

inline std::size_t read_size(const Fields& raw, const std::string& name, std::int64_t least, std::int64_t most) {
    return static_cast<std::size_t>(raw.integer(name, least, most));
}

inline std::optional<std::size_t> read_size_or_none(const Fields& raw, const std::string& name, std::int64_t least,
                                                    std::int64_t most) {
    if (raw.is_null(name)) return std::nullopt;
    return read_size(raw, name, least, most);
}

/// What height and width are padded to a multiple of, which need not be told.
inline std::optional<std::size_t> read_padding_multiple(const Fields& raw, std::size_t spatial_multiple) {
    const std::string name = "padding_multiple";
    const auto found = raw.has(name) ? read_size_or_none(raw, name, 1, 4096) : std::nullopt;
    if (found && *found % spatial_multiple) throw FormatError(name + " is no multiple of spatial_multiple");
    return found;
}

inline CallSpec read_call_spec(const Fields& raw) {
    CallSpec calls;
    calls.first = read_size_or_none(raw, "first", 1, max_length);
    calls.multiple = read_size(raw, "multiple", 1, max_length);
    calls.max = read_size_or_none(raw, "max", 1, max_length);
    calls.exact = raw.boolean("exact");
    const Json& drop = raw.get("drop");
    if (drop.kind != Json::Kind::text || drop.text != "surplus") calls.drop = read_size(raw, "drop", 0, max_length);
    if (const auto flush = raw.fields_or_none("flush")) {
        calls.flush = Flush{read_size(*flush, "size", 1, 64), read_size(*flush, "keep", 0, max_length)};
    }
    const Fields flags = raw.fields("flags");
    for (const std::string& name : flags.names()) {
        for (const std::string& call : flags.texts(name)) {
            if (call != first_call && call != second_call && call != flush_call) {
                throw FormatError("the flag " + name + " is set in a call unknown to this runtime: " + call);
            }
            calls.flags[name].insert(call);
        }
        calls.flags[name];  // known, also where it is never set
    }
    return calls;
}

inline std::optional<Groups> read_groups(const std::optional<Fields>& raw) {
    if (!raw) return std::nullopt;
    Groups groups;
    groups.frames = read_size(*raw, "frames", 1, max_length);
    groups.latents = read_size(*raw, "latents", 1, max_length);
    groups.shared_frames = read_size(*raw, "shared_frames", 0, max_length - 1);
    groups.shared_latents = read_size(*raw, "shared_latents", 0, max_length - 1);
    groups.whole = raw->boolean("whole");
    groups.multiple = read_size_or_none(*raw, "multiple", 1, max_length);
    return groups;
}

/// Throw FormatError unless the values of each channel make up the codes.
inline void check_levels(const std::vector<std::int64_t>& levels, const StreamSpec& spec) {
    if (levels.empty()) return;
    std::int64_t left = spec.codebook_size.value_or(0);
    bool sound = levels.size() == spec.latent_channels && left > 0;
    for (const std::int64_t level : levels) {
        sound = sound && level >= 2 && left % level == 0;
        if (sound) left /= level;
    }
    if (!sound || left != 1) throw FormatError("levels do not make up the codes of the codebook");
}

inline std::optional<LatentScale> read_latent_scale(const Fields& raw, std::size_t channels) {
    if (raw.is_null("latent_mean") && raw.is_null("latent_std")) return std::nullopt;
    bool sound = !raw.is_null("latent_mean") && !raw.is_null("latent_std");
    LatentScale scale;
    if (sound) {
        const std::vector<double> mean = raw.numbers("latent_mean", 1024), deviation = raw.numbers("latent_std", 1024);
        sound = mean.size() == channels && deviation.size() == channels;
        sound = sound && std::all_of(deviation.begin(), deviation.end(), [](double x) { return x > 0; });
        scale = {{mean.begin(), mean.end()}, {deviation.begin(), deviation.end()}};
    }
    if (!sound) {
        throw FormatError("latent_mean and latent_std are not " + std::to_string(channels) + " numbers each, or null");
    }
    return scale;
}

inline void check_calls(const StreamSpec& spec) {
    if (spec.encoder.drop != std::size_t{0} || spec.encoder.flush) {
        throw FormatError("the encoder drops or flushes, which only decoders do");
    }
    if (spec.look_ahead() >= spec.time_factor) throw FormatError("the flush call keeps more frames than a latent has");
    for (const CallSpec* calls : {&spec.encoder, &spec.decoder}) {
        const bool whole = spec.groups && !calls->exact;  // a group in one call
        if (calls->max ? *calls->max % calls->multiple != 0 : !whole) {
            throw FormatError("max is no multiple of multiple, or null where there is no group to be taken whole");
        }
    }
}

/// Throw FormatError unless the groups fit the streams, and can have the other lengths that they promise.
inline void check_groups(const StreamSpec& spec) {
    spec.timing().check_groups();
    if (!spec.groups || !spec.groups->multiple) return;
    const Groups& groups = *spec.groups;
    if (*groups.multiple % spec.time_factor || groups.frames % *groups.multiple || groups.shared_frames ||
        groups.shared_latents) {
        throw FormatError("groups of " + std::to_string(groups.frames) + " frames cannot have other lengths");
    }
}

}  // namespace detail

/// The `stream` of a manifest; throws FormatError for what docs/format.md refuses.
inline StreamSpec read_stream_spec(const Fields& raw) {
    StreamSpec spec;
    spec.time_factor = detail::read_size(raw, "time_factor", 1, 64);
    spec.spatial_multiple = detail::read_size(raw, "spatial_multiple", 1, 256);
    spec.square = raw.boolean("square");
    spec.padding_multiple = detail::read_padding_multiple(raw, spec.spatial_multiple);
    spec.latent_channels = detail::read_size(raw, "latent_channels", 1, 1024);
    spec.codebook_size = raw.integer_or_none("codebook_size", 1, 2147483647);
    detail::check_levels(raw.sizes("levels", 1024), spec);
    const std::vector<double> range = raw.numbers("pixel_range", 2);
    if (range.size() != 2 || !(range[0] < range[1])) throw FormatError("pixel_range is not two rising numbers");
    spec.low = range[0];
    spec.high = range[1];
    spec.latent_scale = detail::read_latent_scale(raw, spec.latent_channels);
    spec.front_frames = detail::read_size(raw, "front_frames", 0, static_cast<std::int64_t>(spec.time_factor) - 1);
    const Fields length = raw.fields("length");
    spec.length = {detail::read_size(length, "first", 0, max_length),
                   detail::read_size(length, "multiple", 1, max_length)};
    spec.groups = detail::read_groups(raw.fields_or_none("groups"));
    spec.encoder = detail::read_call_spec(raw.fields("encoder"));
    spec.decoder = detail::read_call_spec(raw.fields("decoder"));
    detail::check_calls(spec);
    detail::check_groups(spec);
    return spec;
}

}  // namespace vidtok
