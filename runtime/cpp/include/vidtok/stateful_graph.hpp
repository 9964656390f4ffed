// The loop that carries a graph's state from call to call and sets its flags.
#pragma once

#include <cmath>
#include <cstring>
#include <deque>

#include "session.hpp"

namespace vidtok {

/// One time step of data as a graph takes or gives it: 4-byte numbers (float32 or int32) in the order `C H W`.
struct Step {
    std::size_t channels = 0;
    std::size_t height = 0;
    std::size_t width = 0;
    std::vector<std::uint32_t> numbers;
};

/// A graph of a bundle and the state of one stream through it.
class StatefulGraph {
public:
    explicit StatefulGraph(std::shared_ptr<LoadedGraph> graph)
        : graph_(std::move(graph)), request_(graph_->session->request()) {}

    const GraphEntry& entry() const { return graph_->entry; }

    /// Run one call with the first `count` of these steps; flush: it comes after the end of the stream.
    ///
    /// Throws ProviderError, and BundleError when other sizes than promised or NaN or infinite numbers come out.
    std::vector<Step> run(const std::deque<Step>& steps, std::size_t count, bool flush) {
        const Step& one = steps.front();
        const std::size_t plane = one.height * one.width;
        const bool has_channels = split_axes(entry().data().axes).size() == 5;
        const Shape shape = has_channels ? Shape{1, one.channels, count, one.height, one.width}
                                         : Shape{1, count, one.height, one.width};
        if (calls_++ == 0) start(shape);
        set_flags(flush);
        auto* data = static_cast<std::uint32_t*>(request_->input(entry().data().name, shape).data);
        for (std::size_t t = 0; t < count; ++t) {
            for (std::size_t c = 0; c < one.channels; ++c) {
                std::memcpy(data + (c * count + t) * plane, steps[t].numbers.data() + c * plane, 4 * plane);
            }
        }
        request_->run();
        check_outputs(sizes_of(entry().data().axes, shape));
        return split(request_->output(entry().result().name));
    }

private:
    void start(const Shape& shape) {
        const Sizes sizes = sizes_of(entry().data().axes, shape);
        std::vector<StateTensor> states;
        for (const State& state : entry().states) {
            states.push_back({state.input, state.output, shape_of(state.axes, sizes)});
        }
        request_->start(states);
    }

    void set_flags(bool flush) {
        for (const Flag& flag : entry().flags) {
            const bool set = (calls_ == 1 && flag.set.count(first_call)) ||
                             (calls_ == 2 && flag.set.count(second_call)) || (flush && flag.set.count(flush_call));
            const Tensor tensor = request_->input(flag.name, shape_of(flag.axes, {}));
            for (std::size_t i = 0; i < tensor.count(); ++i) fill(tensor, i, set);
        }
    }

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

    void check_outputs(const Sizes& sizes) {
        for (const Port& port : entry().outputs) {
            const Tensor tensor = request_->output(port.name);
            if (tensor.shape != shape_of(port.axes, sizes)) {
                std::string found;
                for (const std::size_t n : tensor.shape) found += (found.empty() ? "" : " ") + std::to_string(n);
                throw BundleError("the " + entry().role + " gave " + port.name + " of " + found +
                                  " where its manifest promises " + port.axes + "; export the bundle again");
            }
            if (port.dtype != "float32") continue;
            const auto* numbers = static_cast<const float*>(tensor.data);
            if (!std::all_of(numbers, numbers + tensor.count(), [](float x) { return std::isfinite(x); })) {
                throw BundleError("the " + entry().role + " gave NaN or infinite " + port.name +
                                  "; its weights or what it was given are damaged");
            }
        }
    }

    /// `N C T H W` or `N T H W` as one step a T.
    std::vector<Step> split(const Tensor& tensor) const {
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

    std::shared_ptr<LoadedGraph> graph_;
    std::unique_ptr<Request> request_;
    std::size_t calls_ = 0;
};

}  // namespace vidtok
