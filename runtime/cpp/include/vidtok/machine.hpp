// What this process may use of the machine: its cores, by affinity and by the quota of its control groups; and what it
// gives back.
#pragma once

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace vidtok::detail {

/// Cores' worth of time that a control group gets, version 2 or 1; 0 where it is not limited.
inline double core_quota(const std::string& folder) {
    double quota = 0, period = 0;
    if (std::ifstream both(folder + "/cpu.max"); both >> quota >> period) return quota / period;  // "max": no number
    std::ifstream q(folder + "/cpu/cpu.cfs_quota_us"), p(folder + "/cpu/cpu.cfs_period_us");
    return q >> quota && p >> period && quota > 0 && period > 0 ? quota / period : 0;
}

/// Threads for a session that was not told how many: the cores of its affinity, at most as many as its container's quota.
inline std::size_t cores() {
    std::size_t count = std::max(1u, std::thread::hardware_concurrency());
#ifdef __linux__
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) count = static_cast<std::size_t>(CPU_COUNT(&allowed));
    if (const double quota = core_quota("/sys/fs/cgroup"); quota > 0) {
        count = std::min(count, static_cast<std::size_t>(std::ceil(quota)));
    }
#endif
    return std::max<std::size_t>(1, count);
}

/// Give back to the system what is free in the process; only glibc keeps much, in pieces between others.
inline void give_back() {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

}  // namespace vidtok::detail
