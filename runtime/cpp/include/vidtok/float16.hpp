// IEEE 754 half precision, to and from float.
#pragma once

#include <cmath>
#include <cstdint>

namespace vidtok {

constexpr float max_float16 = 65504;

inline float from_float16(std::uint16_t half) {
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    float size = std::ldexp(static_cast<float>(fraction + (exponent ? 1024 : 0)), (exponent ? exponent : 1) - 25);
    if (exponent == 31) size = fraction ? NAN : INFINITY;
    return half >> 15 ? -size : size;
}

/// Rounded to the nearest, halves to even; `value` is finite and at most `max_float16` in size.
inline std::uint16_t to_float16(float value) {
    const float size = std::abs(value);
    int exponent = 0;
    std::frexp(size, &exponent);                 // size = m * 2^exponent, m in [0.5, 1)
    exponent = exponent < -13 ? -13 : exponent;  // below, numbers are as far apart as there
    // As a whole number of the last place; a carry into the exponent comes out right by the addition.
    const auto places = static_cast<std::uint16_t>(std::nearbyint(std::ldexp(size, 11 - exponent)));
    const auto half = static_cast<std::uint16_t>(size == 0 ? 0 : ((exponent + 13) << 10) + places);
    return static_cast<std::uint16_t>(half | (std::signbit(value) ? 0x8000 : 0));
}

}  // namespace vidtok
