// Which chunk length and which tiles keep a stream within a limit of memory.
#pragma once

#include <optional>

#include "predict.hpp"
#include "tiled_graph.hpp"

namespace vidtok {

/// Tiles of the frames of a role.
struct RoleTiles {
    std::string role;
    detail::Tiling tiling;
};

/// How to cut a stream: latents a graph call at most, tiles of each role, bytes at the peak (none: not predicted) and
/// one line about it for people.
struct CallPlan {
    std::size_t chunk = 1;
    std::vector<RoleTiles> tiles;
    std::optional<double> peak;
    std::string text;

    /// Of one of its roles.
    const detail::Tiling& tiling(const std::string& role) const {
        return std::find_if(tiles.begin(), tiles.end(), [&](const RoleTiles& r) { return r.role == role; })->tiling;
    }
};

namespace detail {

/// Latents that a call may have: `step` and its multiples to `longest`.
struct Chunks {
    std::size_t step = 1;
    std::size_t longest = 1;
};

/// What plans depend on: chains that run at the same time, the limit in bytes, chunk lengths that are allowed.
class Planner {
public:
    Planner(const Manifest& manifest, const std::vector<std::vector<GraphEntry>>& chains, std::string provider,
            std::size_t limit, const Chunks& chunks)
        : manifest_(manifest), provider_(std::move(provider)), limit_(static_cast<double>(limit)), chunks_(chunks) {
        for (const std::vector<GraphEntry>& chain : chains) {
            const std::optional<std::size_t> margin = margin_of(chain, multiple());
            roles_.push_back({chain.front().role, chain, margin, sizes_of_graphs(manifest, chain)});
        }
    }

    /// The first plan that fits frames of `height` x `width` latents; throws InputError with what would fit.
    ///
    /// Whole frames come first, in calls from long to short, then tiles, from the least that has to be computed on.
    CallPlan choose(std::size_t height, std::size_t width) const {
        std::optional<CallPlan> least;
        std::optional<CallPlan> found = first_that_fits(height, width, [&](CallPlan&& plan) {
            if (!least || plan.peak < least->peak) least = std::move(plan);
        });
        if (!found) throw too_little(height, width, *least);
        found->text = text_of(*found);
        return *found;
    }

private:
    struct Role {
        std::string name;
        std::vector<GraphEntry> chain;
        std::optional<std::size_t> margin;  // none: no tiles
        std::vector<double> weights;        // bytes of each graph's files
    };

    /// A way to cut frames for a role.
    struct Choice {
        Tiling tiling;
        Counts counts;
    };

    std::size_t multiple() const { return manifest_.stream.spatial_multiple; }

    /// The plans from the best on; the first that fits, and `action` with each one before.
    template <class Action>
    std::optional<CallPlan> first_that_fits(std::size_t height, std::size_t width, Action action) const {
        std::vector<const Choice*> chosen(roles_.size());
        for (std::size_t chunk = chunks_.longest; chunk >= chunks_.step; chunk -= chunks_.step) {
            std::vector<Choice> whole;
            for (const Role& role : roles_) whole.push_back(choice(role, Tiling::whole(height, width), chunk));
            for (std::size_t i = 0; i < whole.size(); ++i) chosen[i] = &whole[i];
            CallPlan plan = plan_of(chunk, chosen);
            if (*plan.peak <= limit_) return plan;
            action(std::move(plan));
        }
        std::vector<std::vector<Choice>> choices;
        for (const Role& role : roles_) choices.push_back(choices_of(role, height, width));
        for (const std::vector<const Choice*>& some : in_order(choices)) {
            CallPlan plan = plan_of(chunks_.step, some);
            if (*plan.peak <= limit_) return plan;
            action(std::move(plan));
        }
        return std::nullopt;
    }

    Choice choice(const Role& role, Tiling tiling, std::size_t chunk) const {
        Counts counts = Counts::of(manifest_, role.chain, tiling, chunk, role.weights);
        return {std::move(tiling), std::move(counts)};
    }

    std::vector<Choice> choices_of(const Role& role, std::size_t height, std::size_t width) const {
        if (!role.margin) return {choice(role, Tiling::whole(height, width), chunks_.step)};
        std::vector<Choice> found;
        for (Tiling& tiling : grids(height, width, *role.margin)) {
            found.push_back(choice(role, std::move(tiling), chunks_.step));
        }
        return found;
    }

    /// One choice of each role, in every combination, from the least that has to be computed on.
    static std::vector<std::vector<const Choice*>> in_order(const std::vector<std::vector<Choice>>& choices) {
        std::vector<std::vector<const Choice*>> every(1);
        for (const std::vector<Choice>& of_role : choices) {
            std::vector<std::vector<const Choice*>> longer;
            for (const std::vector<const Choice*>& some : every) {
                for (const Choice& one : of_role) {
                    longer.push_back(some);
                    longer.back().push_back(&one);
                }
            }
            every = std::move(longer);
        }
        const auto computed = [](const std::vector<const Choice*>& some) {
            std::size_t sum = 0;
            for (const Choice* one : some) sum += one->tiling.computed();
            return sum;
        };
        std::stable_sort(every.begin(), every.end(),
                         [&](const auto& a, const auto& b) { return computed(a) < computed(b); });
        return every;
    }

    CallPlan plan_of(std::size_t chunk, const std::vector<const Choice*>& chosen) const {
        CallPlan plan;
        plan.chunk = chunk;
        std::vector<RoleCounts> streams;
        for (std::size_t i = 0; i < roles_.size(); ++i) {
            plan.tiles.push_back({roles_[i].name, chosen[i]->tiling});
            streams.push_back({roles_[i].name, chosen[i]->counts});
        }
        plan.peak = predict(provider_, streams);
        return plan;
    }

    std::string text_of(const CallPlan& plan) const {
        const std::string doubt = is_measured(provider_) ? "" : " (unmeasured on " + provider_ + ")";
        std::string text = format_memory(*plan.peak) + " at the peak" + doubt + ": calls of " +
                           std::to_string(plan.chunk * manifest_.stream.time_factor) + " frames";
        for (const auto& [role, tiling] : plan.tiles) {
            if (tiling.count() == 1) continue;
            text += ", " + role + " in " + by(tiling.columns.size(), tiling.rows.size()) + " tiles of " +
                    by(size_of(tiling.columns) * multiple(), size_of(tiling.rows) * multiple());
        }
        return text;
    }

    static std::string by(std::size_t width, std::size_t height) {
        return std::to_string(width) + "x" + std::to_string(height);
    }

    InputError too_little(std::size_t height, std::size_t width, const CallPlan& least) const {
        std::string text = by(width * multiple(), height * multiple()) + " does not fit into " +
                           format_memory(limit_) + " with " + provider_ + "; it needs " + text_of(least);
        for (const Role& role : roles_) {
            if (!role.margin) text += ", its " + role.name + " cannot be cut into tiles";
        }
        return InputError(text + ". " + remedy(height, width));
    }

    /// What to do: the largest size of this shape that fits.
    std::string remedy(std::size_t height, std::size_t width) const {
        const std::size_t shorter = std::min(height, width);
        const auto fits = [&](std::size_t side) {
            const auto scaled = [&](std::size_t length) { return (length * side + shorter - 1) / shorter; };
            return first_that_fits(scaled(height), scaled(width), [](CallPlan&&) {}).has_value();
        };
        std::size_t fitting = 0;  // known to fit, and
        for (std::size_t most = shorter; fitting + 1 < most;) {  // known not to
            const std::size_t side = (fitting + most + 1) / 2;
            (fits(side) ? fitting : most) = side;
        }
        if (fitting == 0) return format_memory(limit_) + " are too little for any size";
        return "Allow more memory, or resize the shorter side to " + std::to_string(fitting * multiple());
    }

    const Manifest& manifest_;
    std::string provider_;
    double limit_;
    Chunks chunks_;
    std::vector<Role> roles_;
};

}  // namespace detail

}  // namespace vidtok
