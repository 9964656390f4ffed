// Pixels to network input and back: value range, axes, edge padding, cropping, rounding.
#pragma once

#include <array>

#include "stateful_chain.hpp"

namespace vidtok {

/// A pixel of -1..1 as 0..255, rounded to the nearest, halves to even; what is beyond, or NaN, is an end.
inline std::uint8_t to_byte(float pixel) {
    if (!(pixel > -1.0F)) return 0;
    return pixel < 1.0F ? static_cast<std::uint8_t>(std::nearbyint((pixel + 1.0F) * 127.5F)) : 255;
}

/// Frames `[T, H, W, 3]`, RGB, float in -1..1.
struct Frames {
    std::size_t count = 0;
    std::size_t height = 0;
    std::size_t width = 0;
    std::vector<float> pixels;

    /// The same as 0..255.
    std::vector<std::uint8_t> to_uint8() const {
        std::vector<std::uint8_t> bytes(pixels.size());
        std::transform(pixels.begin(), pixels.end(), bytes.begin(), to_byte);
        return bytes;
    }
};

namespace detail {

/// The size of what graphs take and give for frames of a size.
struct PaddedSize {
    std::size_t height = 0;
    std::size_t width = 0;
};

inline PaddedSize padded_size(const StreamSpec& spec, std::size_t height, std::size_t width) {
    const auto round_up = [m = spec.padding_multiple.value_or(spec.spatial_multiple)](std::size_t size) { return (size + m - 1) / m * m; };
    const PaddedSize size{round_up(height), round_up(width)};
    const std::size_t larger = std::max(size.height, size.width);
    return spec.square ? PaddedSize{larger, larger} : size;
}

/// Between pixels of -1..1 and the range that the graphs take and give.
class PixelRange {
public:
    explicit PixelRange(const StreamSpec& spec)
        : scale_(static_cast<float>((spec.high - spec.low) / 2)),
          offset_(static_cast<float>((spec.high + spec.low) / 2)) {
        for (std::size_t i = 0; i < levels_.size(); ++i) {
            levels_[i] = (static_cast<float>(i) / 127.5F - 1.0F) * scale_ + offset_;
        }
    }

    const float& of_byte(std::uint8_t byte) const { return levels_[byte]; }
    float back(float value) const { return std::clamp((value - offset_) / scale_, -1.0F, 1.0F); }

private:
    float scale_;
    float offset_;
    std::array<float, 256> levels_{};
};

/// A frame `[H, W, 3]` of 0..255 to `3 H' W'`, edges repeated right and below.
inline Step to_step(const std::uint8_t* frame, std::size_t height, std::size_t width, PaddedSize padded,
                    const PixelRange& range) {
    Step step{3, padded.height, padded.width, std::vector<std::uint32_t>(3 * padded.height * padded.width)};
    std::uint32_t* out = step.numbers.data();
    for (std::size_t c = 0; c < 3; ++c) {
        for (std::size_t y = 0; y < step.height; ++y) {
            const std::uint8_t* row = frame + std::min(y, height - 1) * width * 3;
            for (std::size_t x = 0; x < step.width; ++x) {
                std::memcpy(out++, &range.of_byte(row[std::min(x, width - 1) * 3 + c]), 4);
            }
        }
    }
    return step;
}

/// Append `3 H' W'` to frames of a smaller or equal size, cropped and limited to -1..1.
inline void add_frame(const Step& step, const PixelRange& range, Frames& frames) {
    const std::size_t plane = step.height * step.width;
    frames.pixels.resize((frames.count + 1) * frames.height * frames.width * 3);
    float* out = frames.pixels.data() + frames.count * frames.height * frames.width * 3;
    for (std::size_t y = 0; y < frames.height; ++y) {
        for (std::size_t x = 0; x < frames.width; ++x) {
            for (std::size_t c = 0; c < 3; ++c) {
                float value = 0;
                std::memcpy(&value, &step.numbers[c * plane + y * step.width + x], 4);
                *out++ = range.back(value);
            }
        }
    }
    ++frames.count;
}

}  // namespace detail

}  // namespace vidtok
