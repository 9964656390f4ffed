// Encoding and decoding as streams: any number of frames or latents a push, constant memory.
#pragma once

#include "calls.hpp"
#include "geometry.hpp"

namespace vidtok {

/// Latents `[t, C, h, w]`, or tokens `[t, h, w]` of a variant with a codebook; time first. `channels` is 1 of tokens.
struct Tokens {
    std::size_t count = 0;
    std::size_t channels = 0;
    std::size_t height = 0;
    std::size_t width = 0;
    std::vector<float> latent;
    std::vector<std::int32_t> indices;

    std::size_t step_size() const { return channels * height * width; }

    /// Add others of the same size behind.
    void append(const Tokens& more) {
        if (count == 0) {
            *this = more;
            return;
        }
        latent.insert(latent.end(), more.latent.begin(), more.latent.end());
        indices.insert(indices.end(), more.indices.begin(), more.indices.end());
        count += more.count;
    }
};

/// What opens a stream: the bundle's description, its loaded graph, and how the graph is called.
struct StreamSource {
    std::shared_ptr<const Manifest> manifest;
    std::shared_ptr<LoadedGraph> graph;
    CallRule rule;
};

/// Frames in, latents or tokens out.
///
/// The first frame is repeated in front and, by `finish`, the last one behind, as the manifest says. A non-causal
/// variant encodes windows on their own.
class EncoderStream {
public:
    explicit EncoderStream(const StreamSource& source)
        : manifest_(source.manifest), calls_(source.graph, source.rule) {}

    /// Take `count` frames `[H, W, 3]` of 0..255; returns every latent that is complete. Throws InputError.
    Tokens push(const std::uint8_t* frames, std::size_t count, std::size_t height, std::size_t width) {
        if (finished_) throw InputError("this encoder is finished; ask the tokenizer for a new one");
        if (height == 0 || width == 0) throw InputError("frames must have pixels");
        if (num_frames_ && (height != height_ || width != width_)) {
            throw InputError("frames of one stream are all " + std::to_string(width_) + "x" + std::to_string(height_) +
                             ", got " + std::to_string(width) + "x" + std::to_string(height));
        }
        height_ = height;
        width_ = width;
        Tokens out;
        // Piece by piece, so that a long push costs no more float memory than a short one.
        for (std::size_t i = 0; i < count; ++i) {
            last_ = detail::to_step(frames + i * height * width * 3, height, width, manifest_->spatial_multiple);
            if (num_frames_ == 0) {
                for (std::size_t n = 0; n < manifest_->front_frames; ++n) calls_.add(last_);
            }
            ++num_frames_;
            calls_.add(last_);
            if ((i + 1) % calls_.most() == 0 || i + 1 == count) join(calls_.run_full(), out);
        }
        return out;
    }

    /// Repeat the last frame up to a whole latent; returns what is left, the second time nothing.
    Tokens finish() {
        Tokens out;
        if (finished_ || num_frames_ == 0) return out;
        finished_ = true;
        const std::size_t f = manifest_->time_factor;
        for (std::size_t n = manifest_->front_frames + num_frames_; n % f; ++n) calls_.add(last_);
        join(calls_.run_full(), out);
        join(calls_.finish(), out);
        return out;
    }

    std::size_t num_frames() const { return num_frames_; }

private:
    void join(const std::vector<Step>& steps, Tokens& out) const {
        const std::size_t m = manifest_->spatial_multiple;
        for (const Step& step : steps) {
            const std::size_t channels = manifest_->codebook_size ? 1 : manifest_->latent_channels;
            if (step.channels != channels || step.height != (height_ + m - 1) / m ||
                step.width != (width_ + m - 1) / m) {
                throw BundleError("the encoder gave latents of a size that the manifest does not tell; export again");
            }
            out.channels = step.channels;
            out.height = step.height;
            out.width = step.width;
            ++out.count;
            if (manifest_->codebook_size) {
                append(step, out.indices);
            } else {
                append(step, out.latent);
            }
        }
    }

    template <class Number>
    static void append(const Step& step, std::vector<Number>& out) {
        const std::size_t before = out.size();
        out.resize(before + step.numbers.size());
        std::memcpy(out.data() + before, step.numbers.data(), 4 * step.numbers.size());
    }

    std::shared_ptr<const Manifest> manifest_;
    Calls calls_;
    Step last_;
    std::size_t height_ = 0;
    std::size_t width_ = 0;
    std::size_t num_frames_ = 0;
    bool finished_ = false;
};

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
