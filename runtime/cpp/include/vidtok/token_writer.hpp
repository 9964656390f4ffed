// Writing a token file: one safetensors file, chunk by chunk in constant memory.
//
// Layout: `latent` or `indices` first, time outermost, then `pts`; the header's space is reserved at the start and
// filled in at the end. https://github.com/huggingface/safetensors has the format.
#pragma once

#include "float16.hpp"
#include "token_info.hpp"
#include "tokens.hpp"
#include "work.hpp"

namespace vidtok {

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "token files are little-endian, and so must the machine be"
#endif

/// Appends latents or tokens to a token file that appears under its name only when complete.
class TokenWriter {
public:
    /// half: latents are stored as float16. Throws OutputError.
    TokenWriter(const fs::path& path, std::optional<std::int64_t> codebook_size, bool half, bool force)
        : codes_(codebook_size),
          dtype_(codebook_size ? (*codebook_size <= 65536 ? "U16" : "I32") : (half ? "F16" : "F32")),
          part_(path, force) {
        const std::vector<char> room(header_size_, '\0');
        part_.write(room.data(), room.size());
    }

    /// Add latents `[t, C, h, w]` or tokens `[t, h, w]`; throws InputError, which changes nothing, and OutputError.
    void append(const Tokens& tokens) {
        check_open();
        if (tokens.count == 0) return;
        const std::size_t numbers = codes_ ? tokens.indices.size() : tokens.latent.size();
        if (numbers != tokens.count * tokens.step_size() || (codes_ && tokens.channels != 1)) {
            throw InputError(std::string("this file takes ") + (codes_ ? "indices [t, h, w]" : "latents [t, C, h, w]") +
                             ", as many as their sizes say");
        }
        std::vector<std::int64_t> shape{static_cast<std::int64_t>(tokens.height),
                                        static_cast<std::int64_t>(tokens.width)};
        if (!codes_) shape.insert(shape.begin(), static_cast<std::int64_t>(tokens.channels));
        if (count_ && shape != shape_) throw InputError("tokens of one file have one size");
        if (dtype_ == "F32") {
            write(tokens.latent);
        } else if (dtype_ == "F16") {
            std::vector<std::uint16_t> halves;
            for (const float x : tokens.latent) {
                if (!(std::abs(x) <= max_float16)) {
                    throw InputError("a latent is too large for float16; store float32 latents");
                }
                halves.push_back(to_float16(x));
            }
            write(halves);
        } else {
            for (const std::int32_t token : tokens.indices) {
                if (token < 0 || token >= *codes_) {
                    throw InputError("tokens must lie in 0.." + std::to_string(*codes_ - 1) + ", got " +
                                     std::to_string(token));
                }
            }
            if (dtype_ == "I32") {
                write(tokens.indices);
            } else {
                write(std::vector<std::uint16_t>(tokens.indices.begin(), tokens.indices.end()));
            }
        }
        shape_ = shape;
        count_ += tokens.count;
    }

    /// Write timestamps and header, then give the file its name; throws InputError when they do not fit, OutputError.
    void close(const TokenInfo& info, const std::vector<std::int64_t>& pts) {
        check_open();
        std::vector<std::int64_t> shape = shape_;
        shape.insert(shape.begin(), static_cast<std::int64_t>(count_));
        const std::string name = codes_ ? "indices" : "latent";
        std::string metadata;
        try {
            for (const auto& [key, value] : info.to_metadata()) {
                metadata += (metadata.empty() ? "" : ",") + quote_json(key) + ":" + quote_json(value);
            }
            const Json written = parse_json("{" + metadata + "}");
            parse_token_info(Fields(written, "its metadata"));  // what is written can be read
            info.check_shape(name, dtype_, shape);
            if (pts.size() != info.num_frames) {
                throw FormatError(std::to_string(info.num_frames) + " frames do not have as many timestamps, but " +
                                  std::to_string(pts.size()));
            }
            check_rising(pts);
        } catch (const FormatError& error) {
            throw InputError(std::string("these tokens do not fit their description: ") + error.what());
        }
        finished_ = true;
        const std::size_t size = size_;
        const std::size_t padding = (8 - size % 8) % 8;  // keeps pts aligned
        write(std::vector<char>(padding, '\0'));
        write(pts);
        std::string header = "{\"__metadata__\":{" + metadata + ",\"checksum\":\"sha256:" + sum_.hex() + "\"}," +
                             entry(name, dtype_, shape, 0, size);
        const auto one = [](std::size_t n) { return std::vector<std::int64_t>{static_cast<std::int64_t>(n)}; };
        if (padding) header += "," + entry("padding", "U8", one(padding), size, size + padding);
        header += "," + entry("pts", "I64", one(pts.size()), size + padding, size_) + "}";
        const std::size_t room = header_size_ - 8;
        if (header.size() > room) {
            throw InputError("the header needs " + std::to_string(header.size()) + " bytes, " + std::to_string(room) +
                             " are reserved");
        }
        header.resize(room, ' ');
        std::string prefix;
        for (int i = 0; i < 8; ++i) prefix += static_cast<char>(room >> (8 * i) & 0xFF);
        part_.write_at(0, prefix + header);
        part_.commit();
    }

private:
    void check_open() const {
        work_.check();
        if (finished_) throw InputError("this token file is finished; open a new writer");
    }

    template <class Number>
    void write(const std::vector<Number>& numbers) {
        const std::size_t size = numbers.size() * sizeof(Number);
        work_.run([&] { part_.write(numbers.data(), size); });
        sum_.update(numbers.data(), size);
        size_ += size;
    }

    static std::string entry(const std::string& name, const std::string& dtype, const std::vector<std::int64_t>& shape,
                             std::size_t start, std::size_t end) {
        std::string sizes;
        for (const std::int64_t n : shape) sizes += (sizes.empty() ? "" : ",") + std::to_string(n);
        return quote_json(name) + ":{\"dtype\":\"" + dtype + "\",\"shape\":[" + sizes + "],\"data_offsets\":[" +
               std::to_string(start) + "," + std::to_string(end) + "]}";
    }

    static constexpr std::size_t header_size_ = 2048;  // bytes, length field included; a multiple of 8

    std::optional<std::int64_t> codes_;
    std::string dtype_;
    PartFile part_;
    detail::Work work_;
    Sha256 sum_;
    std::vector<std::int64_t> shape_;  // of one time step
    std::size_t count_ = 0;
    std::size_t size_ = 0;  // bytes behind the header
    bool finished_ = false;
};

}  // namespace vidtok
