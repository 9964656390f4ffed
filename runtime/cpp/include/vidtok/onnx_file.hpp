// Is an ONNX file what exporters write, before any engine opens it, and which files of weights does it need? Found by
// walking its protobuf.
// Field numbers are those of onnx.proto3, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "files.hpp"
#include "utf8.hpp"

namespace vidtok {

/// Operators beyond ONNX's own that vidtok-export writes: domain and name.
inline const std::set<std::pair<std::string_view, std::string_view>> foreign_operators = {
    {"com.microsoft", "MultiHeadAttention"},
};

/// Bytes of each file that graphs may refer to.
using WeightsSizes = std::map<std::string, std::uintmax_t>;

constexpr std::uintmax_t max_graph_bytes = std::uintmax_t{1} << 31;  // a protobuf message cannot have more

namespace detail {

/// What each field of a message is, by its number; a dot is a field that vidtok-export does not write. Parsers pass
/// over fields that they do not know, each in its own way, and something may hide there: so they are refused.
inline std::string_view fields_of(char message) {
    switch (message) {
        case 'M': return ".vbbbvbGb.....b";            // model
        case 'G': return ".Nb..T....bbbbbSb";          // graph
        case 'N': return ".bbbbAbbbb";                 // node
        case 'A': return ".bfvbTGxibTG.bbb....vbSS";   // attribute
        case 'T': return ".iv.xibibbdibEL.b";          // tensor
        case 'S': return ".TTi";                       // sparse tensor
        case 'E': return ".bb";                        // where a tensor's data are: a key and a value
        default: return "";
    }
}

enum Wire : unsigned { varint_wire = 0, eight_bytes_wire = 1, bytes_wire = 2, four_bytes_wire = 5 };

/// Whether a kind of field has the wire type; lists of numbers come one by one or packed into bytes.
inline bool is_wire_of(char kind, unsigned wire) {
    switch (kind) {
        case 'v':
        case 'L': return wire == varint_wire;  // L: whether a tensor's data are in another file
        case 'f': return wire == four_bytes_wire;
        case 'i': return wire == varint_wire || wire == bytes_wire;
        case 'x': return wire == four_bytes_wire || wire == bytes_wire;
        case 'd': return wire == eight_bytes_wire || wire == bytes_wire;
        case '.': return false;
        default: return wire == bytes_wire;
    }
}

/// The fields of one protobuf message, one after another; throws FormatError.
class ProtobufFields {
public:
    explicit ProtobufFields(std::string_view bytes) : bytes_(bytes) {}

    std::uint64_t number = 0;
    unsigned wire = 0;
    std::uint64_t value = 0;  // of a varint
    std::string_view inside;  // of bytes

    /// Go to the next field; false at the end.
    bool next() {
        if (bytes_.empty()) return false;
        const std::uint64_t key = varint();
        number = key >> 3;
        wire = key & 7;
        if (wire == varint_wire) {
            value = varint();
        } else if (wire == bytes_wire) {
            inside = take(varint());
        } else if (wire == eight_bytes_wire || wire == four_bytes_wire) {
            take(wire == eight_bytes_wire ? 8 : 4);
        } else {
            throw FormatError("it has a field of wire type " + std::to_string(wire));
        }
        return true;
    }

private:
    /// A number of 64 bits, 7 bits a byte in as few bytes as it needs.
    std::uint64_t varint() {
        std::uint64_t result = 0;
        for (unsigned i = 0; i < 10; ++i) {
            const auto byte = static_cast<unsigned char>(take(1)[0]);
            if ((i == 9 && byte > 1) || (i && byte == 0)) {
                throw FormatError("a number is longer than it needs to be");
            }
            result |= std::uint64_t{byte & 0x7FU} << (7 * i);
            if (byte < 0x80) return result;
        }
        throw FormatError("a number has more than 10 bytes");
    }

    std::string_view take(std::uint64_t size) {
        if (size > bytes_.size()) throw FormatError("a field is longer than what holds it");
        const std::string_view taken = bytes_.substr(0, size);
        bytes_.remove_prefix(size);
        return taken;
    }

    std::string_view bytes_;
};

inline void check_operator(std::string_view node) {
    constexpr std::uint64_t operator_field = 4, domain_field = 7;
    std::string_view name, domain;
    int names = 0, domains = 0;
    for (ProtobufFields field(node); field.next();) {
        if (field.number == operator_field) {
            name = field.inside;
            ++names;
        } else if (field.number == domain_field) {
            domain = field.inside;
            ++domains;
        }
    }
    if (names > 1 || domains > 1) throw FormatError("a node names its operator twice");
    if (!domain.empty() && domain != "ai.onnx" && foreign_operators.count({domain, name}) == 0) {
        throw FormatError("it has an operator that is none of those that vidtok-export writes");
    }
}

/// A key and a value; throws FormatError unless each is there once.
inline std::pair<std::string, std::string> read_entry(std::string_view bytes) {
    std::string found[2];
    int counts[2] = {0, 0};
    for (ProtobufFields field(bytes); field.next();) {
        found[field.number - 1] = field.inside;
        ++counts[field.number - 1];
    }
    if (counts[0] != 1 || counts[1] != 1) throw FormatError("a tensor's place is not a key and a value");
    return {found[0], found[1]};
}

inline std::uint64_t read_decimal(const std::string& text) {
    const bool digits = !text.empty() && text.size() <= 16 && text.find_first_not_of("0123456789") == std::string::npos;
    if (!digits) throw FormatError("a tensor's place '" + beginning(text, 40) + "' is no number");
    return std::stoull(text);
}

/// Throw FormatError unless a tensor is in the model, or a part of a known file, which is added to `used`.
inline void check_place(std::string_view tensor, const WeightsSizes& known, std::set<std::string>& used) {
    constexpr std::uint64_t place_field = 13, elsewhere_field = 14;
    std::map<std::string, std::string> place;
    int entries = 0, marks = 0;
    std::uint64_t elsewhere = 0;
    for (ProtobufFields field(tensor); field.next();) {
        if (field.number == place_field) {
            place.insert(read_entry(field.inside));
            ++entries;
        } else if (field.number == elsewhere_field) {
            elsewhere = field.value;
            ++marks;
        }
    }
    if (entries == 0 && elsewhere == 0 && marks <= 1) return;
    const auto file = known.find(place["location"]);
    if (file == known.end()) throw FormatError("it keeps weights in other files than the manifest lists");
    if (elsewhere != 1 || marks != 1 || entries != 3 || place.size() != 3) {
        throw FormatError("a tensor in another file does not say where by location, offset and length alone");
    }
    const std::uint64_t offset = read_decimal(place["offset"]), length = read_decimal(place["length"]);
    if (offset > file->second || length > file->second - offset) throw FormatError("a tensor ends behind its file");
    used.insert(file->first);
}

inline void check_message(std::string_view bytes, char message, int depth, const WeightsSizes& known,
                          std::set<std::string>& used) {
    if (depth > 64) throw FormatError("it is nested too deeply");
    const std::string_view kinds = fields_of(message);
    for (ProtobufFields field(bytes); field.next();) {
        const char kind = field.number < kinds.size() ? kinds[field.number] : '.';
        if (!is_wire_of(kind, field.wire)) {
            throw FormatError("it has a field " + std::to_string(field.number) + " of wire type " +
                              std::to_string(field.wire) + " where exporters write none");
        }
        if (!fields_of(kind).empty()) check_message(field.inside, kind, depth + 1, known, used);
    }
    if (message == 'N') check_operator(bytes);
    if (message == 'T') check_place(bytes, known, used);
}

/// The files of weights that a model refers to; throws FormatError.
inline std::set<std::string> check_model(std::string_view content, const WeightsSizes& known) {
    // By these bytes engines tell models of other kinds: ONNX Runtime's own format and TensorFlow Lite's.
    const std::string_view mark = content.substr(std::min<std::size_t>(4, content.size()), 4);
    if (mark == "ORTM" || mark == "TFL3") throw FormatError("it is a model of another kind");
    std::set<std::string> used;
    check_message(content, 'M', 0, known, used);
    constexpr std::uint64_t graph_field = 7;
    int graphs = 0;
    for (ProtobufFields field(content); field.next();) graphs += field.number == graph_field;
    if (graphs != 1) throw FormatError("it has " + std::to_string(graphs) + " graphs");
    return used;
}

}  // namespace detail

/// Those of the known files of weights that an ONNX model refers to. Throws FormatError unless the file is a model of
/// known operators whose weights are inside or in known files.
inline std::set<std::string> check_onnx_file(const fs::path& path, const WeightsSizes& known = {}) {
    return detail::check_model(read_whole(path, max_graph_bytes), known);
}

}  // namespace vidtok
