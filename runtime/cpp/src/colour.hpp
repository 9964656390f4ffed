// Between luma with chroma and RGB, 8 bits each. Y4M names no matrix: BT.709 from 1280 pixels wide or above 576 high,
// else BT.601, as the Python runtime has it.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

/// Weights of red, green and blue in luma; whether luma goes from 0 to 255 instead of 16 to 235.
struct Colour {
    float red;
    float blue;
    bool full;

    static Colour of_size(std::size_t height, std::size_t width, bool full) {
        const bool is_709 = width >= 1280 || height > 576;
        return is_709 ? Colour{0.2126F, 0.0722F, full} : Colour{0.299F, 0.114F, full};
    }

    float green() const { return 1 - red - blue; }
    float luma_scale() const { return full ? 255.0F : 219.0F; }
    float chroma_scale() const { return full ? 255.0F : 224.0F; }
    float black() const { return full ? 0.0F : 16.0F; }

    std::array<std::uint8_t, 3> to_rgb(float y, float cb, float cr) const {
        const float luma = (y - black()) / luma_scale();
        const float r = luma + 2 * (1 - red) * (cr - 128) / chroma_scale();
        const float b = luma + 2 * (1 - blue) * (cb - 128) / chroma_scale();
        const float g = (luma - red * r - blue * b) / green();
        return {to_byte(255 * r), to_byte(255 * g), to_byte(255 * b)};
    }

    std::array<std::uint8_t, 3> from_rgb(float r, float g, float b) const {
        const float luma = (red * r + green() * g + blue * b) / 255;
        const float cb = (b / 255 - luma) / (2 * (1 - blue)), cr = (r / 255 - luma) / (2 * (1 - red));
        return {to_byte(black() + luma_scale() * luma), to_byte(128 + chroma_scale() * cb),
                to_byte(128 + chroma_scale() * cr)};
    }

private:
    static std::uint8_t to_byte(float x) {
        return static_cast<std::uint8_t>(std::clamp(std::nearbyint(x), 0.0F, 255.0F));
    }
};
