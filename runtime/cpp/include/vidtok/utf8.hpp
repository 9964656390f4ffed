// UTF-8, one code point at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "error.hpp"

namespace vidtok {

namespace detail {

/// Code point of the UTF-8 sequence at `at`, which moves behind it; throws FormatError.
inline std::uint32_t next_code_point(std::string_view text, std::size_t& at) {
    const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
    const unsigned first = byte(at);
    const int more = first < 0x80 ? 0 : first >> 5 == 6 ? 1 : first >> 4 == 14 ? 2 : first >> 3 == 30 ? 3 : -1;
    std::uint32_t code = more > 0 ? first & (0x3FU >> more) : first;
    bool sound = more >= 0;
    for (int i = 1; sound && i <= more; ++i) {
        const unsigned next = byte(at + static_cast<std::size_t>(i));
        sound = next >> 6 == 2;
        code = code << 6 | (next & 0x3FU);
    }
    constexpr std::uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    if (!sound || code < least[more] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
        throw FormatError("it is not UTF-8 text");
    }
    at += static_cast<std::size_t>(more) + 1;
    return code;
}

/// The beginning of a text: so many characters at most.
inline std::string beginning(std::string_view text, std::size_t most) {
    std::size_t at = 0;
    while (most-- > 0 && at < text.size()) next_code_point(text, at);
    return std::string(text.substr(0, at));
}

inline void append_utf8(std::string& out, std::uint32_t code) {
    if (code < 0x80) {
        out += static_cast<char>(code);
        return;
    }
    const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    out += static_cast<char>((0xFF00U >> (more + 1) & 0xFFU) | code >> (6 * more));
    for (int i = more - 1; i >= 0; --i) out += static_cast<char>(0x80 | (code >> (6 * i) & 0x3F));
}

}  // namespace detail

}  // namespace vidtok
