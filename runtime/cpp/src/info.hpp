// `vidtok info`: lines about a bundle or a token file.
#pragma once

#include <vidtok/token_reader.hpp>

#include <cstdio>

namespace detail {

/// `groups of 17 frames and 5 latents, 1 frame and 1 latent of them shared`.
inline std::string text_of(const vidtok::Groups& groups) {
    const auto count = [](std::size_t n, const std::string& what) {
        return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
    };
    const std::string shared = ", " + count(groups.shared_frames, "frame") + " and " +
                               count(groups.shared_latents, "latent") + " of them shared";
    return "groups of " + count(groups.frames, "frame") + " and " + count(groups.latents, "latent") +
           (groups.shared_frames || groups.shared_latents ? shared : "");
}

inline void line(const char* name, const std::string& value) { std::printf("%-12s  %s\n", name, value.c_str()); }

inline void describe_bundle(const vidtok::Manifest& m, bool verify) {
    if (verify) vidtok::check_files(m, m.graphs);
    const vidtok::StreamSpec& stream = m.stream;
    line("bundle", vidtok::detail::text_of(m.folder));
    line("family", m.family);
    line("name", m.name);
    line("weights", m.weights_sha256.substr(0, 16));
    const std::string space = std::to_string(stream.spatial_multiple);
    line("compression", std::to_string(stream.time_factor) + " frames x " + space + " x " + space);
    const std::string codes = stream.codebook_size ? ", " + std::to_string(*stream.codebook_size) + " codes" : "";
    line("latent", std::to_string(stream.latent_channels) + " channels" + codes);
    if (stream.groups) line("streams", text_of(*stream.groups));
    line("licence", m.licence);
    for (const vidtok::GraphEntry& graph : m.graphs) {
        line(graph.role.c_str(),
             graph.file + ", " + graph.precision + ", " + graph.part + ", " + std::to_string(graph.states.size()) +
                 " states");
    }
    for (const vidtok::WeightsFile& weights : m.weights_files) {
        line("weights file", weights.file + ", " + std::to_string(weights.size) + " bytes");
    }
    if (verify) line("verified", "the files have the SHA-256 that the manifest gives");
}

inline void describe_tokens(const vidtok::TokenReader& reader, bool verify) {
    const vidtok::TokenInfo& info = reader.info();
    if (verify) reader.verify();
    line("token file", vidtok::detail::text_of(reader.path()));
    line("family", info.family);
    line("name", info.name);
    line("weights", info.weights_sha256.substr(0, 16));
    const std::string size = std::to_string(info.width) + "x" + std::to_string(info.height);
    const std::string rate = info.fps ? " at " + info.fps->text() + " a second" : "";
    line("clip", std::to_string(info.num_frames) + " frames of " + size + rate);
    std::string shape;
    for (const std::int64_t n : reader.shape()) shape += (shape.empty() ? "" : ", ") + std::to_string(n);
    line(reader.kind().c_str(), reader.dtype() + " [" + shape + "]");
    line("made with", info.provider + ", " + info.precision);
    line("checksum", reader.checksum());
    if (info.sampled) line("sampled", "from the posterior, seed " + std::to_string(*info.sampled));
    if (info.normalized) line("normalized", "by the bundle's latent mean and scale");
    if (info.groups) line("seekable", text_of(*info.groups));
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
