// One graph of a bundle as the manifest tells of it: what it takes, gives and remembers.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "axes.hpp"
#include "fields.hpp"

namespace vidtok {

/// Input or output of a graph.
struct Port {
    std::string name;
    std::string dtype;
    std::string axes;  // as `N 3 T H W`
};

/// Memory of a graph: `output` of one call goes to `input` of the next; zeros at the start of a stream.
struct State {
    std::string input;
    std::string output;
    std::string dtype;
    std::string axes;
};

/// Input that is true in some calls of a stream and false in all others; `set` lists these calls.
struct Flag {
    std::string name;
    std::string dtype;
    std::string axes;
    std::set<std::string> set;
};

inline const std::string first_call = "first call", second_call = "second call", flush_call = "flush call";

/// One graph of a bundle.
struct GraphEntry {
    std::string role;
    std::string file;
    std::string sha256;
    std::string precision;
    std::vector<std::string> providers;
    std::vector<Port> inputs;
    std::vector<Port> outputs;
    std::vector<State> states;
    std::vector<Flag> flags;

    const Port& data() const { return inputs.front(); }
    const Port& result() const { return outputs.front(); }

    /// All that the graph takes, then all that it gives.
    std::vector<Port> all_inputs() const {
        std::vector<Port> all = inputs;
        for (const Flag& flag : flags) all.push_back({flag.name, flag.dtype, flag.axes});
        for (const State& state : states) all.push_back({state.input, state.dtype, state.axes});
        return all;
    }
    std::vector<Port> all_outputs() const {
        std::vector<Port> all = outputs;
        for (const State& state : states) all.push_back({state.output, state.dtype, state.axes});
        return all;
    }
};

namespace detail {

inline std::string read_dtype(const Fields& raw) {
    return raw.one_of("dtype", {"float32", "float16", "int32", "int64", "uint8", "int8", "bool"});
}

inline std::string read_axes(const Fields& raw) {
    std::string axes = raw.text("axes");
    split_axes(axes);
    return axes;
}

/// The graph's file, which lies in the bundle's folder itself and nowhere else.
inline std::string read_file_name(const Fields& raw) {
    const std::string name = raw.text("file"), end = ".onnx";
    const std::string letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
    const bool ends = name.size() > end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
    if (!ends || letters.find(name[0]) == std::string::npos ||
        name.find_first_not_of(letters + ".+-") != std::string::npos) {
        throw FormatError("the file '" + name + "' is not the plain name of an .onnx file inside the bundle");
    }
    return name;
}

inline Flag read_flag(const Fields& raw) {
    Flag flag{raw.text("name"), read_dtype(raw), read_axes(raw), {}};
    for (const std::string& call : raw.texts("set")) {
        if (call != first_call && call != second_call && call != flush_call) {
            throw FormatError("when to set " + flag.name + " is unknown to this runtime: " + call);
        }
        flag.set.insert(call);
    }
    if (flag.axes.find_first_not_of("0123456789 ") != std::string::npos) {
        throw FormatError("the axes '" + flag.axes + "' of the flag " + flag.name + " are not numbers");
    }
    return flag;
}

inline void check_names(const std::vector<Port>& ports, const std::string& what) {
    std::set<std::string> names;
    for (const Port& port : ports) {
        if (!names.insert(port.name).second) throw FormatError("two " + what + " have the name " + port.name);
    }
}

inline void check_entry(const GraphEntry& entry) {
    if (entry.inputs.size() != 1 || entry.outputs.empty()) {
        throw FormatError("the " + entry.role + " has " + std::to_string(entry.inputs.size()) + " inputs of data and " +
                          std::to_string(entry.outputs.size()) + " outputs");
    }
    check_names(entry.all_inputs(), "inputs of the " + entry.role);
    check_names(entry.all_outputs(), "outputs of the " + entry.role);
    const bool encodes = entry.role == "encoder";
    const Port& tokens = encodes ? entry.result() : entry.data();
    const Port& video = encodes ? entry.data() : entry.result();
    if (video.name != "video" || (tokens.name != "latent" && tokens.name != "indices")) {
        throw FormatError("the " + entry.role + " turns " + entry.data().name + " into " + entry.result().name +
                          ", not video into latent or indices");
    }
    for (const Port* port : {&video, &tokens}) {
        const std::vector<std::string> axes = split_axes(port->axes);
        if (axes.size() != (port->name == "indices" ? 4 : 5) || axes[axes.size() - 3][0] != 'T') {
            throw FormatError("the axes of " + port->name + " are '" + port->axes + "'");
        }
    }
    std::vector<Port> ports = entry.all_inputs();
    for (const Port& port : entry.all_outputs()) ports.push_back(port);
    for (const Port& port : ports) {
        for (const std::string& axis : split_axes(port.axes)) {
            if (axis[0] >= 'A' && entry.data().axes.find(axis[0]) == std::string::npos) {
                throw FormatError("the axes of " + port.name + " name " + axis + ", which the data do not have");
            }
        }
    }
}

}  // namespace detail

/// A row of `graphs`; throws FormatError for whatever this runtime could not use.
inline GraphEntry read_graph_entry(const Fields& raw) {
    GraphEntry entry{raw.one_of("role", {"encoder", "decoder"}),
                     detail::read_file_name(raw),
                     raw.sha256("sha256"),
                     raw.text("precision"),
                     raw.texts("providers"),
                     {},
                     {},
                     {},
                     {}};
    const auto port = [](const Fields& row) {
        return Port{row.text("name"), detail::read_dtype(row), detail::read_axes(row)};
    };
    for (const Fields& row : raw.rows("inputs")) entry.inputs.push_back(port(row));
    for (const Fields& row : raw.rows("outputs")) entry.outputs.push_back(port(row));
    for (const Fields& row : raw.rows("states")) {
        row.one_of("initial", {"zeros"});
        entry.states.push_back(
            {row.text("input"), row.text("output"), detail::read_dtype(row), detail::read_axes(row)});
    }
    for (const Fields& row : raw.rows("flags")) entry.flags.push_back(detail::read_flag(row));
    detail::check_entry(entry);
    return entry;
}

}  // namespace vidtok
