// The plans that fit a bundle into memory: `plans` reads lines and prints the plan of each, or why there is none:
//   "FOLDER" PROVIDER LIMIT ROLE HEIGHT WIDTH [OTHER ROLE]
// LIMIT in bytes, a size in pixels, the other role's streams running at the same time.
#include <vidtok/plans.hpp>

#include <vidtok/geometry.hpp>

#include <cstdio>
#include <iomanip>
#include <iostream>
#include <sstream>

#include "programs.hpp"

namespace planning {

namespace {

using vidtok::detail::Tiles;
using vidtok::detail::Tiling;

std::string text_of(const Tiles& tiles) {
    return std::to_string(tiles.size()) + " of " + std::to_string(vidtok::detail::size_of(tiles));
}

std::string plan_of(const std::string& line) {
    std::istringstream words(line);
    std::string folder, provider, role, other;
    std::size_t limit = 0, height = 0, width = 0;
    words >> std::quoted(folder) >> provider >> limit >> role >> height >> width;
    const vidtok::Manifest manifest = vidtok::read_manifest(folder);
    const vidtok::StreamSpec& spec = manifest.stream;
    std::vector<std::vector<vidtok::GraphEntry>> chains;
    if (words >> other) chains.push_back(manifest.chain(other, provider, ""));
    chains.push_back(manifest.chain(role, provider, ""));
    const auto [high, wide] = vidtok::detail::padded_size(spec, height, width);
    const vidtok::detail::Planner planner(manifest, chains, provider, limit, vidtok::detail::chunks_of(spec, role));
    const vidtok::CallPlan plan = planner.choose(high / spec.spatial_multiple, wide / spec.spatial_multiple);
    const std::string peak = std::to_string(static_cast<std::size_t>(*plan.peak));
    std::string text = peak + " bytes, chunk " + std::to_string(plan.chunk) + (plan.sparing() ? ", sparing" : "");
    for (const auto& [name, tilings] : plan.tiles) {
        text += ", " + name;
        for (const Tiling& tiling : tilings) text += " " + text_of(tiling.rows) + " x " + text_of(tiling.columns);
    }
    return text + "; " + plan.text;
}

}  // namespace

}  // namespace planning

int plans(const Words&) {
    for (std::string line; std::getline(std::cin, line);) {
        try {
            std::printf("%s\n", planning::plan_of(line).c_str());
        } catch (const vidtok::Error& error) {
            std::printf("%s\n", error.what());
        }
    }
    return 0;
}
