// The loop that runs the graphs of a role one after the other, carries their states from call to call and sets flags.
#pragma once

#include <deque>

#include "tiled_graph.hpp"

namespace vidtok {

/// One time step of data as a role's graphs take or give it: 4-byte numbers (float32 or int32) in the order `C H W`.
struct Step {
    std::size_t channels = 0;
    std::size_t height = 0;
    std::size_t width = 0;
    std::vector<std::uint32_t> numbers;
};

/// The graphs of a role and their states in one stream.
class StatefulChain {
public:
    /// flags: of each flag the calls in which it is true. multiple: pixels a latent.
    StatefulChain(const LoadedChain& graphs, std::map<std::string, std::set<std::string>> flags, std::size_t multiple)
        : flags_(std::move(flags)) {
        for (const std::shared_ptr<LoadedGraph>& graph : graphs) {
            if (graph->entry.part == "local") {
                graphs_.push_back(std::make_unique<detail::TiledGraph>(graph, multiple));
            } else {
                graphs_.push_back(std::make_unique<detail::StatefulGraph>(graph));
            }
        }
    }

    const std::string& role() const { return graphs_.front()->entry().role; }

    /// The next call begins a new stream, whose frames each graph cuts so; sparing: as `CallPlan` has it.
    void restart(std::vector<detail::Tiling> tilings, bool sparing) {
        calls_ = 0;
        tilings_ = std::move(tilings);
        sparing_ = sparing;
    }

    /// Run one call with the first `count` of these steps, which it takes out; flush: it comes after the end of the
    /// stream.
    ///
    /// Throws ProviderError, and BundleError when other sizes than promised or NaN or infinite numbers come out.
    std::vector<Step> run(std::deque<Step>& steps, std::size_t count, bool flush) {
        const Step& one = steps.front();
        const std::string& axes = graphs_.front()->entry().data().axes;
        const Sizes sizes = split_axes(axes).size() == 5
                                ? sizes_of(axes, {1, one.channels, count, one.height, one.width})
                                : sizes_of(axes, {1, count, one.height, one.width});
        if (calls_++ == 0) {
            for (std::size_t i = 0; i < graphs_.size(); ++i) graphs_[i]->start(sizes, tilings_[i], sparing_);
        }
        const std::set<std::string> true_flags = flags_of_call(flush);
        Tensor result;
        for (const auto& graph : graphs_) {
            const Tensor data = graph->data(sizes);
            if (result.data == nullptr) {
                join(steps, count, data);
                steps.erase(steps.begin(), steps.begin() + static_cast<std::ptrdiff_t>(count));
            } else {
                std::memcpy(data.data, result.data, result.bytes());
            }
            result = graph->run(sizes, true_flags);
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

    std::vector<std::unique_ptr<detail::Graph>> graphs_;
    std::map<std::string, std::set<std::string>> flags_;
    std::vector<detail::Tiling> tilings_;
    bool sparing_ = false;
    std::size_t calls_ = 0;
};

}  // namespace vidtok
