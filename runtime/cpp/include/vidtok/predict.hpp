// What a stream will need at its peak, from the manifest and costs that were measured: a port of the Python runtime's
// vidtok_runtime/memory/predict.py, so that one limit gives one plan in both.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <utility>
#include <vector>

#include "files.hpp"
#include "machine.hpp"
#include "manifest.hpp"
#include "memory_costs.hpp"
#include "tiles.hpp"

namespace vidtok {

/// Bytes of text such as `4GB`, `1.5 GiB`, `800M` or `2000000`; throws InputError.
inline std::size_t parse_memory(const std::string& text) {
    std::size_t at = 0;
    const auto skip = [&](const char* letters) {
        const std::size_t from = at;
        at = std::min(text.find_first_not_of(letters, at), text.size());
        return text.substr(from, at - from);
    };
    skip(" ");
    std::string number = skip("0123456789");
    if (at + 1 < text.size() && text[at] == '.') {
        ++at;
        const std::string places = skip("0123456789");
        number = places.empty() ? "" : number + "." + places;
    }
    skip(" ");
    std::string unit = skip("kmgtibKMGTIB");
    std::transform(unit.begin(), unit.end(), unit.begin(), [](char c) { return c >= 'a' ? char(c - 'a' + 'A') : c; });
    if (!unit.empty() && unit.back() == 'B') unit.pop_back();
    skip(" ");
    constexpr double k = 1000, ki = 1024;
    static const std::map<std::string, double> units{
        {"", 1},          {"K", k},        {"M", k * k},    {"G", k * k * k},    {"T", k * k * k * k},
        {"KI", ki}, {"MI", ki * ki}, {"GI", ki * ki * ki}, {"TI", ki * ki * ki * ki}};
    const auto found = units.find(unit);
    const bool sound = !number.empty() && number[0] != '.' && found != units.end() && at == text.size();
    const double size = sound ? std::strtod(number.c_str(), nullptr) * found->second : 0;
    if (!(size >= 1 && size < static_cast<double>(SIZE_MAX / 2))) {
        throw InputError("an amount of memory is bytes or text such as 4GB or 800MiB, got '" + text + "'");
    }
    return static_cast<std::size_t>(size);
}

/// Bytes as text with a decimal unit, rounded up to two digits or so: what it says is enough.
inline std::string format_memory(double size) {
    char text[40];
    if (size >= 1e9) {
        std::snprintf(text, sizeof text, "%.1fGB", std::ceil(size / 1e8) / 10);
    } else {
        std::snprintf(text, sizeof text, "%.0fMB", std::ceil(size / 1e7) * 10);
    }
    return text;
}

namespace detail {

/// Whether the costs of a provider are its own.
inline bool is_measured(const std::string& provider) { return command_mib.count(provider) != 0; }

/// Whether the graphs tell what a prediction needs.
inline bool tells_stages(const std::vector<GraphEntry>& chain) {
    return std::any_of(chain.begin(), chain.end(), [](const GraphEntry& graph) { return !graph.stages.empty(); });
}

/// Bytes of each graph of a chain, with the files of weights that it is the first to need; throws BundleError.
inline std::vector<double> sizes_of_graphs(const Manifest& manifest, const std::vector<GraphEntry>& chain) {
    WeightsSizes sizes;
    for (const WeightsFile& weights : manifest.weights_files) sizes[weights.file] = weights.size;
    WeightsSizes left = sizes;
    std::vector<double> found;
    for (const GraphEntry& graph : chain) {
        const fs::path path = place_of(manifest, graph.file);
        found.push_back(static_cast<double>(fs::file_size(path)));
        if (sizes.empty()) continue;
        try {
            for (const std::string& file : check_onnx_file(path, sizes)) {
                if (const auto size = left.find(file); size != left.end()) {
                    found.back() += static_cast<double>(size->second);
                    left.erase(size);
                }
            }
        } catch (const FormatError& error) {
            throw BundleError(text_of(path) + " cannot be used: " + error.what() + "; export the bundle again");
        }
    }
    return found;
}

/// Bytes of numbers of four bytes with these axes.
inline double bytes_along(const std::string& axes, const Sizes& sizes) {
    double bytes = 4;
    for (const std::size_t size : shape_of(axes, sizes)) bytes *= static_cast<double>(size);
    return bytes;
}

/// Bytes of the states of a graph for data of these sizes.
inline double states_of(const GraphEntry& graph, const Sizes& sizes) {
    double bytes = 0;
    for (const State& state : graph.states) bytes += bytes_along(state.axes, sizes);
    return bytes;
}

/// Bytes a pixel of a frame to read a clip or to write one, as `vidtok-run` does.
inline double clip_bytes(const std::string& role, double height, double width) {
    if (role == "encoder") return read_bytes;
    const double ahead = std::floor(pixels_ahead / (height * width));
    return write_bytes + write_frame_bytes * (std::clamp(ahead, min_ahead, max_ahead) +
                                              writers_a_core * static_cast<double>(cores()));
}

/// Of a graph's call, or of those for its tiles: bytes of the widest activations and of the states.
struct CallBytes {
    double widest = 0;
    double states = 0;

    /// What the engine takes.
    double peak(const Costs& costs) const { return costs.widest * widest + costs.states * states; }
};

/// Bytes that a stream's peak is made of, before the costs; clip: to read or write the file.
///
/// calls: of each graph. together: sums of those whose memory is there at the same time: of all graphs, as it is kept
/// from call to call; in tiles of those of one part, which gives it back before the other runs. beside: what is held
/// all the time: states that go into a call, those of frames that are cut, with the room beside them, what one graph
/// hands to the next, and copies of pixels.
struct Counts {
    std::vector<double> weights;
    std::vector<CallBytes> calls;
    std::map<std::string, CallBytes> together;
    double beside = 0;
    double clip = 0;

    /// Count for one stream of calls of `chunk` latents; weights: bytes of each graph's files. Throws BundleError where
    /// the graphs tell no stages.
    static Counts of(const Manifest& manifest, const std::vector<GraphEntry>& chain,
                     const std::vector<Tiling>& tilings, std::size_t chunk, const std::vector<double>& weights) {
        if (!tells_stages(chain)) {
            throw BundleError(text_of(manifest.folder) +
                              " tells no stages, so its memory cannot be predicted; export it again");
        }
        const std::size_t multiple = manifest.stream.spatial_multiple, frames = chunk * manifest.stream.time_factor;
        const auto sizes_in_pixels = [&](std::size_t rows, std::size_t columns) {
            return Sizes{{'N', 1}, {'T', frames}, {'H', rows * multiple}, {'W', columns * multiple}};
        };
        const Sizes whole = sizes_in_pixels(length_of(tilings[0].rows), length_of(tilings[0].columns));
        const auto height = static_cast<double>(whole.at('H')), width = static_cast<double>(whole.at('W'));
        const std::string& role = chain.front().role;
        Counts counts;
        counts.weights = weights;
        counts.beside = pixel_copies.at(role) * 4.0 * 3.0 * static_cast<double>(frames) * height * width;
        counts.clip = std::nearbyint(height * width * clip_bytes(role, height, width));
        const bool cut = is_cut(tilings);
        for (std::size_t i = 0; i < chain.size(); ++i) {
            const GraphEntry& graph = chain[i];
            const Tiling& tiling = tilings[i];
            const Sizes sizes = sizes_in_pixels(size_of(tiling.rows), size_of(tiling.columns));
            const auto positions = static_cast<double>(sizes.at('H') * sizes.at('W'));
            double widest = 0;
            for (const Stage& stage : graph.stages) {
                const auto space = static_cast<double>(stage.space), time = static_cast<double>(stage.time);
                const double steps = static_cast<double>(frames) / time + 2;
                const double bytes = 4.0 * static_cast<double>(stage.channels) * steps * positions / (space * space);
                widest = std::max(widest, bytes);
            }
            const double times = 1 + doubling * std::log2(static_cast<double>(tiling.count()));
            counts.calls.push_back({times * widest, std::nearbyint(times * states_of(graph, sizes))});
            CallBytes& sum = counts.together[cut ? graph.part : ""];
            sum.widest += counts.calls.back().widest;
            sum.states += counts.calls.back().states;
            counts.beside += states_of(graph, sizes);
            if (tiling.count() > 1) counts.beside += std::nearbyint(states_of(graph, whole) * (1 + tiling.beside()));
            if (i + 1 < chain.size()) counts.beside += bytes_along(graph.result().axes, whole);
        }
        return counts;
    }

    /// Bytes beside those of the process.
    double peak(const Costs& costs) const {
        CallBytes most, others;
        for (const auto& [part, bytes] : together) {
            const bool more = bytes.peak(costs) > most.peak(costs);
            const CallBytes less = more ? std::exchange(most, bytes) : bytes;
            others.widest += less.widest;
            others.states += less.states;
        }
        const CallBytes running{most.widest + kept * others.widest, most.states + kept * others.states};
        double sum = 0, largest = 0;
        for (const double size : weights) {
            sum += size;
            largest = std::max(largest, size);
        }
        return costs.weights * sum + std::max(running.peak(costs) + beside, costs.loading * largest);
    }
};

/// Those of a provider and role, or those that are taken for it.
inline const Costs& costs_of(const std::string& provider, const std::string& role) {
    return costs.at({is_measured(provider) ? provider : unmeasured_engine, role});
}

/// What the stream of a role is made of.
struct RoleCounts {
    std::string role;
    Counts counts;
};

/// Peak bytes of a `vidtok-run` that takes one stream through the chain of each role, with a tenth of what engines take
/// in hand.
inline double predict(const std::string& provider, const std::vector<RoleCounts>& streams) {
    const bool measured = is_measured(provider);
    const std::string engine = measured ? provider : unmeasured_engine;
    constexpr double mib = 1 << 20;
    double known = 0, process = 0;
    for (const auto& [role, counts] : streams) {
        known += counts.beside;
        process = std::max(process, costs_of(provider, role).process);
    }
    double total = (process + command_mib.at(engine)) * mib;
    for (const auto& [role, counts] : streams) total += counts.peak(costs_of(provider, role)) + counts.clip;
    const double times = measured ? 1 : unmeasured_times;
    return std::nearbyint(times * (known + (total - known) / (1 - in_hand)));
}

}  // namespace detail

}  // namespace vidtok
