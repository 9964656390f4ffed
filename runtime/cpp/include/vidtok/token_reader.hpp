// Reading a token file piece by piece, and believing nothing that its header says before it is checked.
#pragma once

#include "float16.hpp"
#include "token_info.hpp"
#include "tokens.hpp"

namespace vidtok {

/// A token file whose numbers are read piece by piece. Throws TokenFileError.
class TokenReader {
public:
    explicit TokenReader(fs::path path) : path_(std::move(path)) {
        if (!is_file(path_)) throw TokenFileError(detail::text_of(path_) + " is no file; make one with vidtok encode");
        guarded([&] { read_header(); });
    }

    const fs::path& path() const { return path_; }
    const TokenInfo& info() const { return info_; }
    const std::string& kind() const { return kind_; }  // latent or indices
    const std::string& dtype() const { return place_.dtype; }
    const std::string& checksum() const { return checksum_; }
    const std::vector<std::int64_t>& shape() const { return place_.shape; }
    std::size_t count() const { return static_cast<std::size_t>(place_.shape[0]); }

    /// Latents or tokens from `start` on, at most `most` of them; none behind the end.
    Tokens read(std::size_t start, std::size_t most) const {
        Tokens out;
        const std::size_t rank = place_.shape.size();
        start = std::min(start, count());
        out.count = std::min(most, count() - start);
        out.channels = rank == 4 ? static_cast<std::size_t>(place_.shape[1]) : 1;
        out.height = static_cast<std::size_t>(place_.shape[rank - 2]);
        out.width = static_cast<std::size_t>(place_.shape[rank - 1]);
        const std::size_t n = out.count * out.step_size(), from = start * out.step_size();
        if (n == 0) return out;
        guarded([&] {
            if (place_.dtype == "F32") {
                out.latent = load<float>(place_, from, n);
            } else if (place_.dtype == "F16") {
                for (const std::uint16_t half : load<std::uint16_t>(place_, from, n))
                    out.latent.push_back(from_float16(half));
            } else if (place_.dtype == "U16") {
                const std::vector<std::uint16_t> stored = load<std::uint16_t>(place_, from, n);
                out.indices.assign(stored.begin(), stored.end());
            } else {  // I32, and U32 whose numbers are all below 2^31 or refused by the decoder
                out.indices = load<std::int32_t>(place_, from, n);
            }
        });
        return out;
    }

    /// Timestamp of every frame, in units of the time base, rising.
    std::vector<std::int64_t> pts() const {
        std::vector<std::int64_t> all;
        guarded([&] {
            all = load<std::int64_t>(pts_, 0, info_.num_frames);
            check_rising(all);
        });
        return all;
    }

    /// Throw TokenFileError unless the numbers are those that were written.
    void verify() const {
        guarded([&] {
            if ("sha256:" + sha256_of(path_, start_) != checksum_) throw FormatError("its checksum does not match");
        });
    }

private:
    struct Place {
        std::string dtype;
        std::vector<std::int64_t> shape;
        std::int64_t start = 0;
        std::int64_t end = 0;
    };

    template <class Action>
    void guarded(Action action) const {
        try {
            action();
        } catch (const FormatError& error) {
            throw TokenFileError(detail::text_of(path_) + " is not a sound token file: " + error.what() +
                                 "; encode the clip again");
        }
    }

    void read_header() {
        constexpr std::size_t max_header = std::size_t{1} << 20;  // bytes; ours has 2,048
        const std::uintmax_t total = fs::file_size(path_);
        const File file = open_file(path_);
        unsigned char prefix[8] = {};
        if (read_some(file.get(), prefix, 8) < 8) throw FormatError("it has " + std::to_string(total) + " bytes");
        std::uint64_t room = 0;
        for (int i = 7; i >= 0; --i) room = room << 8 | prefix[i];
        if (room > std::min<std::uint64_t>(total, max_header)) throw FormatError("it is truncated or no token file");
        std::string text(room, '\0');
        text.resize(read_some(file.get(), text.data(), room));
        const Json json = parse_json(text);
        const Fields header(json, "the header");
        const Fields metadata = header.fields("__metadata__");
        if (!metadata.has("format") || metadata.text("format") != "vidtok-tokens") {
            throw FormatError("it is a safetensors file, but not of tokens");
        }
        const std::string version = metadata.text("format_version");
        if (version != "2" && version != "3") {
            throw FormatError("its token format is '" + version + "', this runtime reads 2 and 3");
        }
        start_ = 8 + room;
        find_arrays(header, total, version == "2" ? 2 : 3);
        info_ = parse_token_info(metadata);
        checksum_ = metadata.text("checksum");
        if (checksum_.substr(0, 7) != "sha256:" || !is_sha256(checksum_.substr(7))) {
            throw FormatError("its checksum is no SHA-256");
        }
        info_.check_shape(kind_, place_.dtype, place_.shape);
        if (pts_.dtype != "I64" || pts_.shape != std::vector{static_cast<std::int64_t>(info_.num_frames)}) {
            throw FormatError(std::to_string(info_.num_frames) + " frames do not have as many timestamps");
        }
    }

    /// Type, shape and offsets of each array; throws FormatError unless they fill the file without gap or overlap.
    void find_arrays(const Fields& header, std::uintmax_t total, int version) {
        std::map<std::int64_t, std::int64_t> spans;
        std::optional<Place> variance;
        std::size_t found = 0;
        for (const std::string& name : header.names()) {
            if (name == "__metadata__") continue;
            const Fields entry = header.fields(name);
            const Place place = read_place(entry, name == "padding");
            if (!spans.emplace(place.start, place.end).second) throw FormatError("its arrays overlap");
            if (name == "latent" || name == "indices") {
                ++found;
                kind_ = name;
                place_ = place;
            } else if (name == "pts") {
                pts_ = place;
            } else if (name == "log_variance" && version != 2) {
                variance = place;
            } else if (name != "padding") {
                found = 2;  // unknown, and one too many
            }
        }
        if (found != 1 || !header.has("pts"))
            throw FormatError("it does not hold timestamps and either latents or indices");
        if (variance && (kind_ != "latent" || variance->dtype != place_.dtype || variance->shape != place_.shape)) {
            throw FormatError("its log_variance is not of the type and shape of latents");
        }
        std::int64_t reached = 0;
        for (const auto& [start, end] : spans) {
            if (start != reached) throw FormatError("its arrays overlap or leave gaps");
            reached = end;
        }
        if (total != start_ + static_cast<std::uint64_t>(reached)) {
            throw FormatError("it is truncated: it has " + std::to_string(total) + " bytes, its header promises " +
                              std::to_string(start_ + static_cast<std::uint64_t>(reached)));
        }
    }

    static Place read_place(const Fields& entry, bool is_padding) {
        const std::map<std::string, std::int64_t> widths{{"F16", 2}, {"F32", 4}, {"U16", 2},
                                                         {"U32", 4}, {"I32", 4}, {"I64", 8}};
        Place place;
        place.dtype = is_padding ? entry.one_of("dtype", {"U8"}) : entry.text("dtype");
        if (!is_padding && widths.count(place.dtype) == 0) throw FormatError("numbers of the type " + place.dtype);
        place.shape = entry.sizes("shape", 4);
        const std::vector<std::int64_t> offsets = entry.sizes("data_offsets", 2);
        std::int64_t size = is_padding ? 1 : widths.at(place.dtype);
        bool fits = offsets.size() == 2 && offsets[1] > offsets[0] && !(is_padding && place.shape.size() != 1);
        for (const std::int64_t n : place.shape) {
            fits = fits && (n == 0 || size <= (std::int64_t{1} << 62) / n);
            size = fits ? size * n : 0;
        }
        if (!fits || offsets[1] - offsets[0] != size)
            throw FormatError(entry.where() + " is empty or does not have the size of its shape");
        place.start = offsets[0];
        place.end = offsets[1];
        return place;
    }

    template <class Number>
    std::vector<Number> load(const Place& place, std::size_t from, std::size_t count) const {
        const File file = open_file(path_);
        const auto offset = start_ + static_cast<std::uint64_t>(place.start) + from * sizeof(Number);
        if (!detail::seek(file.get(), offset)) throw FormatError(std::strerror(errno));
        std::vector<Number> numbers(count);
        if (read_some(file.get(), numbers.data(), count * sizeof(Number)) != count * sizeof(Number)) {
            throw FormatError("it became shorter while it was read");
        }
        return numbers;
    }

    fs::path path_;
    std::uint64_t start_ = 0;
    TokenInfo info_;
    std::string checksum_;
    std::string kind_;
    Place place_;
    Place pts_;
};

}  // namespace vidtok
