// Axes as text, as manifests write them, and the sizes that they stand for.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "error.hpp"

namespace vidtok {

using Shape = std::vector<std::size_t>;
using Sizes = std::map<char, std::size_t>;  // of N, T, H and W

/// Axes one by one; throws FormatError unless they are like `N 512 2 H/8 W/8`.
inline std::vector<std::string> split_axes(const std::string& axes) {
    std::vector<std::string> parts(1);
    for (const char c : axes) {
        if (c == ' ') {
            parts.emplace_back();
        } else {
            parts.back() += c;
        }
    }
    constexpr std::uint64_t max_fixed = std::uint64_t{1} << 24;  // product of the numbers
    std::uint64_t fixed = 1;
    bool sound = parts.size() <= 6;
    for (const std::string& part : parts) {
        const bool symbol = !part.empty() && std::string("NTHW").find(part[0]) != std::string::npos;
        const std::string number = !symbol ? part : part.size() > 1 && part[1] == '/' ? part.substr(2) : part.substr(1);
        const bool digits = number.find_first_not_of("0123456789") == std::string::npos;
        sound = sound && digits && number.size() <= (symbol ? 2 : 6) && (symbol || !number.empty());
        sound = sound && (number.empty() ? part.size() == 1 : number[0] != '0' && (!symbol || part[1] == '/'));
        if (sound && !symbol && fixed <= max_fixed) fixed *= std::stoull(number);
    }
    if (!sound) throw FormatError("the axes '" + axes + "' are not like 'N 512 2 H/8 W/8'");
    if (fixed > max_fixed) throw FormatError("the axes '" + axes + "' are too large");
    return parts;
}

/// Sizes for axes: `N 512 2 H/8 W/8` with N 1, H 64, W 64 is {1, 512, 2, 8, 8}; what is no multiple is rounded up.
inline Shape shape_of(const std::string& axes, const Sizes& sizes) {
    Shape shape;
    for (const std::string& axis : split_axes(axes)) {
        const auto known = sizes.find(axis[0]);
        const std::size_t divisor = axis.size() > 2 && axis[1] == '/' ? std::stoul(axis.substr(2)) : 1;
        shape.push_back(known == sizes.end() ? std::stoul(axis) : (known->second + divisor - 1) / divisor);
    }
    return shape;
}

/// The inverse: what N, T, H and W are when axes have these sizes.
inline Sizes sizes_of(const std::string& axes, const Shape& shape) {
    Sizes sizes;
    const std::vector<std::string> parts = split_axes(axes);
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const std::string& axis = parts[i];
        const std::size_t divisor = axis.size() > 2 && axis[1] == '/' ? std::stoul(axis.substr(2)) : 1;
        if (axis[0] >= 'A') sizes[axis[0]] = shape[i] * divisor;
    }
    return sizes;
}

}  // namespace vidtok
