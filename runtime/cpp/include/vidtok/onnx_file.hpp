// Is an ONNX file what exporters write, all of it inside, before any engine opens it? Found by walking its protobuf.
// Field numbers are those of onnx.proto3, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "files.hpp"

namespace vidtok {

/// Operators beyond ONNX's own that vidtok-export writes: domain and name.
inline const std::set<std::pair<std::string_view, std::string_view>> foreign_operators = {};

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
        default: return "";
    }
}

enum Wire : unsigned { varint_wire = 0, eight_bytes_wire = 1, bytes_wire = 2, four_bytes_wire = 5 };

/// Whether a kind of field has the wire type; lists of numbers come one by one or packed into bytes.
inline bool is_wire_of(char kind, unsigned wire) {
    switch (kind) {
        case 'v':
        case 'L': return wire == varint_wire;  // L: where a tensor's data are
        case 'f': return wire == four_bytes_wire;
        case 'i': return wire == varint_wire || wire == bytes_wire;
        case 'x': return wire == four_bytes_wire || wire == bytes_wire;
        case 'd': return wire == eight_bytes_wire || wire == bytes_wire;
        case '.': return false;
        default: return wire == bytes_wire;  // E: in which file a tensor's data are
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

inline void check_message(std::string_view bytes, char message, int depth) {
    if (depth > 64) throw FormatError("it is nested too deeply");
    const std::string_view kinds = fields_of(message);
    for (ProtobufFields field(bytes); field.next();) {
        const char kind = field.number < kinds.size() ? kinds[field.number] : '.';
        if (!is_wire_of(kind, field.wire)) {
            throw FormatError("it has a field " + std::to_string(field.number) + " of wire type " +
                              std::to_string(field.wire) + " where exporters write none");
        }
        if (!fields_of(kind).empty()) {
            check_message(field.inside, kind, depth + 1);
        } else if (kind == 'E' || (kind == 'L' && field.value != 0)) {
            throw FormatError("it keeps weights in other files");
        }
    }
    if (message == 'N') check_operator(bytes);
}

/// Throw FormatError unless the bytes are an ONNX model of known operators with all of its weights inside.
inline void check_model(std::string_view content) {
    // By these bytes engines tell models of other kinds: ONNX Runtime's own format and TensorFlow Lite's.
    const std::string_view mark = content.substr(std::min<std::size_t>(4, content.size()), 4);
    if (mark == "ORTM" || mark == "TFL3") throw FormatError("it is a model of another kind");
    check_message(content, 'M', 0);
    constexpr std::uint64_t graph_field = 7;
    int graphs = 0;
    for (ProtobufFields field(content); field.next();) graphs += field.number == graph_field;
    if (graphs != 1) throw FormatError("it has " + std::to_string(graphs) + " graphs");
}

}  // namespace detail

/// Throw FormatError unless the file is an ONNX model of known operators with all of its weights inside.
inline void check_onnx_file(const fs::path& path) { detail::check_model(read_whole(path, max_graph_bytes)); }

}  // namespace vidtok
