// Encoding as a stream: any number of frames a push, constant memory.
#pragma once

#include "calls.hpp"
#include "geometry.hpp"
#include "tokens.hpp"

namespace vidtok {

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

}  // namespace vidtok
