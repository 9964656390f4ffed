// What a token file says about itself, and what must agree in it.
#pragma once

#include <map>
#include <numeric>
#include <utility>

#include "manifest.hpp"
#include "timing.hpp"

namespace vidtok {

/// A positive quotient of 32-bit numbers, as frame rates and time bases are.
struct Fraction {
    std::int64_t numerator = 1;
    std::int64_t denominator = 1;

    std::string text() const {
        const std::int64_t common = std::gcd(numerator, denominator);
        const std::string whole = std::to_string(numerator / common);
        return denominator == common ? whole : whole + "/" + std::to_string(denominator / common);
    }
};

namespace detail {

/// Digits alone, at most so many, as a number of the range; throws FormatError.
inline std::int64_t parse_digits(const std::string& text, std::size_t max_digits, std::int64_t least,
                                 std::int64_t most) {
    const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
    const std::int64_t value = digits && text.size() <= max_digits ? std::stoll(text) : -1;
    if (value < least || value > most) throw FormatError("'" + text.substr(0, 40) + "' is no number that fits");
    return value;
}

/// The text, if it tells how pictures are shown: `aspect=1 matrix=1 primaries=1 transfer=1 range=limited`.
inline std::string check_display(std::string text) {
    std::string_view rest = text;
    const auto word = [&](std::string_view name) {
        if (rest.substr(0, name.size()) != name) throw FormatError("'" + text + "' describes no picture");
        rest.remove_prefix(name.size());
    };
    const auto number = [&](std::size_t max_digits, std::int64_t least, std::int64_t most) {
        const std::string_view digits = rest.substr(0, rest.find_first_not_of("0123456789"));
        parse_digits(std::string(digits), max_digits, least, most);
        rest.remove_prefix(digits.size());
    };
    word("aspect=");
    number(9, 1, 999999999);
    if (rest.substr(0, 1) == "/") {
        word("/");
        number(9, 1, 999999999);
    }
    for (const std::string_view name : {" matrix=", " primaries=", " transfer="}) {
        word(name);
        number(3, 0, 255);
    }
    word(" range=");
    word(rest.substr(0, 1) == "f" ? "full" : "limited");
    if (!rest.empty()) throw FormatError("'" + text + "' describes more than a picture");
    return text;
}

}  // namespace detail

/// `25` or `30000/1001`; throws FormatError.
inline Fraction parse_fraction(const std::string& text) {
    const auto slash = text.find('/');
    constexpr std::int64_t most = (std::int64_t{1} << 31) - 1;
    const std::int64_t numerator = detail::parse_digits(text.substr(0, slash), 10, 1, most);
    return {numerator, slash == std::string::npos ? 1 : detail::parse_digits(text.substr(slash + 1), 10, 1, most)};
}

using Metadata = std::vector<std::pair<std::string, std::string>>;

/// What a token file says about itself besides the numbers.
///
/// gop: latents after which the state starts anew. skip: frames that decode before the first that counts (a cut).
struct TokenInfo {
    std::string variant;
    std::string weights_sha256;
    std::size_t num_frames = 0;
    std::size_t height = 0;
    std::size_t width = 0;
    std::size_t time_factor = 1;
    std::size_t front_frames = 0;
    std::size_t look_ahead = 0;
    std::optional<std::int64_t> codebook_size;
    std::optional<Fraction> fps;
    std::optional<Fraction> time_base;
    std::string precision = "fp32";
    std::string provider;
    std::optional<std::size_t> window;  // frames, of a non-causal variant
    std::optional<std::size_t> gop;
    std::size_t skip = 0;
    std::string display;  // pixel shape and colours of the clip, as the Python runtime writes them; may be empty

    /// Strings for the safetensors header, in their order.
    Metadata to_metadata() const {
        Metadata all{{"format", "vidtok-tokens"}, {"format_version", "2"}};
        const auto add = [&](const char* name, const std::string& value) { all.emplace_back(name, value); };
        const auto number = [&](const char* name, auto value) { add(name, std::to_string(value)); };
        add("variant", variant);
        add("weights_sha256", weights_sha256);
        number("num_frames", num_frames);
        number("height", height);
        number("width", width);
        number("time_factor", time_factor);
        number("front_frames", front_frames);
        number("look_ahead", look_ahead);
        if (codebook_size) number("codebook_size", *codebook_size);
        if (fps) add("fps", fps->text());
        if (time_base) add("time_base", time_base->text());
        add("precision", precision);
        add("provider", provider);
        if (window) number("window", *window);
        if (gop) number("gop", *gop);
        number("skip", skip);
        if (!display.empty()) add("display", display);
        return all;
    }

    /// How the frames fall into latents and groups.
    Timing timing() const {
        return {time_factor, front_frames, look_ahead, window ? std::optional(*window / time_factor) : gop,
                window.has_value()};
    }

    /// Throw MismatchError unless the bundle has the variant and the weights that made the tokens.
    void check_bundle(const Manifest& manifest) const {
        if (variant != manifest.variant || weights_sha256 != manifest.weights_sha256) {
            throw MismatchError("these tokens were made by " + variant + " with weights " +
                                weights_sha256.substr(0, 12) + ", the bundle " + manifest.folder.string() + " is " +
                                manifest.variant + " with weights " + manifest.weights_sha256.substr(0, 12) +
                                "; name the bundle that made them");
        }
        if (time_factor != manifest.time_factor || front_frames != manifest.front_frames ||
            look_ahead != manifest.look_ahead || window.has_value() != manifest.window.has_value() ||
            codebook_size != manifest.codebook_size) {
            throw MismatchError("these tokens do not count frames or codes as the bundle " + manifest.folder.string() +
                                " does");
        }
    }

    /// Throw FormatError unless an array of a kind (`latent`, `indices`) and type can hold the tokens of this clip.
    void check_shape(const std::string& kind, const std::string& dtype, const std::vector<std::int64_t>& shape) const {
        const bool latent = kind == "latent", floating = dtype == "F16" || dtype == "F32";
        const bool whole = dtype == "U16" || dtype == "U32" || dtype == "I32";
        if (!(latent ? floating : whole) || latent == codebook_size.has_value()) {
            throw FormatError(kind + " of type " + dtype + " do not go with the codebook");
        }
        std::string text;
        bool sound = shape.size() == (latent ? 4 : 3);
        std::int64_t row = 1;
        for (std::size_t i = 0; i < shape.size(); ++i) {
            text += (i ? ", " : "") + std::to_string(shape[i]);
            sound = sound && shape[i] >= 1;
            if (i && sound) sound = (row *= std::min(shape[i], max_row_ + 1)) <= max_row_;
        }
        if (!sound) throw FormatError(kind + " of shape [" + text + "]");
        if (shape[shape.size() - 2] > static_cast<std::int64_t>(height) ||
            shape.back() > static_cast<std::int64_t>(width)) {
            throw FormatError("more latents than pixels: [" + text + "]");
        }
        const std::size_t frames = skip + num_frames, needed = timing().latents(frames);
        const auto found = static_cast<std::size_t>(shape[0]);
        if (found < needed || found > std::max(needed, timing().latents_to_decode(frames))) {
            throw FormatError("it promises " + std::to_string(frames) + " frames, which need " +
                              std::to_string(needed) + " latents, not " + std::to_string(found));
        }
    }

private:
    // No clip comes near this; a header that goes beyond it must not cost memory.
    static constexpr std::int64_t max_row_ = std::int64_t{1} << 28;
};

/// Inverse of `to_metadata`; throws FormatError for what is missing, of another form, or out of bounds.
inline TokenInfo parse_token_info(const Fields& values) {
    constexpr std::int64_t max_frames = std::int64_t{1} << 40, max_pixels = 65536, max_other = std::int64_t{1} << 31;
    const auto number = [&](const std::string& name, std::int64_t least, std::int64_t most) {
        try {
            return static_cast<std::size_t>(detail::parse_digits(values.text(name), 13, least, most));
        } catch (const FormatError& error) {
            throw FormatError(name + ": " + error.what());
        }
    };
    TokenInfo info;
    info.variant = values.text("variant");
    info.weights_sha256 = values.sha256("weights_sha256");
    info.num_frames = number("num_frames", 1, max_frames);
    info.height = number("height", 1, max_pixels);
    info.width = number("width", 1, max_pixels);
    info.time_factor = number("time_factor", 1, max_other);
    info.front_frames = number("front_frames", 0, max_other);
    info.look_ahead = number("look_ahead", 0, max_other);
    if (values.has("codebook_size"))
        info.codebook_size = static_cast<std::int64_t>(number("codebook_size", 1, max_other));
    if (values.has("fps")) info.fps = parse_fraction(values.text("fps"));
    if (values.has("time_base")) info.time_base = parse_fraction(values.text("time_base"));
    info.precision = values.text("precision");
    info.provider = values.text("provider");
    if (values.has("window")) info.window = number("window", 1, max_other);
    if (values.has("gop")) info.gop = number("gop", 1, max_other);
    info.skip = number("skip", 0, max_frames);
    if (values.has("display")) info.display = detail::check_display(values.text("display"));
    if (info.front_frames >= info.time_factor) throw FormatError("more frames in front than a latent holds");
    if (info.window && (info.gop || *info.window % info.time_factor)) {
        throw FormatError("a window that is no multiple of the frames a latent, or one with a gop");
    }
    return info;
}

}  // namespace vidtok
