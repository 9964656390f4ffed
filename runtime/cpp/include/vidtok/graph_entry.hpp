// One graph of a bundle as the manifest tells of it: what it takes, gives and remembers.
#pragma once

#include <algorithm>
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

/// Tensors of one resolution: channels of the widest, pixels a position along H and W, frames a position.
struct Stage {
    std::size_t channels = 1;
    std::size_t space = 1;
    std::size_t time = 1;
};

/// One graph of a bundle.
///
/// role: `encoder` or `decoder`. part: `local` or `global`. inputs: one, the data; outputs: the first is the result.
/// flags: inputs that are true in some calls; the manifest's `stream` says in which. stages: for planning memory.
/// receptive_field: pixels on each side of a place that what is computed there depends on.
struct GraphEntry {
    std::string role;
    std::string part;
    std::string file;
    std::string sha256;
    std::string precision;
    std::vector<std::string> providers;
    std::vector<Port> inputs;
    std::vector<Port> outputs;
    std::vector<State> states;
    std::vector<Port> flags;
    std::vector<Stage> stages;
    std::size_t receptive_field = 0;

    bool runs_on(const std::string& provider) const {
        return std::find(providers.begin(), providers.end(), provider) != providers.end();
    }

    /// What a latent takes to compute, for comparing graphs: the squared channels of each resolution.
    double work() const {
        double sum = 0;
        for (const Stage& stage : stages) {
            const auto square = [](std::size_t n) { return static_cast<double>(n * n); };
            sum += square(stage.channels) / (square(stage.space) * static_cast<double>(stage.time));
        }
        return sum > 0 ? sum : 1;
    }

    const Port& data() const { return inputs.front(); }
    const Port& result() const { return outputs.front(); }

    /// All that the graph takes, then all that it gives.
    std::vector<Port> all_inputs() const {
        std::vector<Port> all = inputs;
        all.insert(all.end(), flags.begin(), flags.end());
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

inline Port read_port(const Fields& row) { return {row.text("name"), read_dtype(row), read_axes(row)}; }

/// A file with this ending, which lies in the bundle's folder itself and nowhere else.
inline std::string read_file_name(const Fields& raw, const std::string& end) {
    const std::string name = raw.text("file");
    const std::string letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
    const bool ends = name.size() > end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
    if (!ends || letters.find(name[0]) == std::string::npos ||
        name.find_first_not_of(letters + ".+-") != std::string::npos) {
        throw FormatError("the file '" + name + "' is not the plain name of a " + end + " file inside the bundle");
    }
    return name;
}

inline Stage read_stage(const Fields& row) {
    row.boolean("attention");  // for people
    const auto number = [&](const char* name, std::int64_t most) {
        return static_cast<std::size_t>(row.integer(name, 1, most));
    };
    return {number("channels", 1 << 20), number("space", 256), number("time", 64)};
}

/// What other engines use: a manifest is sound to all readers or to none.
inline void check_unused(const Fields& raw) {
    const Fields missing = raw.fields("missing_kernels");
    for (const std::string& engine : missing.names()) missing.texts(engine);
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
    GraphEntry entry;
    entry.role = raw.one_of("role", {"encoder", "decoder"});
    entry.part = raw.one_of("part", {"local", "global"});
    entry.file = detail::read_file_name(raw, ".onnx");
    entry.sha256 = raw.sha256("sha256");
    entry.precision = raw.text("precision");
    entry.providers = raw.texts("providers");
    for (const Fields& row : raw.rows("inputs")) entry.inputs.push_back(detail::read_port(row));
    for (const Fields& row : raw.rows("outputs")) entry.outputs.push_back(detail::read_port(row));
    for (const Fields& row : raw.rows("states")) {
        row.one_of("initial", {"zeros"});
        entry.states.push_back(
            {row.text("input"), row.text("output"), detail::read_dtype(row), detail::read_axes(row)});
    }
    for (const Fields& row : raw.rows("flags")) entry.flags.push_back(detail::read_port(row));
    for (const Fields& row : raw.rows("stages")) entry.stages.push_back(detail::read_stage(row));
    entry.receptive_field = static_cast<std::size_t>(raw.integer("receptive_field", 0, 1 << 20));
    detail::check_unused(raw);
    detail::check_entry(entry);
    return entry;
}

}  // namespace vidtok
