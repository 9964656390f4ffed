// Raw RGB and Y4M files, one frame at a time.
#pragma once

#include <vidtok/files.hpp>
#include <vidtok/token_info.hpp>

#include <optional>
#include <string>
#include <vector>

/// What a file is read as besides what it says itself.
struct RawFormat {
    std::size_t width = 0;  // 0: not given
    std::size_t height = 0;
    std::optional<vidtok::Fraction> fps;
};

/// A file of frames, which become uint8 `[H, W, 3]` RGB. Throws vidtok::InputError.
///
/// `.rgb`: frames without a header, of a size that must be given. `.y4m`: 8 bits, 4:4:4, 4:2:0 or grey.
class FrameReader {
public:
    FrameReader(const vidtok::fs::path& path, const RawFormat& raw);

    /// Append the next frame; false at the end.
    bool next(std::vector<std::uint8_t>& out);

    std::size_t width = 0;
    std::size_t height = 0;
    std::optional<vidtok::Fraction> fps;
    std::optional<vidtok::Fraction> time_base;
    std::string display;    // as token files write it; empty for raw RGB
    std::size_t total = 0;  // frames that the file's size promises

private:
    enum class Chroma { rgb, none, full, half };

    void read_header(const RawFormat& raw);
    void read_parameter(const std::string& text);
    std::string line();
    [[noreturn]] void fail(const std::string& what) const;
    void to_rgb(std::vector<std::uint8_t>& out) const;

    vidtok::fs::path path_;
    vidtok::File file_;
    Chroma chroma_ = Chroma::half;
    bool full_range_ = false;
    std::string aspect_ = "1";
    std::vector<std::uint8_t> buffer_;
    std::size_t count_ = 0;
};
