// Decoding as a stream: any number of latents a push, constant memory.
#pragma once

#include "calls.hpp"
#include "geometry.hpp"
#include "tokens.hpp"

namespace vidtok {

/// What a decoder cuts off: the tail after so many frames, which must be there, and the edge padding. None keeps it.
struct Crop {
    std::optional<std::size_t> num_frames;
    std::optional<std::size_t> height;
    std::optional<std::size_t> width;
};

/// Latents or tokens in, frames out, of one clip or one group; the frames of the front padding never come out.
///
/// crop: gives at most so many frames. drop: frames to throw away at the start besides those that the manifest tells.
class DecoderStream {
public:
    DecoderStream(StreamSource source, const Crop& crop, std::size_t drop = 0)
        : source_(std::move(source)), spec_(source_.spec), range_(*spec_), crop_(crop), drop_(drop) {}

    /// Make ready for such latents, at least one; throws InputError, and then nothing has changed.
    void open(const Tokens& tokens) {
        check(tokens);
        if (calls_) return;
        const std::size_t m = spec_->spatial_multiple;
        calls_.emplace(source_.calls(tokens.height * m, tokens.width * m, sum(spec_->decoder.drop, drop_)));
        height_ = tokens.height;
        width_ = tokens.width;
    }

    /// Take any number of latents; returns every frame they complete. Throws InputError.
    Frames push(const Tokens& tokens) {
        if (finished_) throw InputError("this decoder is finished; ask the tokenizer for a new one");
        if (tokens.count == 0) return nothing();
        open(tokens);
        Frames out = nothing();
        for (std::size_t i = 0; i < tokens.count; ++i) deliver(calls_->add(step_of(tokens, i)), out);
        latents_ += tokens.count;
        deliver(calls_->run_full(), out);
        return out;
    }

    /// End the stream and return what waited.
    Frames finish() {
        Frames out = nothing();
        if (latents_ && crop_.num_frames != 0 && !finished_) {
            if (!spec_->decoder.drop) calls_->set_drop(surplus() + drop_);
            deliver(calls_->finish(), out);
        }
        finished_ = true;
        return out;
    }

private:
    static std::optional<std::size_t> sum(const std::optional<std::size_t>& a, std::size_t b) {
        return a ? std::optional(*a + b) : std::nullopt;
    }

    bool takes_indices() const { return spec_->codebook_size.has_value(); }

    /// What the calls give in all beyond the frames of the stream. A clip that was cut has more latents than it needs.
    std::size_t surplus() const {
        const Timing timing = spec_->timing();
        const std::size_t wanted = crop_.num_frames.value_or(0) + drop_;
        const bool whole = wanted && timing.stream_latents(wanted) == latents_;
        const std::size_t given = latents_ * timing.time_factor + timing.look_ahead;
        return given - std::min(given, whole ? timing.padded(wanted) : timing.stream_frames(latents_));
    }

    void check(const Tokens& tokens) const {
        const std::size_t size = tokens.count * tokens.step_size(), m = spec_->spatial_multiple;
        if (takes_indices()) {
            const bool whole = tokens.channels == 1 && tokens.indices.size() == size;
            if (!whole) throw InputError("this decoder takes tokens [t, h, w]");
            for (const std::int32_t token : tokens.indices) {
                if (token < 0 || token >= *spec_->codebook_size) {
                    throw InputError("tokens must lie in 0.." + std::to_string(*spec_->codebook_size - 1) + ", got " +
                                     std::to_string(token));
                }
            }
        } else {
            if (tokens.channels != spec_->latent_channels || tokens.latent.size() != size) {
                throw InputError("this decoder takes latents [t, " + std::to_string(spec_->latent_channels) +
                                 ", h, w]");
            }
            if (!std::all_of(tokens.latent.begin(), tokens.latent.end(), [](float x) { return std::isfinite(x); })) {
                throw InputError("latents hold NaN or infinite values");
            }
        }
        if (size == 0 || (height_ && (tokens.height != height_ || tokens.width != width_))) {
            throw InputError("latents of one stream have one size, got " + std::to_string(tokens.width) + "x" +
                             std::to_string(tokens.height));
        }
        const detail::PaddedSize padded = detail::padded_size(*spec_, crop_.height.value_or(tokens.height * m),
                                                              crop_.width.value_or(tokens.width * m));
        if (padded.height != tokens.height * m || padded.width != tokens.width * m) {
            throw InputError("a frame of the size asked for does not have " + std::to_string(tokens.width) + "x" +
                             std::to_string(tokens.height) + " latents");
        }
    }

    Step step_of(const Tokens& tokens, std::size_t i) const {
        const std::size_t size = tokens.step_size();
        Step step{tokens.channels, tokens.height, tokens.width, std::vector<std::uint32_t>(size)};
        const void* from = takes_indices() ? static_cast<const void*>(tokens.indices.data() + i * size)
                                           : static_cast<const void*>(tokens.latent.data() + i * size);
        std::memcpy(step.numbers.data(), from, 4 * size);
        return step;
    }

    void deliver(const std::vector<Step>& steps, Frames& out) {
        const std::size_t m = spec_->spatial_multiple;
        const std::size_t count = std::min(steps.size(), crop_.num_frames.value_or(steps.size()));
        if (out.count == 0) out.pixels.reserve(count * out.height * out.width * 3);
        for (const Step& step : steps) {
            if (step.channels != 3 || step.height != height_ * m || step.width != width_ * m) {
                throw BundleError("the decoder gave frames of a size that the manifest does not tell; export again");
            }
            if (crop_.num_frames == 0) return;
            if (crop_.num_frames) --*crop_.num_frames;
            detail::add_frame(step, range_, out);
        }
    }

    Frames nothing() const {
        const std::size_t m = spec_->spatial_multiple;
        return {0, crop_.height.value_or(height_ * m), crop_.width.value_or(width_ * m), {}};
    }

    StreamSource source_;
    std::shared_ptr<const StreamSpec> spec_;
    std::optional<Calls> calls_;  // as soon as there are latents
    detail::PixelRange range_;
    Crop crop_;               // num_frames counts down
    std::size_t drop_;
    std::size_t height_ = 0;  // of the latents
    std::size_t width_ = 0;
    std::size_t latents_ = 0;
    bool finished_ = false;
};

}  // namespace vidtok
