#include "border.hpp"

namespace vidtok::c {

namespace {

std::string& latest_error() {
    thread_local std::string text;
    return text;
}

}  // namespace

vidtok_status failed(vidtok_status status, const char* what) noexcept {
    std::string& text = latest_error();
    try {
        text = what;
        for (char& c : text) c = static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    } catch (...) {
        text.clear();
    }
    return status;
}

}  // namespace vidtok::c

const char* vidtok_error(void) { return vidtok::c::latest_error().c_str(); }

const char* vidtok_version(void) { return VIDTOK_VERSION; }
