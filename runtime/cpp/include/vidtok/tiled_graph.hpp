// A local graph run tile by tile over whole frames, with the result of one run on the whole frame.
//
// What a tile computes within the margin of its border inside the frame is not what the whole frame would give, at any
// time: it is thrown away, of outputs and of states. So states are right everywhere, and a frame has them once.
#pragma once

#include "frame_state.hpp"
#include "stateful_graph.hpp"

namespace vidtok::detail {

/// Positions a latent along H and W, which are the last axes; 0 where they are not or it is no whole number.
inline std::size_t scale_of(const std::string& axes, std::size_t multiple) {
    const std::vector<std::string> parts = split_axes(axes);
    const std::size_t rank = parts.size();
    const auto is_spatial = [](const std::string& axis) { return axis[0] == 'H' || axis[0] == 'W'; };
    if (std::count_if(parts.begin(), parts.end(), is_spatial) != 2 || parts[rank - 2][0] != 'H' ||
        parts[rank - 1][0] != 'W' || parts[rank - 2].substr(1) != parts[rank - 1].substr(1)) {
        return 0;
    }
    const std::string& width = parts.back();
    const std::size_t divisor = width.size() > 2 ? std::stoul(width.substr(2)) : 1;
    return multiple % divisor ? 0 : multiple / divisor;
}

/// Whether a latent is a whole number of positions of all that the graph takes, gives and keeps.
inline bool can_be_cut(const GraphEntry& graph, std::size_t multiple) {
    std::vector<Port> data = graph.inputs;
    data.insert(data.end(), graph.outputs.begin(), graph.outputs.end());
    return std::all_of(data.begin(), data.end(), [&](const Port& p) { return scale_of(p.axes, multiple) != 0; }) &&
           std::all_of(graph.states.begin(), graph.states.end(), [&](const State& s) {
               return scale_of(s.axes, multiple) != 0 || s.axes.find_first_of("HW") == std::string::npos;
           });
}

/// Latents, of `multiple` pixels, that tiles compute beyond what they keep; none where no tiles are possible.
inline std::optional<std::size_t> margin_of(const GraphEntry& graph, std::size_t multiple) {
    if (graph.part != "local" || !can_be_cut(graph, multiple)) return std::nullopt;
    return (graph.receptive_field + multiple - 1) / multiple;
}

/// Those of the graphs of a chain that can be cut.
inline std::vector<std::size_t> margins_of(const std::vector<GraphEntry>& chain, std::size_t multiple) {
    std::vector<std::size_t> found;
    for (const GraphEntry& graph : chain) {
        if (const std::optional<std::size_t> margin = margin_of(graph, multiple)) found.push_back(*margin);
    }
    return found;
}

/// As StatefulGraph, in tiles where there are several.
class TiledGraph final : public Graph {
public:
    /// multiple: pixels a latent.
    TiledGraph(std::shared_ptr<LoadedGraph> graph, std::size_t multiple)
        : graph_(std::move(graph)), multiple_(multiple) {}

    const GraphEntry& entry() const override { return graph_.entry(); }

    void start(const Sizes& sizes, const Tiling& tiling, bool sparing) override {
        frame_states_.clear();
        plain_states_.clear();
        begun_ = sizes;
        tiling_ = tiling;
        if (is_whole()) return graph_.start(sizes, tiling, sparing);
        graph_.start_without_states();
        for (const State& state : entry().states) {
            Array zeros(state.input, state.dtype, shape_of(state.axes, sizes));
            if (const std::size_t positions = scale(state.axes)) {
                frame_states_.emplace_back(state, FrameState(std::move(zeros), tiling_, positions));
            } else {
                plain_states_.emplace_back(state, std::move(zeros));
            }
        }
    }

    Tensor data(const Sizes& sizes) override {
        return is_whole() ? graph_.data(sizes) : room(data_, entry().data(), sizes);
    }

    Tensor run(const Sizes& sizes, const std::set<std::string>& true_flags) override {
        if (is_whole()) return graph_.run(sizes, true_flags);
        const std::size_t takes = scale(entry().data().axes), gives = scale(entry().result().axes);
        const Tensor whole = room(result_, entry().result(), sizes);
        for (std::size_t i = 0; i < tiling_.rows.size(); ++i) {
            for (std::size_t j = 0; j < tiling_.columns.size(); ++j) {
                const Tile &row = tiling_.rows[i], &column = tiling_.columns[j];
                const Sizes part = part_of(sizes, row, column), kept = part_of(begun_, row, column);
                copy(block_of(data_.tensor()).part(row.extent.at(takes), column.extent.at(takes)),
                     block_of(graph_.data(part)));
                for (auto& [state, frame] : frame_states_) frame.read(i, j, graph_.old_state(state, kept));
                for (auto& [state, value] : plain_states_) assign(value.tensor(), graph_.old_state(state, kept));
                // What only makes the next tile faster is not kept for the next call.
                const bool last = i + 1 == tiling_.rows.size() && j + 1 == tiling_.columns.size();
                copy_kept(graph_.run(part, true_flags, last), row, column, gives, whole);
                for (auto& [state, frame] : frame_states_) frame.write(i, j, graph_.new_state(state, kept));
            }
        }
        // Every tile takes the same and gives the same of a state that does not depend on the place.
        for (auto& [state, value] : plain_states_) assign(graph_.new_state(state, begun_), value.tensor());
        return whole;
    }

private:
    bool is_whole() const { return tiling_.count() == 1; }

    std::size_t scale(const std::string& axes) const { return scale_of(axes, multiple_); }

    Sizes part_of(Sizes sizes, const Tile& row, const Tile& column) const {
        sizes['H'] = row.extent.size() * multiple_;
        sizes['W'] = column.extent.size() * multiple_;
        return sizes;
    }

    static void assign(const Tensor& from, const Tensor& to) { std::memcpy(to.data, from.data, from.bytes()); }

    /// Memory for whole frames of a port, kept from call to call.
    static Tensor room(Array& array, const Port& port, const Sizes& sizes) {
        const Shape shape = shape_of(port.axes, sizes);
        if (array.tensor().shape != shape) array = Array(port.name, port.dtype, shape);
        return array.tensor();
    }

    StatefulGraph graph_;
    std::size_t multiple_;
    Sizes begun_;  // those that the states have
    Tiling tiling_;
    std::vector<std::pair<State, FrameState>> frame_states_;
    std::vector<std::pair<State, Array>> plain_states_;
    Array data_;
    Array result_;
};

}  // namespace vidtok::detail
