#include "frames_in.hpp"

#include "colour.hpp"

using vidtok::FormatError;
using vidtok::InputError;
using vidtok::detail::beginning;

namespace {

constexpr std::int64_t max_side = 65536;  // pixels

}  // namespace

FrameReader::FrameReader(const vidtok::fs::path& path, const RawFormat& raw) : path_(path) {
    try {
        file_ = vidtok::open_file(path);
        read_header(raw);
    } catch (const FormatError& error) {
        fail(error.what());
    }
    const std::size_t pixels = width * height, half = ((width + 1) / 2) * ((height + 1) / 2);
    buffer_.resize(chroma_ == Chroma::none ? pixels : chroma_ == Chroma::half ? pixels + 2 * half : 3 * pixels);
    const auto start = static_cast<std::uintmax_t>(ftello(file_.get()));
    const std::uintmax_t marker = chroma_ == Chroma::rgb ? 0 : 6;  // FRAME and the end of the line
    total = static_cast<std::size_t>((vidtok::fs::file_size(path) - start) / (buffer_.size() + marker));
}

void FrameReader::fail(const std::string& what) const {
    throw InputError(vidtok::detail::text_of(path_) + ": " + what);
}

std::string FrameReader::line() {
    std::string text;
    for (int c = std::fgetc(file_.get()); c != '\n'; c = std::fgetc(file_.get())) {
        if (c == EOF || text.size() == 500) throw FormatError("it is no sound Y4M file: a header does not end");
        text += static_cast<char>(c);
    }
    return text;
}

void FrameReader::read_header(const RawFormat& raw) {
    const std::string suffix = vidtok::detail::text_of(path_.extension());
    if (suffix == ".rgb") {
        if (raw.width == 0) throw FormatError("frames without a header need --size WIDTHxHEIGHT");
        width = raw.width;
        height = raw.height;
        fps = raw.fps;
        chroma_ = Chroma::rgb;
        return;
    }
    if (suffix != ".y4m") throw FormatError("frames are read from .y4m or .rgb files; convert it, with ffmpeg say");
    if (raw.width) throw FormatError("a Y4M file says its size itself; leave --size out");
    std::string header = line() + " ", word;
    if (header.substr(0, 10) != "YUV4MPEG2 ") throw FormatError("it does not begin as a Y4M file");
    for (const char c : header.substr(10)) {
        if (c != ' ') {
            word += c;
        } else {
            if (!word.empty()) read_parameter(word);
            word.clear();
        }
    }
    if (width == 0 || height == 0) throw FormatError("its header does not tell width and height");
    if (raw.fps) fps = raw.fps;
    if (!fps) fps = vidtok::Fraction{25, 1};
    time_base = vidtok::Fraction{fps->denominator, fps->numerator};
    const bool range_counts = full_range_ && chroma_ != Chroma::none;
    display = "aspect=" + aspect_ + " matrix=2 primaries=2 transfer=2 range=" + (range_counts ? "full" : "limited");
}

void FrameReader::read_parameter(const std::string& text) {
    const std::string value = text.substr(1);
    const auto size = [&] { return static_cast<std::size_t>(vidtok::detail::parse_digits(value, 6, 1, max_side)); };
    const auto quotient = [&] {
        const auto colon = value.find(':');
        if (colon == std::string::npos) throw FormatError("'" + beginning(text, 40) + "' of its header is no quotient");
        return vidtok::parse_fraction(value.substr(0, colon) + "/" + value.substr(colon + 1));
    };
    if (text[0] == 'W') width = size();
    if (text[0] == 'H') height = size();
    if (text[0] == 'F' && value != "0:0") fps = quotient();
    if (text[0] == 'A' && value != "0:0") aspect_ = quotient().text();
    if (text == "XCOLORRANGE=FULL") full_range_ = true;
    if (text[0] != 'C') return;
    if (value == "420" || value == "420jpeg" || value == "420mpeg2" || value == "420paldv") {
        chroma_ = Chroma::half;
    } else if (value == "444") {
        chroma_ = Chroma::full;
    } else if (value == "mono") {
        chroma_ = Chroma::none;
        full_range_ = true;
    } else {
        throw FormatError("its colours are C" + beginning(value, 40) +
                          "; 8-bit C420, C444 and Cmono are read, convert it with ffmpeg -pix_fmt yuv444p");
    }
}

bool FrameReader::next(std::vector<std::uint8_t>& out) {
    std::size_t found = 0;
    try {
        if (chroma_ != Chroma::rgb) {
            const int c = std::fgetc(file_.get());
            if (c == EOF) return false;
            std::ungetc(c, file_.get());
            if (line().substr(0, 5) != "FRAME")
                throw FormatError("frame " + std::to_string(count_) + " does not begin as one");
        }
        found = vidtok::read_some(file_.get(), buffer_.data(), buffer_.size());
    } catch (const FormatError& error) {
        fail(error.what());
    }
    if (found == 0 && chroma_ == Chroma::rgb) return false;
    if (found < buffer_.size()) {
        fail("it ends in the middle of frame " + std::to_string(count_) + ", after " + std::to_string(found) + " of " +
             std::to_string(buffer_.size()) + " bytes; " + (chroma_ == Chroma::rgb ? "is the --size right, and " : "") +
             "is the file whole?");
    }
    ++count_;
    if (chroma_ == Chroma::rgb) {
        out.insert(out.end(), buffer_.begin(), buffer_.end());
    } else {
        to_rgb(out);
    }
    return true;
}

void FrameReader::to_rgb(std::vector<std::uint8_t>& out) const {
    const Colour colour = Colour::of_size(height, width, full_range_);
    const std::size_t pixels = width * height, columns = (width + 1) / 2;
    const std::uint8_t* first = buffer_.data() + pixels;
    const std::uint8_t* second = first + (buffer_.size() - pixels) / 2;
    for (std::size_t y = 0; y < height; ++y) {
        for (std::size_t x = 0; x < width; ++x) {
            const std::size_t i = y * width + x;
            // Of half the size, each chroma counts for its four pixels, as FFmpeg has it.
            const std::size_t at = chroma_ == Chroma::half ? y / 2 * columns + x / 2 : i;
            const bool grey = chroma_ == Chroma::none;
            for (const std::uint8_t c : colour.to_rgb(buffer_[i], grey ? 128 : first[at], grey ? 128 : second[at])) {
                out.push_back(c);
            }
        }
    }
}
