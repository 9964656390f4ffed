// What a token file says about itself, and what must agree in it.
#pragma once

#include <map>
#include <numeric>
#include <utility>

#include "manifest.hpp"

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
    if (value < least || value > most) throw FormatError("'" + beginning(text, 40) + "' is no number that fits");
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

inline std::string text_of(const Length& length) {
    return "first=" + std::to_string(length.first) + " multiple=" + std::to_string(length.multiple);
}

inline std::string text_of(const Groups& groups) {
    return "frames=" + std::to_string(groups.frames) + " latents=" + std::to_string(groups.latents) +
           " shared_frames=" + std::to_string(groups.shared_frames) +
           " shared_latents=" + std::to_string(groups.shared_latents) + " whole=" + (groups.whole ? "1" : "0");
}

}  // namespace detail

/// `25` or `30000/1001`; throws FormatError.
inline Fraction parse_fraction(const std::string& text) {
    const auto slash = text.find('/');
    constexpr std::int64_t most = (std::int64_t{1} << 31) - 1;
    const std::int64_t numerator = detail::parse_digits(text.substr(0, slash), 10, 1, most);
    return {numerator, slash == std::string::npos ? 1 : detail::parse_digits(text.substr(slash + 1), 10, 1, most)};
}

/// Throw FormatError unless timestamps rise.
inline void check_rising(const std::vector<std::int64_t>& pts) {
    for (std::size_t i = 1; i < pts.size(); ++i) {
        if (pts[i] <= pts[i - 1]) throw FormatError("its timestamps do not rise");
    }
}

using Metadata = std::vector<std::pair<std::string, std::string>>;

/// What a token file says about itself besides the numbers.
///
/// groups: how frames and latents fall into streams; none: the clip is one. exact: of what latents the calls of the
/// decoder take exactly so many; surplus: whether it drops the surplus; both tell programs that cut what to keep. skip:
/// frames that decode before the first that counts (a cut). sampled: the seed with which latents were drawn from the
/// posterior; none: they are its mean.
/// normalized: the bundle's latent mean and scale were applied. last_duration: how long the last frame is shown.
struct TokenInfo {
    std::string family;
    std::string name;
    std::string weights_sha256;
    std::size_t num_frames = 0;
    std::size_t height = 0;
    std::size_t width = 0;
    std::size_t time_factor = 1;
    std::size_t front_frames = 0;
    std::size_t look_ahead = 0;
    Length length;
    std::optional<std::int64_t> codebook_size;
    std::optional<Groups> groups;
    std::optional<Length> exact;
    bool surplus = false;
    std::optional<Fraction> fps;
    std::optional<Fraction> time_base;
    std::string precision = "fp32";
    std::string provider;
    std::size_t skip = 0;
    std::optional<std::size_t> sampled;
    bool normalized = false;
    std::string display;  // pixel shape and colours of the clip, as the Python runtime writes them; may be empty
    std::optional<std::size_t> last_duration;

    /// Strings for the safetensors header, in their order.
    Metadata to_metadata() const {
        Metadata all{{"format", "vidtok-tokens"}, {"format_version", "3"}};
        const auto add = [&](const char* key, const std::string& value) { all.emplace_back(key, value); };
        const auto number = [&](const char* key, auto value) { add(key, std::to_string(value)); };
        add("family", family);
        add("name", name);
        add("weights_sha256", weights_sha256);
        number("num_frames", num_frames);
        number("height", height);
        number("width", width);
        number("time_factor", time_factor);
        number("front_frames", front_frames);
        number("look_ahead", look_ahead);
        add("length", detail::text_of(length));
        if (codebook_size) number("codebook_size", *codebook_size);
        if (groups) add("groups", detail::text_of(*groups));
        if (exact) add("exact", detail::text_of(*exact));
        if (surplus) add("surplus", "1");
        if (fps) add("fps", fps->text());
        if (time_base) add("time_base", time_base->text());
        add("precision", precision);
        add("provider", provider);
        number("skip", skip);
        if (sampled) number("sampled", *sampled);
        if (normalized) add("normalized", "1");
        if (!display.empty()) add("display", display);
        if (last_duration) number("last_duration", *last_duration);
        return all;
    }

    /// How the frames fall into latents and groups.
    Timing timing() const { return {time_factor, front_frames, look_ahead, length, groups}; }

    /// Throw MismatchError unless the bundle is the one that made the tokens.
    void check_bundle(const Manifest& manifest) const {
        if (family != manifest.family || name != manifest.name || weights_sha256 != manifest.weights_sha256) {
            throw MismatchError("these tokens were made by " + name + " (" + family + ") with weights " +
                                weights_sha256.substr(0, 12) + ", the bundle " +
                                detail::text_of(manifest.folder) + " is " + manifest.name + " (" +
                                manifest.family + ") with weights " +
                                manifest.weights_sha256.substr(0, 12) + "; name the bundle that made them");
        }
        const StreamSpec& stream = manifest.stream;
        if (time_factor != stream.time_factor || front_frames != stream.front_frames ||
            look_ahead != stream.look_ahead() || !(length == stream.length) || codebook_size != stream.codebook_size ||
            !stream.allows(groups)) {
            throw MismatchError("these tokens do not count frames or codes as the bundle " +
                                detail::text_of(manifest.folder) + " does");
        }
        if (normalized && !stream.latent_scale) {
            throw MismatchError("these latents are normalized, but the bundle " + detail::text_of(manifest.folder) +
                                " has no mean and scale of latents; export it again");
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
        // Frames may be padded to squares, of which latents are squares, too.
        const std::int64_t rows = shape[shape.size() - 2], columns = shape.back();
        const std::size_t larger = std::max(height, width);
        if (rows > static_cast<std::int64_t>(rows == columns ? larger : height) ||
            columns > static_cast<std::int64_t>(rows == columns ? larger : width)) {
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

namespace detail {

/// Whole numbers and words between them: `first=0 multiple=4` has the words `first=` and ` multiple=`.
inline std::vector<std::int64_t> parse_numbers(const std::string& text, const std::vector<std::string_view>& words) {
    std::string_view rest = text;
    std::vector<std::int64_t> numbers;
    for (const std::string_view word : words) {
        if (rest.substr(0, word.size()) != word) throw FormatError("'" + text + "' says something else");
        rest.remove_prefix(word.size());
        const std::string_view digits = rest.substr(0, rest.find_first_not_of("0123456789"));
        numbers.push_back(parse_digits(std::string(digits), 13, 0, max_length));
        rest.remove_prefix(digits.size());
    }
    if (!rest.empty()) throw FormatError("'" + text + "' says more than it should");
    return numbers;
}

inline Length parse_length(const std::string& text) {
    const std::vector<std::int64_t> found = parse_numbers(text, {"first=", " multiple="});
    if (found[1] == 0) throw FormatError("a length that is a multiple of 0");
    return {static_cast<std::size_t>(found[0]), static_cast<std::size_t>(found[1])};
}

inline Groups parse_groups(const std::string& text) {
    const std::vector<std::int64_t> found =
        parse_numbers(text, {"frames=", " latents=", " shared_frames=", " shared_latents=", " whole="});
    const std::string end = text.substr(text.size() - 7);
    if (found[0] == 0 || found[1] == 0 || (end != "whole=0" && end != "whole=1")) {
        throw FormatError("'" + text + "' are no groups");
    }
    const auto at = [&](std::size_t i) { return static_cast<std::size_t>(found[i]); };
    return {at(0), at(1), at(2), at(3), found[4] == 1, std::nullopt};
}

}  // namespace detail

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
    const std::string version = values.one_of("format_version", {"2", "3"});
    const bool old = version == "2";
    TokenInfo info;
    info.family = old ? "vidtok" : values.text("family");
    info.name = values.text(old ? "variant" : "name");
    info.weights_sha256 = values.sha256("weights_sha256");
    info.num_frames = number("num_frames", 1, max_frames);
    info.height = number("height", 1, max_pixels);
    info.width = number("width", 1, max_pixels);
    info.time_factor = number("time_factor", 1, max_other);
    info.front_frames = number("front_frames", 0, max_other);
    info.look_ahead = number("look_ahead", 0, max_other);
    info.length = old ? Length{0, info.time_factor} : detail::parse_length(values.text("length"));
    if (values.has("codebook_size"))
        info.codebook_size = static_cast<std::int64_t>(number("codebook_size", 1, max_other));
    if (std::max(info.front_frames, info.look_ahead) >= info.time_factor) {
        throw FormatError("more frames in front, or looked ahead, than a latent holds");
    }
    if (!old && values.has("groups")) info.groups = detail::parse_groups(values.text("groups"));
    if (!old && values.has("exact")) info.exact = detail::parse_length(values.text("exact"));
    info.surplus = !old && values.has("surplus") && number("surplus", 1, 1) == 1;
    if (old && values.has("window")) {
        const std::size_t window = number("window", 1, max_other);
        if (values.has("gop") || window % info.time_factor) {
            throw FormatError("a window that is no multiple of the frames a latent, or one with a gop");
        }
        info.groups = Groups{window, window / info.time_factor, 0, 0, true, std::nullopt};
    } else if (old && values.has("gop")) {
        const std::size_t gop = number("gop", 1, max_other);
        info.groups = Groups{gop * info.time_factor - info.front_frames, gop, 0, 0, false, std::nullopt};
    }
    info.timing().check_groups();
    if (values.has("fps")) info.fps = parse_fraction(values.text("fps"));
    if (values.has("time_base")) info.time_base = parse_fraction(values.text("time_base"));
    info.precision = values.text("precision");
    info.provider = values.text("provider");
    info.skip = number("skip", 0, max_frames);
    if (!old && values.has("sampled")) info.sampled = number("sampled", 0, (std::int64_t{1} << 32) - 1);
    info.normalized = !old && values.has("normalized") && number("normalized", 1, 1) == 1;
    if (info.codebook_size && (info.sampled || info.normalized)) {
        throw FormatError("tokens of a codebook are neither sampled nor normalized");
    }
    if (values.has("display")) info.display = detail::check_display(values.text("display"));
    if (values.has("last_duration")) info.last_duration = number("last_duration", 1, max_frames);
    if (values.has("resampling")) values.text("resampling");  // without meaning here
    return info;
}

}  // namespace vidtok
