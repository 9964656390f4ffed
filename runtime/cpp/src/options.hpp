// The command line: what was asked for.
#pragma once

#include <vidtok/error.hpp>
#include <vidtok/predict.hpp>
#include <vidtok/token_info.hpp>

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "frames_in.hpp"

/// A fault of the call; exit code 2.
struct UsageError : vidtok::Error {
    using vidtok::Error::Error;
};

struct Options {
    std::string command;
    std::vector<std::string> files;
    std::string provider;  // empty: the first that was built in
    std::string precision;
    std::size_t threads = 0;
    std::size_t chunk = 0;
    std::size_t max_tile = 0;
    std::size_t max_memory = 0;  // bytes
    std::size_t window = 0;
    std::optional<std::size_t> gop;
    RawFormat raw;
    std::optional<double> time_limit;  // seconds
    bool half = false;
    bool normalize = false;
    bool force = false;
    bool quiet = false;
    bool verify = false;
    bool help = false;
};

inline const char* help_text() {
    return R"(vidtok: video to tokens and back, by the bundles of vidtok-onnx.

  vidtok encode BUNDLE IN.y4m|IN.rgb OUT.safetensors
  vidtok decode BUNDLE IN.safetensors OUT.y4m|OUT.rgb|OUT.f32
  vidtok info BUNDLE|FILE.safetensors

Raw files hold frames [T, H, W, 3] without a header: .rgb 0..255, .f32 float32 in -1..1. Y4M is 8 bits, read as 4:2:0,
4:4:4 or grey, written as 4:4:4; it has no timestamps, and no matrix: BT.709 from 1280 pixels wide or above 576 high,
else BT.601.

  --provider openvino|cpu   inference engine: OpenVINO or ONNX Runtime      [the first that was built in]
  --threads N               CPU threads                                     [one per core]
  --precision NAME          as the bundle offers                            [its first]
  --chunk N                 frames a graph call at most                     [the bundle's]
  --max-memory SIZE         as 4GB: shorter calls, then tiles, to stay      [no limit]
                            below; the same result
  --max-tile N              pixels along an axis that are computed at once  [whole frames]
                            at most: less memory, the same result
  --window N                frames a group, where bundles leave it open     [the bundle's]
  --gop N                   encode: start anew every N latents
  --half                    encode: latents as float16
  --normalize               encode: apply the bundle's latent mean and scale
  --size WxH                encode: size of .rgb frames
  --fps N or N/D            encode: frames a second                         [that of the file]
  --time-limit SECONDS      end after so many, even if a graph never does
  --verify                  info: compare checksums, too
  --force                   replace an existing output
  --quiet                   no progress and no summary

Example: vidtok encode tiny-kl-16chn clip.y4m clip.safetensors && vidtok decode tiny-kl-16chn clip.safetensors back.y4m
)";
}

namespace detail {

inline std::size_t parse_count(const std::string& name, const std::string& text) {
    try {
        return static_cast<std::size_t>(vidtok::detail::parse_digits(text, 5, 1, 65536));
    } catch (const vidtok::FormatError&) {
        throw UsageError(name + " takes a whole number in 1..65536, got '" + text + "'");
    }
}

inline std::size_t parse_size_of_memory(const std::string& text) {
    try {
        return vidtok::parse_memory(text);
    } catch (const vidtok::InputError& error) {
        throw UsageError("--max-memory: " + std::string(error.what()));
    }
}

inline double parse_seconds(const std::string& text) {
    char* end = nullptr;
    const double seconds = std::strtod(text.c_str(), &end);
    const bool plain = !text.empty() && text.find_first_not_of("0123456789.") == std::string::npos;
    if (!plain || *end || !(seconds > 0 && seconds <= 1e9))
        throw UsageError("--time-limit takes seconds above 0, as 60, got '" + text + "'");
    return seconds;
}

inline void parse_size(const std::string& text, RawFormat& raw) {
    const auto x = text.find('x');
    if (x == std::string::npos) throw UsageError("--size takes WIDTHxHEIGHT, as 640x360, got '" + text + "'");
    raw.width = parse_count("--size", text.substr(0, x));
    raw.height = parse_count("--size", text.substr(x + 1));
}

inline vidtok::Fraction parse_rate(const std::string& text) {
    try {
        return vidtok::parse_fraction(text);
    } catch (const vidtok::FormatError&) {
        throw UsageError("--fps takes 30 or 30000/1001, got '" + text + "'");
    }
}

}  // namespace detail

/// Throws UsageError.
inline Options parse_options(const std::vector<std::string>& words) {
    Options options;
    for (std::size_t i = 0; i < words.size(); ++i) {
        const std::string& word = words[i];
        const auto value = [&]() -> const std::string& {
            if (i + 1 == words.size()) throw UsageError(word + " takes a value; vidtok --help lists all");
            return words[++i];
        };
        if (word == "--help" || word == "-h") {
            options.help = true;
        } else if (word == "--provider") {
            options.provider = value();
        } else if (word == "--precision") {
            options.precision = value();
        } else if (word == "--threads") {
            options.threads = detail::parse_count(word, value());
        } else if (word == "--chunk") {
            options.chunk = detail::parse_count(word, value());
        } else if (word == "--max-memory") {
            options.max_memory = detail::parse_size_of_memory(value());
        } else if (word == "--max-tile") {
            options.max_tile = detail::parse_count(word, value());
        } else if (word == "--window") {
            options.window = detail::parse_count(word, value());
        } else if (word == "--gop") {
            options.gop = detail::parse_count(word, value());
        } else if (word == "--time-limit") {
            options.time_limit = detail::parse_seconds(value());
        } else if (word == "--size") {
            detail::parse_size(value(), options.raw);
        } else if (word == "--fps") {
            options.raw.fps = detail::parse_rate(value());
        } else if (word == "--half") {
            options.half = true;
        } else if (word == "--normalize") {
            options.normalize = true;
        } else if (word == "--force") {
            options.force = true;
        } else if (word == "--quiet") {
            options.quiet = true;
        } else if (word == "--verify") {
            options.verify = true;
        } else if (word.size() > 1 && word[0] == '-') {
            throw UsageError("there is no option " + word + "; vidtok --help lists all");
        } else if (options.command.empty()) {
            options.command = word;
        } else {
            options.files.push_back(word);
        }
    }
    if (options.help) return options;
    const bool converts = options.command == "encode" || options.command == "decode";
    if (!converts && options.command != "info")
        throw UsageError("the commands are encode, decode and info; see vidtok --help");
    if (options.files.size() != (converts ? 3U : 1U)) {
        throw UsageError(options.command + " takes " +
                         (converts ? "a bundle, an input and an output" : "one bundle or file") +
                         "; see vidtok --help");
    }
    return options;
}
