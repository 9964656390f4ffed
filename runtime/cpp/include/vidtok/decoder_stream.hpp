// Decoding as a stream: any number of latents a push, constant memory.
#pragma once

#include "calls.hpp"
#include "geometry.hpp"
#include "tokens.hpp"

namespace vidtok {

/// What a decoder cuts off: the tail after so many frames, and the edge padding. None keeps it.
struct Crop {
    std::optional<std::size_t> num_frames;
    std::optional<std::size_t> height;
    std::optional<std::size_t> width;
};

/// Latents or tokens in, frames out; the frames of the front padding never come out.
class DecoderStream {
public:
    DecoderStream(const StreamSource& source, const Crop& crop)
        : manifest_(source.manifest), calls_(source.graph, source.rule), crop_(crop) {}

    /// Take any number of latents; returns every frame they complete. Throws InputError.
    Frames push(const Tokens& tokens) {
        if (finished_) throw InputError("this decoder is finished; ask the tokenizer for a new one");
        Frames out = nothing();
        if (tokens.count == 0) return out;
        check(tokens);
        out = nothing();
        for (std::size_t i = 0; i < tokens.count; ++i) {
            calls_.add(step_of(tokens, i));
            if ((i + 1) % calls_.most() == 0 || i + 1 == tokens.count) deliver(calls_.run_full(), out);
        }
        return out;
    }

    /// End the stream and return what waited; throws InputError when fewer frames came out than were promised.
    Frames finish() {
        Frames out = nothing();
        if (height_ && crop_.num_frames != 0 && !finished_) deliver(calls_.finish(), out);
        finished_ = true;
        if (crop_.num_frames.value_or(0)) {
            throw InputError("the tokens end " + std::to_string(*crop_.num_frames) +
                             " frames too early; the stream is incomplete");
        }
        return out;
    }

private:
    bool takes_indices() const { return manifest_->codebook_size.has_value(); }

    void check(const Tokens& tokens) {
        const std::size_t size = tokens.count * tokens.step_size(), m = manifest_->spatial_multiple;
        if (takes_indices()) {
            const bool whole = tokens.channels == 1 && tokens.indices.size() == size;
            if (!whole) throw InputError("this decoder takes tokens [t, h, w]");
            for (const std::int32_t token : tokens.indices) {
                if (token < 0 || token >= *manifest_->codebook_size) {
                    throw InputError("tokens must lie in 0.." + std::to_string(*manifest_->codebook_size - 1) +
                                     ", got " + std::to_string(token));
                }
            }
        } else {
            if (tokens.channels != manifest_->latent_channels || tokens.latent.size() != size) {
                throw InputError("this decoder takes latents [t, " + std::to_string(manifest_->latent_channels) +
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
        if ((crop_.height && (*crop_.height + m - 1) / m != tokens.height) ||
            (crop_.width && (*crop_.width + m - 1) / m != tokens.width)) {
            throw InputError("a frame of the size asked for does not have " + std::to_string(tokens.width) + "x" +
                             std::to_string(tokens.height) + " latents");
        }
        height_ = tokens.height;
        width_ = tokens.width;
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
        const std::size_t m = manifest_->spatial_multiple;
        for (const Step& step : steps) {
            if (step.channels != 3 || step.height != height_ * m || step.width != width_ * m) {
                throw BundleError("the decoder gave frames of a size that the manifest does not tell; export again");
            }
            if (crop_.num_frames == 0) return;
            if (crop_.num_frames) --*crop_.num_frames;
            detail::add_frame(step, out);
        }
    }

    Frames nothing() const {
        const std::size_t m = manifest_->spatial_multiple;
        return {0, crop_.height.value_or(height_ * m), crop_.width.value_or(width_ * m), {}};
    }

    std::shared_ptr<const Manifest> manifest_;
    Calls calls_;
    Crop crop_;               // num_frames counts down
    std::size_t height_ = 0;  // of the latents
    std::size_t width_ = 0;
    bool finished_ = false;
};

}  // namespace vidtok
