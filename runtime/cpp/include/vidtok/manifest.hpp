// The manifest of a bundle: what its graphs take, give and remember. Runtimes loop over it.
#pragma once

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "files.hpp"
#include "graph_entry.hpp"
#include "onnx_file.hpp"
#include "stream_spec.hpp"

namespace vidtok {

/// A file in which graphs of the bundle may keep their weights.
struct WeightsFile {
    std::string file;
    std::string sha256;
    std::uintmax_t size = 0;  // bytes
};

/// A bundle's description, read from `manifest.json` in `folder`.
struct Manifest {
    fs::path folder;
    std::string family;
    std::string name;
    std::string weights_sha256;
    std::string licence;
    StreamSpec stream;
    std::vector<WeightsFile> weights_files;
    std::vector<GraphEntry> graphs;

    /// The graphs that compute a role, in their order, for a provider and a precision (empty: that of the first that
    /// lists the provider); throws BundleError.
    std::vector<GraphEntry> chain(const std::string& role, const std::string& provider, std::string precision) const {
        std::vector<GraphEntry> found;
        std::string offered;
        for (const GraphEntry& entry : graphs) {
            if (entry.role != role) continue;
            const bool fits = entry.runs_on(provider);
            if (fits && precision.empty()) precision = entry.precision;
            if (fits && precision == entry.precision) found.push_back(entry);
            offered += (offered.empty() ? "" : ", ") + entry.precision + " on";
            for (const std::string& name : entry.providers) offered += " " + name;
        }
        if (found.empty()) {
            throw BundleError(detail::text_of(folder) + " has no " + precision + (precision.empty() ? "" : " ") + role +
                              " graph for " + provider + "; it offers " + offered);
        }
        return found;
    }
};

namespace detail {

/// Throw FormatError unless video, latents and indices have the type and the axes that follow from the factors.
inline void check_port(const Port& port, const StreamSpec& spec) {
    const auto over = [](std::size_t n) { return n == 1 ? std::string() : "/" + std::to_string(n); };
    const std::string space = over(spec.spatial_multiple);
    const std::string tokens = "T" + over(spec.time_factor) + " H" + space + " W" + space;
    const std::string axes = port.name == "video"    ? "N 3 T H W"
                             : port.name == "latent" ? "N " + std::to_string(spec.latent_channels) + " " + tokens
                                                     : "N " + tokens;
    const std::string dtype = port.name == "indices" ? "int32" : "float32";
    if (port.axes != axes || port.dtype != dtype) {
        throw FormatError(port.name + " is " + port.dtype + " '" + port.axes + "', not " + dtype + " '" + axes + "'");
    }
}

/// Throw FormatError unless graphs are a chain from video to latents or tokens, or back.
inline void check_chain(const std::vector<GraphEntry>& chain, const StreamSpec& spec) {
    const std::string& role = chain.front().role;
    const std::string tokens = spec.codebook_size ? "indices" : "latent";
    const bool encodes = role == "encoder";
    const Port &first = chain.front().data(), &last = chain.back().result();
    if (first.name != (encodes ? "video" : tokens) || last.name != (encodes ? tokens : "video")) {
        throw FormatError("the " + role + " turns " + first.name + " into " + last.name +
                          ", its codebook wants video and " + tokens);
    }
    check_port(first, spec);
    check_port(last, spec);
    for (std::size_t i = 1; i < chain.size(); ++i) {
        const Port &gives = chain[i - 1].result(), &takes = chain[i].data();
        const bool reserved = takes.name == "video" || takes.name == "latent" || takes.name == "indices";
        if (reserved || gives.name != takes.name || gives.dtype != takes.dtype || gives.axes != takes.axes) {
            throw FormatError("the graphs of the " + role + " are no chain: " + chain[i - 1].file + " gives " +
                              gives.name + ", " + chain[i].file + " takes " + takes.name);
        }
    }
    for (const Port& port : chain.back().outputs) {
        const bool beside = encodes && !spec.codebook_size && port.name == "log_variance";
        if (beside && (port.dtype != last.dtype || port.axes != last.axes)) {
            throw FormatError("log_variance does not have the type and the axes of latent");
        }
    }
}

/// Throw FormatError unless the graphs of every role, engine and precision are a chain, and both roles have one.
inline void check_chains(const Manifest& m) {
    std::map<std::tuple<std::string, std::string, std::string>, std::vector<GraphEntry>> chains;
    std::set<std::string> roles;
    for (const GraphEntry& entry : m.graphs) {
        for (const Port& flag : entry.flags) {
            if (m.stream.calls(entry.role).flags.count(flag.name) == 0) {
                throw FormatError("nothing says when the flag " + flag.name + " of the " + entry.role + " is set");
            }
        }
        for (const std::string& provider : std::set<std::string>(entry.providers.begin(), entry.providers.end())) {
            chains[{entry.role, provider, entry.precision}].push_back(entry);
            roles.insert(entry.role);
        }
    }
    for (const auto& [key, chain] : chains) check_chain(chain, m.stream);
    if (roles.size() != 2) throw FormatError("it lacks graphs of the encoder or of the decoder");
}

inline std::vector<WeightsFile> read_weights_files(const Fields& raw) {
    std::vector<WeightsFile> all;
    std::set<std::string> names;
    for (const Fields& row : raw.rows("weights_files")) {
        all.push_back({read_file_name(row, ".weights"), row.sha256("sha256"),
                       static_cast<std::uintmax_t>(row.integer("size", 1, max_whole))});
        if (!names.insert(all.back().file).second) throw FormatError("two weights files are " + all.back().file);
    }
    return all;
}

inline Manifest read_fields(const fs::path& folder, const Fields& raw) {
    Manifest m;
    m.folder = folder;
    m.family = raw.text("family");
    m.name = raw.text("name");
    raw.fields("config");  // what is in it is for the exporter
    m.weights_sha256 = raw.fields("weights").sha256("sha256");
    m.licence = raw.text("licence");
    m.stream = read_stream_spec(raw.fields("stream"));
    m.weights_files = read_weights_files(raw);
    for (const Fields& row : raw.rows("graphs")) m.graphs.push_back(read_graph_entry(row));
    check_chains(m);
    return m;
}

/// Where a file of the bundle is; throws BundleError when it is missing or a link that leads out of the bundle.
inline fs::path place_of(const Manifest& manifest, const std::string& file) {
    fs::path path = manifest.folder / file;
    if (!is_file(path)) {
        throw BundleError(detail::text_of(manifest.folder) + " is incomplete: " + file +
                          " is missing; export the bundle again");
    }
    std::error_code error;
    if (fs::canonical(path, error).parent_path() != fs::canonical(manifest.folder, error)) {
        throw BundleError(detail::text_of(path) + " is a link out of the bundle; copy the file into its place");
    }
    return path;
}

/// The place of a file whose bytes are those of the manifest; throws BundleError, FormatError.
inline fs::path checked_place_of(const Manifest& manifest, const std::string& file, const std::string& sha256) {
    fs::path path = place_of(manifest, file);
    if (sha256_of(path) != sha256) {
        throw BundleError(detail::text_of(path) +
                          " is altered: its SHA-256 is not the manifest's; copy or export the bundle again");
    }
    return path;
}

}  // namespace detail

/// Read and check `manifest.json` and that every file of the bundle is there; throws BundleError.
inline Manifest read_manifest(const fs::path& folder) {
    const fs::path path = folder / "manifest.json";
    if (!is_file(path)) {
        throw BundleError(detail::text_of(folder) +
                          " is not a bundle: it has no manifest.json; make one with vidtok-export");
    }
    Manifest manifest;
    try {
        const Json json = parse_json(read_whole(path, std::size_t{1} << 24));
        const Fields raw(json, "the manifest");
        if (raw.text("format") != "vidtok-bundle") {
            throw BundleError(detail::text_of(path) + " is not a bundle manifest: its format is '" +
                              raw.text("format") + "'");
        }
        if (const auto version = raw.integer("format_version", 0, 1000000); version != 2) {
            throw BundleError(detail::text_of(path) + " has format version " + std::to_string(version) +
                              ", this runtime reads 2; export again or update vidtok-onnx");
        }
        manifest = detail::read_fields(folder, raw);
    } catch (const FormatError& error) {
        throw BundleError(detail::text_of(path) + " is damaged: " + error.what() + "; export the bundle again");
    }
    for (const GraphEntry& graph : manifest.graphs) detail::place_of(manifest, graph.file);
    for (const WeightsFile& weights : manifest.weights_files) detail::place_of(manifest, weights.file);
    return manifest;
}

/// Throw BundleError unless the bytes of these graphs are those of the manifest, they are sound ONNX files, and those
/// files of weights that they refer to have the manifest's bytes, too.
inline void check_files(const Manifest& manifest, const std::vector<GraphEntry>& graphs) {
    WeightsSizes sizes;
    for (const WeightsFile& weights : manifest.weights_files) sizes[weights.file] = weights.size;
    std::set<std::string> used;
    for (const GraphEntry& graph : graphs) {
        try {
            used.merge(check_onnx_file(detail::checked_place_of(manifest, graph.file, graph.sha256), sizes));
        } catch (const FormatError& error) {
            throw BundleError(detail::text_of(manifest.folder / graph.file) + " cannot be used: " + error.what() +
                              "; export the bundle again");
        }
    }
    for (const WeightsFile& weights : manifest.weights_files) {
        if (used.count(weights.file) == 0) continue;
        const fs::path path = detail::place_of(manifest, weights.file);
        try {
            if (fs::file_size(path) != weights.size) throw FormatError("its size is not the manifest's");
            detail::checked_place_of(manifest, weights.file, weights.sha256);
        } catch (const FormatError& error) {
            throw BundleError(detail::text_of(path) + " cannot be used: " + error.what() + "; export the bundle again");
        }
    }
}

}  // namespace vidtok
