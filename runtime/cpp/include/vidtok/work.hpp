// What a stream knows of its failures.
#pragma once

#include "error.hpp"

namespace vidtok::detail {

/// The work of one stream. Once it has failed there is no more: part of what was taken is lost, and what would come out
/// has a hole.
class Work {
public:
    /// Throw InputError where earlier work has failed.
    void check() const {
        if (failed_) throw InputError("an earlier call with this stream has failed; open a new one");
    }

    /// What an action gives, or throws.
    template <class Action>
    auto run(Action action) {
        try {
            return action();
        } catch (...) {
            failed_ = true;
            throw;
        }
    }

private:
    bool failed_ = false;
};

}  // namespace vidtok::detail
