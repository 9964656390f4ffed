// How streams of each size are cut: as the bundle says, into tiles that were asked for, or within a limit of memory.
#pragma once

#include <numeric>
#include <tuple>

#include "loaded_graphs.hpp"
#include "planner.hpp"

namespace vidtok::detail {

/// Frames or latents, whichever the calls of a role are counted in, of a latent.
inline std::size_t unit_of(const StreamSpec& spec, const std::string& role) {
    return role == "encoder" ? spec.time_factor : 1;
}

/// The calls of a role in at most so many latents each, where they may be cut.
inline CallSpec shortened(const StreamSpec& spec, const std::string& role, std::size_t chunk) {
    CallSpec calls = spec.calls(role);
    if (calls.max && !calls.exact) calls.max = std::min(*calls.max, chunk * unit_of(spec, role));
    return calls;
}

inline Chunks chunks_of(const StreamSpec& spec, const std::string& role) {
    const CallSpec& calls = spec.calls(role);
    const std::size_t unit = unit_of(spec, role);
    const std::size_t longest =
        !calls.max && spec.groups ? spec.groups->latents : (calls.max.value_or(1) + unit - 1) / unit;
    const std::size_t step = calls.multiple / std::gcd(calls.multiple, unit);
    if (!calls.max || calls.exact || step > longest) return {longest, longest};  // what cannot be cut
    return {step, longest - longest % step};
}

/// The plans of one tokenizer for all its streams, in whatever threads they run.
class Plans {
public:
    /// max_tile, max_memory: as TokenizerOptions has them. Throws InputError where both are given.
    Plans(std::shared_ptr<const Manifest> manifest, std::shared_ptr<LoadedGraphs> graphs, std::size_t max_tile,
          std::size_t max_memory)
        : manifest_(std::move(manifest)), graphs_(std::move(graphs)), max_tile_(max_tile), max_memory_(max_memory) {
        if (max_tile_ && max_memory_) throw InputError("max_memory chooses the tiles; leave max_tile out");
    }

    /// Throw InputError where no tiles of a role are as small as was asked for.
    void check(const std::string& role) const {
        if (max_tile_) largest_tile(role);
    }

    /// The plan of a role for frames of `height` x `width` pixels, edges padded. Under a limit of memory the streams of
    /// all graphs loaded so far are taken to run at the same time. Throws InputError when the memory is too little.
    CallPlan plan(const std::string& role, const StreamSpec& spec, std::size_t height, std::size_t width) {
        const std::size_t rows = height / spec.spatial_multiple, columns = width / spec.spatial_multiple;
        const Chunks chunks = chunks_of(spec, role);
        if (max_memory_) return within_memory(role, chunks, rows, columns);
        CallPlan plan;
        plan.chunk = chunks.longest;
        const std::size_t most = max_tile_ ? largest_tile(role) : 0;
        plan.tiles = {{role, {}}};
        for (const GraphEntry& graph : graphs_->entries(role)) {
            const std::optional<std::size_t> margin = margin_of(graph, spec.spatial_multiple);
            plan.tiles.front().tilings.push_back(most && margin
                                                     ? Tiling{cut(rows, most, *margin), cut(columns, most, *margin)}
                                                     : Tiling::whole(rows, columns));
        }
        return plan;
    }

private:
    using Key = std::tuple<std::vector<std::string>, std::size_t, std::size_t, std::size_t, std::size_t>;

    CallPlan within_memory(const std::string& role, const Chunks& chunks, std::size_t height, std::size_t width) {
        const std::lock_guard<std::mutex> one_at_a_time(turn_);
        for (;;) {
            const std::vector<std::string> roles = graphs_->roles_with(role);
            const Key key{roles, chunks.step, chunks.longest, height, width};
            const auto known = plans_.find(key);
            if (known != plans_.end()) return known->second;
            std::vector<std::vector<GraphEntry>> chains;
            for (const std::string& name : roles) chains.push_back(graphs_->entries(name));
            try {
                const Planner planner(*manifest_, chains, graphs_->provider(), max_memory_, chunks);
                return plans_.emplace(key, planner.choose(height, width)).first->second;
            } catch (const InputError&) {
                if (!graphs_->drop_others(role)) throw;
            }
        }
    }

    /// Latents along an axis of the largest tile that was asked for.
    std::size_t largest_tile(const std::string& role) const {
        const std::size_t multiple = manifest_->stream.spatial_multiple;
        const std::string what = "the " + role + " of " + manifest_->name;
        const std::vector<std::size_t> margins = margins_of(graphs_->entries(role), multiple);
        if (margins.empty()) throw InputError(what + " cannot be cut into tiles; leave max_tile out");
        const std::size_t least = smallest_tile(*std::max_element(margins.begin(), margins.end())) * multiple;
        if (max_tile_ < least) {
            throw InputError("tiles of " + what + " are " + std::to_string(least) + " pixels at least, got " +
                             std::to_string(max_tile_));
        }
        return max_tile_ / multiple;
    }

    std::shared_ptr<const Manifest> manifest_;
    std::shared_ptr<LoadedGraphs> graphs_;
    std::size_t max_tile_;
    std::size_t max_memory_;
    std::mutex turn_;
    std::map<Key, CallPlan> plans_;
};

}  // namespace vidtok::detail
