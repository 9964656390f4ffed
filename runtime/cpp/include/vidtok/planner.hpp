// Which chunk length and which tiles keep a stream within a limit of memory.
#pragma once

#include <optional>

#include "predict.hpp"
#include "tiled_graph.hpp"

namespace vidtok {

/// Tiles of the frames of a role, for each of its graphs.
struct RoleTiles {
    std::string role;
    std::vector<detail::Tiling> tilings;
};

/// How to cut a stream: latents a graph call at most, tiles of each role's graphs, bytes at the peak (none: not
/// predicted) and one line about it for people; growing: calls are as short as they can be, on an engine that would take
/// more than they need.
struct CallPlan {
    std::size_t chunk = 1;
    std::vector<RoleTiles> tiles;
    std::optional<double> peak;
    std::string text;
    bool growing = false;

    /// Whether graphs keep nothing that would only make the next call faster.
    bool sparing() const {
        return growing || std::any_of(tiles.begin(), tiles.end(),
                                      [](const RoleTiles& r) { return detail::is_cut(r.tilings); });
    }

    /// Of one of its roles.
    const std::vector<detail::Tiling>& tilings(const std::string& role) const {
        return std::find_if(tiles.begin(), tiles.end(), [&](const RoleTiles& r) { return r.role == role; })->tilings;
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
            roles_.push_back({chain.front().role, chain, sizes_of_graphs(manifest, chain)});
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
        std::vector<double> weights;  // bytes of each graph's files
    };

    /// How the graphs of a role are cut, and what that takes.
    struct Choice {
        std::vector<Tiling> tilings;
        Counts counts;
        double computed;  // what all tiles of all graphs compute, in the unit of `GraphEntry::work`
    };

    std::size_t multiple() const { return manifest_.stream.spatial_multiple; }

    /// The plans from the best on; the first that fits, and `action` with each one before.
    template <class Action>
    std::optional<CallPlan> first_that_fits(std::size_t height, std::size_t width, Action action) const {
        std::vector<const Choice*> chosen(roles_.size());
        for (std::size_t chunk = chunks_.longest; chunk >= chunks_.step; chunk -= chunks_.step) {
            std::vector<Choice> whole;
            for (const Role& role : roles_) {
                const std::vector<Tiling> frames(role.chain.size(), Tiling::whole(height, width));
                whole.push_back(choice(role, frames, chunk));
            }
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

    Choice choice(const Role& role, const std::vector<Tiling>& tilings, std::size_t chunk) const {
        double computed = 0;
        for (std::size_t i = 0; i < tilings.size(); ++i) {
            computed += role.chain[i].work() * static_cast<double>(tilings[i].computed());
        }
        return {tilings, Counts::of(manifest_, role.chain, tilings, chunk, role.weights), computed};
    }

    /// From whole frames on, each time with smaller tiles of a graph: where they save most for what they compute.
    std::vector<Choice> choices_of(const Role& role, std::size_t height, std::size_t width) const {
        const Costs& costs = costs_of(provider_, role.name);
        std::vector<std::vector<Tiling>> ways;  // of each graph
        std::vector<Tiling> tilings;
        for (const GraphEntry& graph : role.chain) {
            const std::optional<std::size_t> margin = margin_of(graph, multiple());
            ways.push_back(margin ? grids(height, width, *margin) : std::vector{Tiling::whole(height, width)});
            tilings.push_back(ways.back().front());
        }
        std::vector<std::size_t> at(ways.size());  // the way that each takes now
        std::vector<Choice> found;
        for (;;) {
            found.push_back(choice(role, tilings, chunks_.step));
            double most = -1;
            std::size_t best = 0;
            for (std::size_t i = 0; i < ways.size(); ++i) {
                if (at[i] + 1 == ways[i].size()) continue;
                const double worth = worth_of(found.back().counts.calls[i].peak(costs), role.chain[i].work(), tilings[i],
                                              ways[i][at[i] + 1]);
                if (worth > most) {
                    most = worth;
                    best = i;
                }
            }
            if (most < 0) return found;
            tilings[best] = ways[best][++at[best]];
        }
    }

    /// Bytes that smaller tiles save, for what they compute; peak: of the graph's call now.
    static double worth_of(double peak, double work, const Tiling& now, const Tiling& then) {
        const auto number = [](std::size_t n) { return static_cast<double>(n); };
        const double saved = peak * number(now.largest() - then.largest()) / number(now.largest());
        return saved / (work * number(then.computed() - now.computed()));
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
            double sum = 0;
            for (const Choice* one : some) sum += one->computed;
            return sum;
        };
        std::stable_sort(every.begin(), every.end(),
                         [&](const auto& a, const auto& b) { return computed(a) < computed(b); });
        return every;
    }

    CallPlan plan_of(std::size_t chunk, const std::vector<const Choice*>& chosen) const {
        CallPlan plan;
        plan.chunk = chunk;
        plan.growing = growing.count(provider_) && chunk == chunks_.step && chunk < chunks_.longest;
        std::vector<RoleCounts> streams;
        for (std::size_t i = 0; i < roles_.size(); ++i) {
            plan.tiles.push_back({roles_[i].name, chosen[i]->tilings});
            streams.push_back({roles_[i].name, chosen[i]->counts});
        }
        plan.peak = predict(provider_, streams);
        return plan;
    }

    std::string text_of(const CallPlan& plan) const {
        const std::string doubt = is_measured(provider_) ? "" : " (unmeasured on " + provider_ + ")";
        std::string text = format_memory(*plan.peak) + " at the peak" + doubt + ": calls of " +
                           std::to_string(plan.chunk * manifest_.stream.time_factor) + " frames";
        for (const auto& [role, tilings] : plan.tiles) {
            std::string cut;
            for (const Tiling& tiling : tilings) {
                if (tiling.count() == 1) continue;
                cut += (cut.empty() ? ", " + role + " in " : " and ") + by(tiling.columns.size(), tiling.rows.size()) +
                       " tiles of " + by(size_of(tiling.columns) * multiple(), size_of(tiling.rows) * multiple());
            }
            text += cut;
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
            if (margins_of(role.chain, multiple()).empty()) text += ", its " + role.name + " cannot be cut into tiles";
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
        if (fitting == 0) return format_memory(limit_) + " are too little for any size of this shape";
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
