// From a stream to graph calls: cut along time, drop what is surplus in front, flush what waits at the end.
#pragma once

#include "stateful_graph.hpp"

namespace vidtok {

/// One stream through a graph. `push` takes any number of steps and gives those that are complete; `finish` the rest.
class Calls {
public:
    Calls(std::shared_ptr<LoadedGraph> graph, const CallRule& rule) : graph_(std::move(graph)), rule_(rule) {}

    const GraphEntry& entry() const { return graph_.entry(); }
    std::size_t most() const { return rule_.most; }

    /// Add a step behind what waits; `run_full` runs the calls.
    void add(Step step) { waiting_.push_back(std::move(step)); }

    /// Run every call that is full.
    std::vector<Step> run_full() {
        std::vector<Step> out;
        while (const std::size_t size = next_size()) {
            run(size, false, out);
            rule_.first.reset();
        }
        return out;
    }

    /// Run what still waits as a shorter call, then the flush call, if there is one.
    std::vector<Step> finish() {
        std::vector<Step> out;
        if (!waiting_.empty()) run(waiting_.size(), false, out);
        if (rule_.flush && newest_) {
            waiting_.assign(rule_.flush, *newest_);
            run(rule_.flush, true, out);
        }
        return out;
    }

private:
    std::size_t next_size() const {
        const std::size_t ready = waiting_.size();
        if (rule_.first) return ready >= *rule_.first ? *rule_.first : 0;
        return std::min(rule_.most, ready - ready % rule_.multiple);
    }

    void run(std::size_t size, bool flush, std::vector<Step>& out) {
        std::vector<Step> steps = graph_.run(waiting_, size, flush);
        if (rule_.flush) newest_ = std::move(waiting_[size - 1]);
        waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(size));
        if (flush) steps.resize(std::min(steps.size(), rule_.keep));
        const std::size_t surplus = std::min(rule_.drop, steps.size());
        rule_.drop -= surplus;
        out.insert(out.end(), std::make_move_iterator(steps.begin() + static_cast<std::ptrdiff_t>(surplus)),
                   std::make_move_iterator(steps.end()));
    }

    StatefulGraph graph_;
    CallRule rule_;
    std::deque<Step> waiting_;
    std::optional<Step> newest_;
};

/// What opens a stream: the bundle's description, its loaded graph, and how the graph is called.
struct StreamSource {
    std::shared_ptr<const Manifest> manifest;
    std::shared_ptr<LoadedGraph> graph;
    CallRule rule;
};

}  // namespace vidtok
