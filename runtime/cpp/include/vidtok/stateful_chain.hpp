// The loop that runs the graphs of a role one after the other, carries their states from call to call and sets flags.
#pragma once

#include <cmath>
#include <cstring>
#include <deque>

#include "session.hpp"

namespace vidtok {

/// One time step of data as a role's graphs take or give it: 4-byte numbers (float32 or int32) in the order `C H W`.
struct Step {
    std::size_t channels = 0;
    std::size_t height = 0;
    std::size_t width = 0;
    std::vector<std::uint32_t> numbers;
};

namespace detail {

/// A graph and its state in one stream.
class StatefulGraph {
public:
    explicit StatefulGraph(std::shared_ptr<LoadedGraph> graph)
        : graph_(std::move(graph)), request_(graph_->session->request()) {}

    const GraphEntry& entry() const { return graph_->entry; }

    /// Begin a stream of data of these sizes: states are zero.
    void start(const Sizes& sizes) {
        std::vector<StateTensor> states;
        for (const State& state : entry().states) {
            states.push_back({state.input, state.output, shape_of(state.axes, sizes)});
        }
        request_->start(states);
    }

    /// Memory of the data of the next call.
    Tensor data(const Sizes& sizes) {
        return request_->input(entry().data().name, shape_of(entry().data().axes, sizes));
    }

    /// Run a call in which these flags are true; gives the result. Throws ProviderError, and BundleError when other
    /// sizes than promised or NaN or infinite numbers come out.
    Tensor run(const Sizes& sizes, const std::set<std::string>& true_flags) {
        for (const Port& flag : entry().flags) {
            const Tensor tensor = request_->input(flag.name, shape_of(flag.axes, sizes));
            for (std::size_t i = 0; i < tensor.count(); ++i) fill(tensor, i, true_flags.count(flag.name) != 0);
        }
        request_->run();
        for (const Port& port : entry().outputs) check(port, request_->output(port.name), shape_of(port.axes, sizes));
        return request_->output(entry().result().name);
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

    void check(const Port& port, const Tensor& tensor, const Shape& promised) const {
        if (tensor.shape != promised) {
            std::string found;
            for (const std::size_t n : tensor.shape) found += (found.empty() ? "" : " ") + std::to_string(n);
            throw BundleError("the " + entry().role + " gave " + port.name + " of " + found +
                              " where its manifest promises " + port.axes + "; export the bundle again");
        }
        if (port.dtype != "float32") return;
        const auto* numbers = static_cast<const float*>(tensor.data);
        if (!std::all_of(numbers, numbers + tensor.count(), [](float x) { return std::isfinite(x); })) {
            throw BundleError("the " + entry().role + " gave NaN or infinite " + port.name +
                              "; its weights or what it was given are damaged");
        }
    }

    std::shared_ptr<LoadedGraph> graph_;
    std::unique_ptr<Request> request_;
};

}  // namespace detail

/// The graphs of a role and their states in one stream.
class StatefulChain {
public:
    /// flags: of each flag the calls in which it is true.
    StatefulChain(const LoadedChain& graphs, std::map<std::string, std::set<std::string>> flags)
        : graphs_(graphs.begin(), graphs.end()), flags_(std::move(flags)) {}

    /// The next call begins a new stream.
    void restart() { calls_ = 0; }

    /// Run one call with the first `count` of these steps; flush: it comes after the end of the stream.
    ///
    /// Throws ProviderError, and BundleError when other sizes than promised or NaN or infinite numbers come out.
    std::vector<Step> run(const std::deque<Step>& steps, std::size_t count, bool flush) {
        const Step& one = steps.front();
        const std::string& axes = graphs_.front().entry().data().axes;
        const Sizes sizes = split_axes(axes).size() == 5
                                ? sizes_of(axes, {1, one.channels, count, one.height, one.width})
                                : sizes_of(axes, {1, count, one.height, one.width});
        if (calls_++ == 0) {
            for (detail::StatefulGraph& graph : graphs_) graph.start(sizes);
        }
        const std::set<std::string> true_flags = flags_of_call(flush);
        Tensor result;
        for (detail::StatefulGraph& graph : graphs_) {
            const Tensor data = graph.data(sizes);
            if (result.data == nullptr) {
                join(steps, count, data);
            } else {
                std::memcpy(data.data, result.data, result.bytes());
            }
            result = graph.run(sizes, true_flags);
        }
        return split(result);
    }

private:
    std::set<std::string> flags_of_call(bool flush) const {
        std::set<std::string> all;
        for (const auto& [name, calls] : flags_) {
            if ((calls_ == 1 && calls.count(first_call)) || (calls_ == 2 && calls.count(second_call)) ||
                (flush && calls.count(flush_call))) {
                all.insert(name);
            }
        }
        return all;
    }

    /// Steps into `N C T H W` or `N T H W`.
    static void join(const std::deque<Step>& steps, std::size_t count, const Tensor& tensor) {
        const Step& one = steps.front();
        const std::size_t plane = one.height * one.width;
        auto* data = static_cast<std::uint32_t*>(tensor.data);
        for (std::size_t t = 0; t < count; ++t) {
            for (std::size_t c = 0; c < one.channels; ++c) {
                std::memcpy(data + (c * count + t) * plane, steps[t].numbers.data() + c * plane, 4 * plane);
            }
        }
    }

    /// The inverse: one step a T.
    static std::vector<Step> split(const Tensor& tensor) {
        const Shape& shape = tensor.shape;
        const std::size_t rank = shape.size(), channels = rank == 5 ? shape[1] : 1;
        const std::size_t count = shape[rank - 3], height = shape[rank - 2], width = shape[rank - 1];
        const std::size_t plane = height * width;
        const auto* data = static_cast<const std::uint32_t*>(tensor.data);
        std::vector<Step> steps(count, {channels, height, width, std::vector<std::uint32_t>(channels * plane)});
        for (std::size_t t = 0; t < count; ++t) {
            for (std::size_t c = 0; c < channels; ++c) {
                std::memcpy(steps[t].numbers.data() + c * plane, data + (c * count + t) * plane, 4 * plane);
            }
        }
        return steps;
    }

    std::vector<detail::StatefulGraph> graphs_;
    std::map<std::string, std::set<std::string>> flags_;
    std::size_t calls_ = 0;
};

}  // namespace vidtok
