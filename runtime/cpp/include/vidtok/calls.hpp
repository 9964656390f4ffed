// From a stream to calls: cut along time, drop what is surplus in front, flush what waits at the end.
#pragma once

#include "plans.hpp"
#include "stateful_chain.hpp"

namespace vidtok {

/// One stream through the graphs of a role. `add` takes steps; all but `set_drop` give those that are complete.
class Calls {
public:
    /// drop: steps to throw away at the start of what comes out; none: not known yet, and nothing runs until it is.
    Calls(std::shared_ptr<StatefulChain> chain, const StreamSpec& spec, const CallPlan& plan,
          std::optional<std::size_t> drop)
        : chain_(std::move(chain)), spec_(detail::shortened(spec, chain_->role(), plan.chunk)), drop_(drop) {
        chain_->restart(plan.tilings(chain_->role()), plan.sparing());
    }

    // Not copied: two would share the state of the graphs.
    Calls(Calls&&) = default;
    Calls& operator=(Calls&&) = default;

    /// Add a step behind what waits; gives what comes out where that makes a call as large as calls may be.
    std::vector<Step> add(Step step) {
        waiting_.push_back(std::move(step));
        const std::size_t first = opens_ ? spec_.first.value_or(0) : 0;
        return spec_.max && waiting_.size() >= first + *spec_.max ? run_full() : std::vector<Step>();
    }

    void set_drop(std::size_t drop) { drop_ = drop; }

    /// Run every call that is full, also smaller ones.
    std::vector<Step> run_full() {
        std::vector<Step> out;
        while (const std::size_t size = drop_ ? spec_.next_size(waiting_.size(), opens_) : 0) run(size, false, out);
        return out;
    }

    /// Run what still waits, then the flush call, if there is one.
    std::vector<Step> finish() {
        std::vector<Step> out;
        while (!waiting_.empty()) run(spec_.last_size(waiting_.size(), opens_), false, out);
        if (spec_.flush && newest_) {
            waiting_.assign(spec_.flush->size, *newest_);
            run(spec_.flush->size, true, out);
        }
        return out;
    }

private:
    void run(std::size_t size, bool flush, std::vector<Step>& out) {
        if (spec_.flush) newest_ = waiting_[size - 1];
        std::vector<Step> steps = chain_->run(waiting_, size, flush);
        opens_ = false;
        if (flush) steps.resize(std::min(steps.size(), spec_.flush->keep));
        const std::size_t surplus = std::min(*drop_, steps.size());
        *drop_ -= surplus;
        out.insert(out.end(), std::make_move_iterator(steps.begin() + static_cast<std::ptrdiff_t>(surplus)),
                   std::make_move_iterator(steps.end()));
    }

    std::shared_ptr<StatefulChain> chain_;
    CallSpec spec_;
    std::optional<std::size_t> drop_;
    bool opens_ = true;
    std::deque<Step> waiting_;
    std::optional<Step> newest_;
};

/// What opens streams one after another: how they fall into groups and calls, the graphs that a call runs, and how
/// frames of each size are cut.
struct StreamSource {
    std::shared_ptr<const StreamSpec> spec;
    std::shared_ptr<StatefulChain> chain;
    std::shared_ptr<detail::Plans> plans;

    /// The calls of a stream of frames of a size in pixels, edges padded; throws InputError, as plans do.
    Calls calls(std::size_t height, std::size_t width, std::optional<std::size_t> drop) const {
        return Calls(chain, *spec, plans->plan(chain->role(), *spec, height, width), drop);
    }
};

}  // namespace vidtok
