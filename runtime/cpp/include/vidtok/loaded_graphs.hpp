// The graphs of a tokenizer, which load when a role is first needed.
#pragma once

#include <mutex>

#include "session.hpp"

namespace vidtok::detail {

/// Graphs by role, for any threads at once.
class LoadedGraphs {
public:
    LoadedGraphs(std::shared_ptr<const Manifest> manifest, Engine engine, std::string precision)
        : manifest_(std::move(manifest)), engine_(std::move(engine)), precision_(std::move(precision)) {}

    const std::string& provider() const { return engine_.provider; }
    const std::string& precision() const { return precision_; }

    /// What the manifest says of a role's graphs.
    std::vector<GraphEntry> entries(const std::string& role) const {
        return manifest_->chain(role, engine_.provider, precision_);
    }

    /// Those of a role; throws BundleError.
    LoadedChain load(const std::string& role) {
        const std::lock_guard<std::mutex> one_at_a_time(turn_);
        for (const auto& [name, chain] : loaded_) {
            if (name == role) return chain;
        }
        loaded_.emplace_back(role, load_chain(*manifest_, entries(role), engine_));
        return loaded_.back().second;
    }

    /// Roles in the order in which they were loaded, and this one, if it was not.
    std::vector<std::string> roles_with(const std::string& role) const {
        const std::lock_guard<std::mutex> one_at_a_time(turn_);
        std::vector<std::string> roles;
        for (const auto& [name, chain] : loaded_) roles.push_back(name);
        if (std::find(roles.begin(), roles.end(), role) == roles.end()) roles.push_back(role);
        return roles;
    }

    /// Drop the graphs of other roles that no stream uses; whether there were some.
    bool drop_others(const std::string& role) {
        const std::lock_guard<std::mutex> one_at_a_time(turn_);
        const auto unused = [&](const std::pair<std::string, LoadedChain>& named) {
            return named.first != role && named.second.front().use_count() == 1;
        };
        const auto end = std::remove_if(loaded_.begin(), loaded_.end(), unused);
        const bool some = end != loaded_.end();
        loaded_.erase(end, loaded_.end());
        return some;
    }

private:
    std::shared_ptr<const Manifest> manifest_;
    Engine engine_;
    std::string precision_;
    mutable std::mutex turn_;
    std::vector<std::pair<std::string, LoadedChain>> loaded_;
};

}  // namespace vidtok::detail
