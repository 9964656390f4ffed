// Encoding as a stream: any number of frames a push, constant memory.
#pragma once

#include "calls.hpp"
#include "geometry.hpp"
#include "tokens.hpp"

namespace vidtok {

/// Frames in, latents or tokens out, of one clip or one group.
///
/// The first frame is repeated in front and, by `finish`, the last one behind, as the manifest says. drop: latents to
/// throw away at the start.
class EncoderStream {
public:
    explicit EncoderStream(StreamSource source, std::size_t drop = 0)
        : source_(std::move(source)), spec_(source_.spec), drop_(drop), range_(*spec_) {}

    /// Make ready for frames of a size; throws InputError, and then nothing has changed.
    void open(std::size_t height, std::size_t width) {
        if (height == 0 || width == 0) throw InputError("frames must have pixels");
        if (calls_ && (height != height_ || width != width_)) {
            throw InputError("frames of one stream are all " + std::to_string(width_) + "x" + std::to_string(height_) +
                             ", got " + std::to_string(width) + "x" + std::to_string(height));
        }
        if (calls_) return;
        const detail::PaddedSize padded = detail::padded_size(*spec_, height, width);
        calls_.emplace(source_.calls(padded.height, padded.width, drop_));
        padded_ = padded;
        height_ = height;
        width_ = width;
    }

    /// Take `count` frames `[H, W, 3]` of 0..255; returns every latent that is complete. Throws InputError.
    Tokens push(const std::uint8_t* frames, std::size_t count, std::size_t height, std::size_t width) {
        if (finished_) throw InputError("this encoder is finished; ask the tokenizer for a new one");
        open(height, width);
        Tokens out;
        // Piece by piece, so that a long push costs no more float memory than a short one.
        for (std::size_t i = 0; i < count; ++i) {
            last_ = detail::to_step(frames + i * height * width * 3, height, width, padded_, range_);
            for (std::size_t n = num_frames_ == 0 ? spec_->front_frames : 0; n > 0; --n) join(calls_->add(last_), out);
            join(calls_->add(last_), out);
            ++num_frames_;
        }
        join(calls_->run_full(), out);
        return out;
    }

    /// Repeat the last frame up to the padded length; returns what is left, the second time nothing.
    Tokens finish() {
        Tokens out;
        if (finished_ || num_frames_ == 0) return out;
        finished_ = true;
        for (std::size_t n = spec_->timing().padded(num_frames_); n > num_frames_; --n) join(calls_->add(last_), out);
        join(calls_->finish(), out);
        return out;
    }

    std::size_t num_frames() const { return num_frames_; }

private:
    void join(const std::vector<Step>& steps, Tokens& out) const {
        const std::size_t m = spec_->spatial_multiple;
        for (const Step& step : steps) {
            const std::size_t channels = spec_->codebook_size ? 1 : spec_->latent_channels;
            if (step.channels != channels || step.height != padded_.height / m || step.width != padded_.width / m) {
                throw BundleError("the encoder gave latents of a size that the manifest does not tell; export again");
            }
            out.channels = step.channels;
            out.height = step.height;
            out.width = step.width;
            ++out.count;
            if (spec_->codebook_size) {
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

    StreamSource source_;
    std::shared_ptr<const StreamSpec> spec_;
    std::size_t drop_;
    std::optional<Calls> calls_;  // as soon as there are frames
    detail::PixelRange range_;
    Step last_;
    detail::PaddedSize padded_;
    std::size_t height_ = 0;
    std::size_t width_ = 0;
    std::size_t num_frames_ = 0;
    bool finished_ = false;
};

}  // namespace vidtok
