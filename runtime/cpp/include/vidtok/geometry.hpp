// Pixels to network input and back: value range, axes, edge padding, cropping, rounding.
#pragma once

#include <array>

#include "stateful_graph.hpp"

namespace vidtok {

/// Frames `[T, H, W, 3]`, RGB, float in -1..1.
struct Frames {
    std::size_t count = 0;
    std::size_t height = 0;
    std::size_t width = 0;
    std::vector<float> pixels;

    /// The same as 0..255, rounded to the nearest, halves to even.
    std::vector<std::uint8_t> to_uint8() const {
        std::vector<std::uint8_t> bytes(pixels.size());
        std::transform(pixels.begin(), pixels.end(), bytes.begin(),
                       [](float x) { return static_cast<std::uint8_t>(std::nearbyint((x + 1.0F) * 127.5F)); });
        return bytes;
    }
};

namespace detail {

inline std::size_t round_up(std::size_t size, std::size_t multiple) {
    return (size + multiple - 1) / multiple * multiple;
}

/// A frame `[H, W, 3]` of 0..255 to `3 H' W'` in -1..1, edges repeated right and below up to the multiple.
inline Step to_step(const std::uint8_t* frame, std::size_t height, std::size_t width, std::size_t multiple) {
    static const std::array<float, 256> levels = [] {
        std::array<float, 256> all{};
        for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<float>(i) / 127.5F - 1.0F;
        return all;
    }();
    Step step{3, round_up(height, multiple), round_up(width, multiple), {}};
    step.numbers.resize(3 * step.height * step.width);
    std::uint32_t* out = step.numbers.data();
    for (std::size_t c = 0; c < 3; ++c) {
        for (std::size_t y = 0; y < step.height; ++y) {
            const std::uint8_t* row = frame + std::min(y, height - 1) * width * 3;
            for (std::size_t x = 0; x < step.width; ++x) {
                std::memcpy(out++, &levels[row[std::min(x, width - 1) * 3 + c]], 4);
            }
        }
    }
    return step;
}

/// Append `3 H' W'` to frames of a smaller or equal size, cropped and clipped to -1..1.
inline void add_frame(const Step& step, Frames& frames) {
    const std::size_t plane = step.height * step.width;
    for (std::size_t y = 0; y < frames.height; ++y) {
        for (std::size_t x = 0; x < frames.width; ++x) {
            for (std::size_t c = 0; c < 3; ++c) {
                float value = 0;
                std::memcpy(&value, &step.numbers[c * plane + y * step.width + x], 4);
                frames.pixels.push_back(std::clamp(value, -1.0F, 1.0F));
            }
        }
    }
    ++frames.count;
}

}  // namespace detail

}  // namespace vidtok
