// What this process may use of the machine: its cores, by affinity and by the quota of its control groups; and what it
// gives back.
#pragma once

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "system.hpp"

namespace vidtok::detail {

/// Folders of the control groups, of version 2 or 1, that limit this process's time: its own and all above it.
inline std::vector<fs::path> cpu_groups(const fs::path& root) {
    const auto has_cpu = [](const std::string& list) { return ("," + list + ",").find(",cpu,") != std::string::npos; };
    std::map<std::string, fs::path> places;  // by type of the file system that shows the groups
    std::ifstream member(root / "proc/self/cgroup"), mounts(root / "proc/self/mountinfo");
    for (std::string number, names, place;
         std::getline(std::getline(std::getline(member, number, ':'), names, ':'), place);) {
        if (names.empty() || has_cpu(names)) places[names.empty() ? "cgroup2" : "cgroup"] = place;
    }
    std::vector<fs::path> groups;
    for (std::string line; std::getline(mounts, line);) {
        const std::size_t middle = line.find(" - ");
        if (middle == std::string::npos) continue;
        std::string skipped, top, point, type;
        std::istringstream(line) >> skipped >> skipped >> skipped >> top >> point;
        std::istringstream(line.substr(middle + 3)) >> type;
        const auto found = places.find(type);
        if (found == places.end() || (type == "cgroup" && !has_cpu(line.substr(line.rfind(' ') + 1)))) continue;
        // In a container the path may be that of the host, of which the mount shows the container's part.
        fs::path inside = found->second.lexically_relative(top);
        if (inside.empty() || *inside.begin() == "." || *inside.begin() == "..") inside.clear();
        const fs::path folder = root / fs::path(point).relative_path();
        for (; !inside.empty(); inside = inside.parent_path()) groups.push_back(folder / inside);
        groups.push_back(folder);
    }
    return groups;
}

/// Cores' worth of time that the tightest control group of this process gets; 0 where none is limited.
inline double core_quota(const fs::path& root) {
    double least = 0;
    for (const fs::path& group : cpu_groups(root)) {
        double quota = 0, period = 0;
        std::ifstream both(group / "cpu.max"), first(group / "cpu.cfs_quota_us"), second(group / "cpu.cfs_period_us");
        if (!(both >> quota >> period) && !(first >> quota && second >> period)) continue;  // "max": no number
        if (quota > 0 && period > 0 && (least == 0 || quota / period < least)) least = quota / period;
    }
    return least;
}

/// Threads for a session that was not told how many: the cores of the process's affinity, at most as many as the quota
/// of its control groups.
inline std::size_t cores() {
    std::size_t count = std::max(1u, std::thread::hardware_concurrency());
#ifdef __linux__
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) count = static_cast<std::size_t>(CPU_COUNT(&allowed));
    if (const double quota = core_quota("/"); quota > 0) {
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
