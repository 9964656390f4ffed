// Does an ONNX file keep tensors in other files? Found by walking its protobuf fields, before any engine opens it.
// Field numbers are those of onnx.proto3, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "files.hpp"

namespace vidtok {

namespace detail {

enum class Message { model, training, function, graph, node, attribute, sparse, tensor, other };

/// The message inside a field of another one; whatever is not on a way to a tensor is passed over.
inline Message message_in(Message outer, std::uint64_t field) {
    switch (outer) {
        case Message::model:
            return field == 7    ? Message::graph
                   : field == 20 ? Message::training
                   : field == 25 ? Message::function
                                 : Message::other;
        case Message::training: return field == 1 || field == 2 ? Message::graph : Message::other;
        case Message::function: return field == 7 ? Message::node : field == 11 ? Message::attribute : Message::other;
        case Message::graph:
            return field == 1    ? Message::node
                   : field == 5  ? Message::tensor
                   : field == 15 ? Message::sparse
                                 : Message::other;
        case Message::node: return field == 5 ? Message::attribute : Message::other;
        case Message::attribute:
            return field == 5 || field == 10    ? Message::tensor
                   : field == 6 || field == 11  ? Message::graph
                   : field == 22 || field == 23 ? Message::sparse
                                                : Message::other;
        case Message::sparse: return field == 1 || field == 2 ? Message::tensor : Message::other;
        case Message::tensor:
        case Message::other: break;
    }
    return Message::other;
}

/// The fields of one protobuf message, one after another; throws FormatError.
class ProtobufFields {
public:
    explicit ProtobufFields(std::string_view bytes) : bytes_(bytes) {}

    std::uint64_t number = 0;
    unsigned wire = 0;
    std::uint64_t value = 0;  // of wire type 0
    std::string_view inside;  // of wire type 2

    /// Go to the next field; false at the end.
    bool next() {
        if (bytes_.empty()) return false;
        const std::uint64_t key = varint();
        number = key >> 3;
        wire = key & 7;
        if (wire == 0) {
            value = varint();
        } else if (wire == 2) {
            inside = take(varint());
        } else if (wire == 1 || wire == 5) {
            take(wire == 1 ? 8 : 4);
        } else {
            throw FormatError("a field of wire type " + std::to_string(wire));
        }
        return true;
    }

private:
    std::uint64_t varint() {
        std::uint64_t result = 0;
        for (int shift = 0; shift < 70; shift += 7) {
            const auto byte = static_cast<unsigned char>(take(1)[0]);
            if (shift < 64) result |= std::uint64_t{byte & 0x7FU} << shift;
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

inline bool is_external(std::string_view bytes, Message message, int depth) {
    if (depth > 64) throw FormatError("it is nested too deeply");
    for (ProtobufFields field(bytes); field.next();) {
        const Message inner = field.wire == 2 ? message_in(message, field.number) : Message::other;
        if (inner != Message::other && is_external(field.inside, inner, depth + 1)) return true;
        constexpr std::uint64_t external_data = 13, data_location = 14;
        if (message == Message::tensor && field.number == external_data) return true;
        if (message == Message::tensor && field.number == data_location && field.wire == 0 && field.value) return true;
    }
    return false;
}

}  // namespace detail

constexpr std::uintmax_t most_graph_bytes = std::uintmax_t{1} << 31;  // a protobuf message cannot have more

/// Throw FormatError unless the file is an ONNX model all of whose weights are inside it.
inline void refuse_external_data(const fs::path& path) {
    const std::string content = read_whole(path, most_graph_bytes);
    bool has_graph = false;
    for (detail::ProtobufFields field(content); field.next();) has_graph |= field.number == 7 && field.wire == 2;
    if (!has_graph) throw FormatError("it has no graph");
    if (detail::is_external(content, detail::Message::model, 0)) {
        throw FormatError("it keeps weights in other files, which a bundle may not");
    }
}

}  // namespace vidtok
