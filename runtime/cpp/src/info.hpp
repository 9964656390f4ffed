// `vidtok info`: lines about a bundle or a token file.
#pragma once

#include <vidtok/token_reader.hpp>

#include <cstdio>

namespace detail {

inline void line(const char* name, const std::string& value) { std::printf("%-12s  %s\n", name, value.c_str()); }

inline void describe_bundle(const vidtok::Manifest& m, bool verify) {
    if (verify) {
        for (const vidtok::GraphEntry& graph : m.graphs) vidtok::check_file(m, graph);
    }
    line("bundle", m.folder.string());
    line("variant", m.variant);
    line("weights", m.weights_sha256.substr(0, 16) + " (" + m.weights_source + ")");
    const std::string space = std::to_string(m.spatial_multiple);
    line("compression", std::to_string(m.time_factor) + " frames x " + space + " x " + space);
    const std::string codes = m.codebook_size ? ", " + std::to_string(*m.codebook_size) + " codes" : "";
    line("latent", std::to_string(m.latent_channels) + " channels" + codes);
    line("licence", m.licence);
    for (const vidtok::GraphEntry& graph : m.graphs) {
        line(graph.role.c_str(),
             graph.file + ", " + graph.precision + ", " + std::to_string(graph.states.size()) + " states");
    }
    if (verify) line("verified", "the graphs have the SHA-256 that the manifest gives");
}

inline void describe_tokens(const vidtok::TokenReader& reader, bool verify) {
    const vidtok::TokenInfo& info = reader.info();
    if (verify) reader.verify();
    line("token file", reader.path().string());
    line("variant", info.variant);
    line("weights", info.weights_sha256.substr(0, 16));
    const std::string size = std::to_string(info.width) + "x" + std::to_string(info.height);
    const std::string rate = info.fps ? " at " + info.fps->text() + " a second" : "";
    line("clip", std::to_string(info.num_frames) + " frames of " + size + rate);
    std::string shape;
    for (const std::int64_t n : reader.shape()) shape += (shape.empty() ? "" : ", ") + std::to_string(n);
    line(reader.kind().c_str(), reader.dtype() + " [" + shape + "]");
    line("made with", info.provider + ", " + info.precision);
    line("checksum", reader.checksum());
    if (info.gop) line("seekable", "groups of " + std::to_string(*info.gop) + " latents");
    if (info.window) line("seekable", "windows of " + std::to_string(*info.window) + " frames");
    if (info.skip) line("cut", std::to_string(info.skip) + " frames decode before the first");
    if (verify) line("verified", "the numbers have this checksum");
}

}  // namespace detail

/// Throws vidtok::BundleError, vidtok::TokenFileError.
inline void describe(const vidtok::fs::path& place, bool verify) {
    std::error_code error;
    if (vidtok::fs::is_directory(place, error)) {
        detail::describe_bundle(vidtok::read_manifest(place), verify);
    } else {
        detail::describe_tokens(vidtok::TokenReader(place), verify);
    }
}
