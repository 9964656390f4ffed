#include "border.hpp"

#include <vidtok/utf8.hpp>

namespace vidtok::c {

namespace {

std::string& latest_error() {
    thread_local std::string text;
    return text;
}

/// Text as one line in UTF-8, whatever bytes a graph or a path has brought into it.
std::string line_of(std::string text) {
    for (std::size_t at = 0; at < text.size();) {
        try {
            if (detail::next_code_point(text, at) < 0x20) text[at - 1] = ' ';
        } catch (const FormatError&) {
            text[at++] = '?';
        }
    }
    return text;
}

}  // namespace

vidtok_status failed(vidtok_status status, const char* what) noexcept {
    std::string& text = latest_error();
    try {
        text = line_of(what);
    } catch (...) {
        text.clear();
    }
    return status;
}

}  // namespace vidtok::c

const char* vidtok_error(void) { return vidtok::c::latest_error().c_str(); }

const char* vidtok_version(void) { return VIDTOK_VERSION; }
