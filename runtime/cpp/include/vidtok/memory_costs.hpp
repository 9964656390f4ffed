// Written by `python scripts/memory.py header`; vidtok_runtime/memory/predict.py explains the numbers.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>

namespace vidtok::detail {

struct Costs {
    double process, loading, weights, widest, states;
};

inline const std::map<std::pair<std::string, std::string>, Costs> costs{  // by provider and role
    {{"cpu", "encoder"}, {66.5, 3.0, 2.2, 6.9, 0.3}},
    {{"cpu", "decoder"}, {66.5, 3.0, 2.2, 6.3, 0.2}},
    {{"openvino", "encoder"}, {113.1, 0.0, 4.5, 7.5, 1.7}},
    {{"openvino", "decoder"}, {113.1, 0.0, 4.5, 8.0, 1.3}},
};
inline const std::string unmeasured_engine = "cpu";
constexpr double unmeasured_times = 1.5;
inline const std::set<std::string> growing{"cpu"};
inline const std::map<std::string, double> pixel_copies{{"encoder", 3}, {"decoder", 2}};
inline const std::map<std::string, double> command_mib{{"cpu", 40}, {"openvino", 60}};
constexpr double read_bytes = 70, write_bytes = 25, write_frame_bytes = 3.5;
constexpr double writers_a_core = 1.5;
constexpr double max_ahead = 40, min_ahead = 10, pixels_ahead = 40000000;
constexpr double in_hand = 0.1, doubling = 0.1, kept = 0.4;

}  // namespace vidtok::detail
