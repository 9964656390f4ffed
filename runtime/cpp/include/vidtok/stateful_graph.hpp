// A graph of a chain, whose state goes from call to call.
#pragma once

#include <cmath>

#include "machine.hpp"
#include "session.hpp"
#include "tiles.hpp"

namespace vidtok::detail {

/// One graph and the state of a stream through it.
class Graph {
public:
    Graph() = default;
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;
    virtual ~Graph() = default;

    virtual const GraphEntry& entry() const = 0;

    /// Begin a stream of data of these sizes in these tiles: states are zero. Throws ProviderError.
    ///
    /// sparing: memory is short, so what would only make the next call faster is given back.
    virtual void start(const Sizes& sizes, const Tiling& tiling, bool sparing) = 0;

    /// Memory of the data of the next call.
    virtual Tensor data(const Sizes& sizes) = 0;

    /// Run a call in which these flags are true; gives the result, until the next call. Throws ProviderError, and
    /// BundleError when other sizes than promised or NaN or infinite numbers come out.
    virtual Tensor run(const Sizes& sizes, const std::set<std::string>& true_flags) = 0;
};

/// A graph that sees whole frames, or a tile of them.
class StatefulGraph final : public Graph {
public:
    explicit StatefulGraph(std::shared_ptr<LoadedGraph> graph)
        : graph_(std::move(graph)), request_(graph_->session->request()) {}

    const GraphEntry& entry() const override { return graph_->entry; }

    void start(const Sizes& sizes, const Tiling& /*whole*/, bool sparing) override {
        sparing_ = sparing;
        std::vector<StateTensor> states;
        for (const State& state : entry().states) {
            states.push_back({state.input, state.output, shape_of(state.axes, sizes)});
        }
        request_->start(states);
    }

    /// The same for states of the caller's own: `old_state` and `new_state` are theirs.
    void start_without_states() { request_->start({}); }

    Tensor data(const Sizes& sizes) override {
        return request_->input(entry().data().name, shape_of(entry().data().axes, sizes));
    }

    /// Memory of a state for the next call.
    Tensor old_state(const State& state, const Sizes& sizes) {
        return request_->input(state.input, shape_of(state.axes, sizes));
    }

    Tensor run(const Sizes& sizes, const std::set<std::string>& true_flags) override {
        return run(sizes, true_flags, sparing_);
    }

    /// release: as Request::run has it.
    Tensor run(const Sizes& sizes, const std::set<std::string>& true_flags, bool release) {
        for (const Port& flag : entry().flags) {
            const Tensor tensor = request_->input(flag.name, shape_of(flag.axes, sizes));
            for (std::size_t i = 0; i < tensor.count(); ++i) fill(tensor, i, true_flags.count(flag.name) != 0);
        }
        request_->run(release);
        if (release) give_back();
        for (const Port& port : entry().outputs) check_numbers(port, output(port, sizes));
        return request_->output(entry().result().name);
    }

    /// What the latest call left of a state; throws BundleError when its size is another than promised.
    Tensor new_state(const State& state, const Sizes& sizes) {
        return output({state.output, state.dtype, state.axes}, sizes);
    }

private:
    static void fill(const Tensor& tensor, std::size_t i, bool value) {
        if (tensor.dtype == "float32") {
            static_cast<float*>(tensor.data)[i] = value;
        } else if (tensor.dtype == "float16") {
            static_cast<std::uint16_t*>(tensor.data)[i] = value ? 0x3C00 : 0;  // 1
        } else if (tensor.dtype == "int64") {
            static_cast<std::int64_t*>(tensor.data)[i] = value;
        } else if (tensor.dtype == "int32") {
            static_cast<std::int32_t*>(tensor.data)[i] = value;
        } else {  // bool, uint8, int8
            static_cast<std::uint8_t*>(tensor.data)[i] = value;
        }
    }

    Tensor output(const Port& port, const Sizes& sizes) {
        Tensor tensor = request_->output(port.name);
        if (tensor.shape != shape_of(port.axes, sizes)) {
            std::string found;
            for (const std::size_t n : tensor.shape) found += (found.empty() ? "" : " ") + std::to_string(n);
            throw BundleError("the " + entry().role + " gave " + port.name + " of " + found +
                              " where its manifest promises " + port.axes + "; export the bundle again");
        }
        return tensor;
    }

    void check_numbers(const Port& port, const Tensor& tensor) const {
        if (port.dtype != "float32") return;
        const auto* numbers = static_cast<const float*>(tensor.data);
        if (!std::all_of(numbers, numbers + tensor.count(), [](float x) { return std::isfinite(x); })) {
            throw BundleError("the " + entry().role + " gave NaN or infinite " + port.name +
                              "; its weights or what it was given are damaged");
        }
    }

    std::shared_ptr<LoadedGraph> graph_;
    std::unique_ptr<Request> request_;
    bool sparing_ = false;
};

}  // namespace vidtok::detail
