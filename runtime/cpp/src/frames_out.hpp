// Frames to a raw RGB, float or Y4M file that appears under its name only when complete.
#pragma once

#include <vidtok/geometry.hpp>
#include <vidtok/token_info.hpp>

#include <string>
#include <vector>

#include "colour.hpp"

/// Writes frames as the suffix says: `.rgb` (uint8), `.f32` (float32 in -1..1), both `[T, H, W, 3]` without a header,
/// or
/// `.y4m` (4:4:4, limited range). Throws vidtok::InputError, vidtok::OutputError.
class FrameWriter {
public:
    FrameWriter(const vidtok::fs::path& path, const vidtok::TokenInfo& info, bool force)
        : kind_(checked(path)), part_(path, force), colour_(Colour::of_size(info.height, info.width, false)) {
        if (kind_ != ".y4m") return;
        const vidtok::Fraction rate = info.fps.value_or(vidtok::Fraction{25, 1});
        const std::string header = "YUV4MPEG2 W" + std::to_string(info.width) + " H" + std::to_string(info.height) +
                                   " F" + std::to_string(rate.numerator) + ":" + std::to_string(rate.denominator) +
                                   " Ip A" + aspect(info.display) + " C444 XCOLORRANGE=LIMITED\n";
        part_.write(header.data(), header.size());
    }

    void write(const vidtok::Frames& frames) {
        if (kind_ == ".f32") {
            part_.write(frames.pixels.data(), frames.pixels.size() * sizeof(float));
            return;
        }
        const std::vector<std::uint8_t> bytes = frames.to_uint8();
        if (kind_ == ".rgb") {
            part_.write(bytes.data(), bytes.size());
            return;
        }
        const std::size_t pixels = frames.height * frames.width;
        std::vector<std::uint8_t> planes(3 * pixels);
        for (std::size_t t = 0; t < frames.count; ++t) {
            const std::uint8_t* rgb = bytes.data() + 3 * t * pixels;
            for (std::size_t i = 0; i < pixels; ++i, rgb += 3) {
                const auto yuv = colour_.from_rgb(rgb[0], rgb[1], rgb[2]);
                for (std::size_t c = 0; c < 3; ++c) planes[c * pixels + i] = yuv[c];
            }
            part_.write("FRAME\n", 6);
            part_.write(planes.data(), planes.size());
        }
    }

    void close() { part_.commit(); }

private:
    static std::string checked(const vidtok::fs::path& path) {
        const std::string suffix = vidtok::detail::text_of(path.extension());
        if (suffix != ".y4m" && suffix != ".rgb" && suffix != ".f32") {
            throw vidtok::InputError(vidtok::detail::text_of(path) + ": frames are written as .y4m, .rgb or .f32");
        }
        return suffix;
    }

    /// `4:3` of `aspect=4/3 matrix=...`; 1:1 of anything else.
    static std::string aspect(const std::string& display) {
        try {
            if (display.substr(0, 7) != "aspect=") return "1:1";
            const vidtok::Fraction found = vidtok::parse_fraction(display.substr(7, display.find(' ') - 7));
            return std::to_string(found.numerator) + ":" + std::to_string(found.denominator);
        } catch (const vidtok::FormatError&) {
            return "1:1";
        }
    }

    std::string kind_;
    vidtok::PartFile part_;
    Colour colour_;
};
