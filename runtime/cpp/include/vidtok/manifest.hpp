// The manifest of a bundle: what its graphs take, give and remember. Runtimes loop over it.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "onnx_file.hpp"
#include "files.hpp"
#include "graph_entry.hpp"

namespace vidtok {

/// How a stream is cut into graph calls, counted in frames (encoder) or latents (decoder).
///
/// multiple: every call takes a multiple of it, but for the last; most: at most so many; first: exactly so many in
/// the first call. Of what comes out, `drop` are thrown away at the start. flush: at the end, one more call with so
/// many dummies, of whose output only the first `keep` count.
struct CallRule {
    std::size_t multiple = 1;
    std::size_t most = 1;
    std::optional<std::size_t> first = std::nullopt;
    std::size_t drop = 0;
    std::size_t flush = 0;
    std::size_t keep = 0;
};

/// A bundle's description, read from `manifest.json` in `folder`.
struct Manifest {
    fs::path folder;
    std::string variant;
    std::string weights_sha256;
    std::string weights_source;
    std::string licence;
    std::size_t time_factor = 1;
    std::size_t spatial_multiple = 1;
    std::size_t front_frames = 0;
    std::size_t encoder_chunk = 1;  // frames
    std::size_t decoder_chunk = 1;  // latents
    std::optional<std::size_t> decoder_first;
    std::size_t decoder_drop = 0;
    std::size_t decoder_flush = 0;
    std::size_t look_ahead = 0;
    std::optional<std::size_t> window;  // frames, of a non-causal variant
    std::optional<std::int64_t> codebook_size;
    std::size_t latent_channels = 1;
    std::vector<GraphEntry> graphs;

    /// How to call the graph of a role; `other_window` (frames) replaces that of a non-causal bundle.
    CallRule rule(const std::string& role, std::optional<std::size_t> other_window = std::nullopt) const {
        if (window) {
            const std::size_t frames = other_window.value_or(*window);
            const std::size_t length = role == "encoder" ? frames : frames / time_factor;
            return {length, length};
        }
        if (role == "encoder") return {time_factor, encoder_chunk};
        return {1, decoder_chunk, decoder_first, decoder_drop, decoder_flush, look_ahead};
    }

    /// The graph of a role for a provider and a precision (none: the first listed); throws BundleError.
    const GraphEntry& graph(const std::string& role, const std::string& provider, const std::string& precision) const {
        std::string offered;
        for (const GraphEntry& entry : graphs) {
            if (entry.role != role) continue;
            const bool fits =
                std::find(entry.providers.begin(), entry.providers.end(), provider) != entry.providers.end();
            if (fits && (precision.empty() || precision == entry.precision)) return entry;
            offered += (offered.empty() ? "" : ", ") + entry.precision + " on";
            for (const std::string& name : entry.providers) offered += " " + name;
        }
        throw BundleError(folder.string() + " has no " + precision + (precision.empty() ? "" : " ") + role +
                          " graph for " + provider + "; it offers " + offered);
    }
};

namespace detail {

inline std::size_t read_size(const Fields& raw, const std::string& name, std::int64_t least, std::int64_t most) {
    return static_cast<std::size_t>(raw.integer(name, least, most));
}

/// What other runtimes use: a manifest is sound to all of them or to none.
inline void check_unused(const Fields& raw) {
    raw.fields("variant").text("regularizer");
    for (const char* role : {"encoder", "decoder"}) {
        for (const char* name : {"pixel", "pixel_squared"}) raw.fields("operations").fields(role).number(name);
    }
    for (const Fields& row : raw.fields("parity").rows("rows")) {
        row.text("provider");
        row.number("video_max_diff");
        for (const char* name : {"latent_max_diff", "psnr_lost"}) {
            if (row.has(name)) row.number(name);
        }
        for (const char* name : {"tokens", "tokens_differing"}) {
            if (row.has(name)) row.integer(name, 0, max_whole);
        }
        if (row.has("precision")) row.text("precision");
    }
}

/// Throw FormatError unless data have the axes that follow from the factors.
inline void check_axes(const Manifest& m) {
    const auto over = [](std::size_t n) { return n == 1 ? std::string() : "/" + std::to_string(n); };
    const std::string space = over(m.spatial_multiple);
    const std::string tokens = "T" + over(m.time_factor) + " H" + space + " W" + space;
    for (const GraphEntry& entry : m.graphs) {
        for (const Port& port : {entry.data(), entry.result()}) {
            const std::string right = port.name == "video"    ? "N 3 T H W"
                                      : port.name == "latent" ? "N " + std::to_string(m.latent_channels) + " " + tokens
                                                              : "N " + tokens;
            if (port.axes != right) {
                throw FormatError("the axes of " + port.name + " are '" + port.axes + "', not '" + right + "'");
            }
        }
    }
}

inline Manifest read_fields(const fs::path& folder, const Fields& raw) {
    constexpr std::int64_t max_chunk = 65536;
    const Fields variant = raw.fields("variant"), weights = raw.fields("weights"), chunk = raw.fields("chunk");
    const std::int64_t f = raw.integer("time_factor", 1, 64);
    Manifest m;
    m.folder = folder;
    m.variant = variant.text("name");
    m.weights_sha256 = weights.sha256("sha256");
    m.weights_source = weights.text("source");
    m.licence = raw.text("licence");
    m.time_factor = static_cast<std::size_t>(f);
    m.spatial_multiple = read_size(raw, "spatial_multiple", 1, 256);
    m.front_frames = read_size(raw.fields("front_padding"), "frames", 0, f - 1);
    m.encoder_chunk = read_size(chunk, "encoder_frames", f, max_chunk);
    m.decoder_chunk = read_size(chunk, "decoder_latents", 1, max_chunk);
    if (!chunk.is_null("first_decoder_latents"))
        m.decoder_first = read_size(chunk, "first_decoder_latents", 1, max_chunk);
    m.decoder_drop = read_size(raw, "drop_decoded_frames", 0, 2 * f);
    if (!raw.is_null("flush")) m.decoder_flush = read_size(raw.fields("flush"), "decoder_latents", 1, 64);
    m.look_ahead = read_size(raw, "look_ahead", 0, f - 1);
    if (!raw.is_null("window")) m.window = read_size(raw.fields("window"), "frames", f, max_chunk);
    m.codebook_size = raw.integer_or_none("codebook_size", 1, 2147483647);
    m.latent_channels = read_size(variant, "z_channels", 1, 1024);
    for (const Fields& row : raw.rows("graphs")) m.graphs.push_back(read_graph_entry(row));
    if (m.decoder_flush && read_size(raw.fields("flush"), "keep_frames", 0, f - 1) != m.look_ahead) {
        throw FormatError("flush does not keep as many frames as the decoder looks ahead");
    }
    check_unused(raw);
    if (m.encoder_chunk % m.time_factor || m.window.value_or(0) % m.time_factor) {
        throw FormatError("a chunk or window of frames is no multiple of " + std::to_string(f));
    }
    const std::string tokens = m.codebook_size ? "indices" : "latent";
    for (const GraphEntry& entry : m.graphs) {
        const Port& port = entry.role == "encoder" ? entry.result() : entry.data();
        if (port.name != tokens)
            throw FormatError("its graphs use " + port.name + ", its codebook size wants " + tokens);
    }
    check_axes(m);
    return m;
}

/// Where a graph's file is; throws BundleError when it is missing or a link that leads out of the bundle.
inline fs::path place_of(const Manifest& manifest, const GraphEntry& graph) {
    fs::path path = manifest.folder / graph.file;
    if (!is_file(path)) {
        throw BundleError(manifest.folder.string() + " is incomplete: " + graph.file +
                          " is missing; export the bundle again");
    }
    std::error_code error;
    if (fs::canonical(path, error).parent_path() != fs::canonical(manifest.folder, error)) {
        throw BundleError(path.string() + " is a link out of the bundle; copy the file into its place");
    }
    return path;
}

}  // namespace detail

/// Read and check `manifest.json` and that every graph file is there; throws BundleError.
inline Manifest read_manifest(const fs::path& folder) {
    const fs::path path = folder / "manifest.json";
    if (!is_file(path)) {
        throw BundleError(folder.string() + " is not a bundle: it has no manifest.json; make one with vidtok-export");
    }
    Manifest manifest;
    try {
        const Json json = parse_json(read_whole(path, std::size_t{1} << 24));
        const Fields raw(json, "the manifest");
        if (raw.text("format") != "vidtok-bundle") {
            throw BundleError(path.string() + " is not a bundle manifest: its format is '" + raw.text("format") + "'");
        }
        if (const auto version = raw.integer("format_version", 0, 1000000); version != 1) {
            throw BundleError(path.string() + " has format version " + std::to_string(version) +
                              ", this runtime reads 1; export again or update vidtok-onnx");
        }
        manifest = detail::read_fields(folder, raw);
    } catch (const FormatError& error) {
        throw BundleError(path.string() + " is damaged: " + error.what() + "; export the bundle again");
    }
    for (const GraphEntry& graph : manifest.graphs) detail::place_of(manifest, graph);
    return manifest;
}

/// Path of a graph file whose bytes are those of the manifest and that names no other file; throws BundleError.
inline fs::path check_file(const Manifest& manifest, const GraphEntry& graph) {
    fs::path path = detail::place_of(manifest, graph);
    try {
        if (sha256_of(path) != graph.sha256) {
            throw BundleError(path.string() +
                              " is altered: its SHA-256 is not the manifest's; copy or export the bundle again");
        }
        check_onnx_file(path);
    } catch (const FormatError& error) {
        throw BundleError(path.string() + " cannot be used: " + error.what() + "; export the bundle again");
    }
    return path;
}

}  // namespace vidtok
