// The public entry: a bundle on an engine.
#pragma once

#include "groups.hpp"
#include "token_info.hpp"

namespace vidtok {

/// Settings of a tokenizer.
///
/// precision: as listed in the manifest, empty for its first. chunk: frames a graph call at most, 0 for the manifest's;
/// it changes no result beyond the last float digits. window: frames a window of a non-causal variant, 0 for the
/// manifest's.
struct TokenizerOptions {
    std::string precision;
    std::size_t chunk = 0;
    std::size_t window = 0;
};

/// Encodes video to tokens and back. Streams of one tokenizer may run in several threads, one stream in one of them.
class Tokenizer {
public:
    /// Throws BundleError, InputError; the graphs load when they are first needed.
    Tokenizer(const fs::path& folder, Engine engine, TokenizerOptions options = {})
        : manifest_(std::make_shared<const Manifest>(read_manifest(folder))),
          engine_(std::move(engine)),
          options_(std::move(options)) {
        const std::size_t f = manifest_->time_factor;
        if (options_.window && !manifest_->window) {
            throw InputError(manifest_->variant + " is causal and has no windows; leave window out");
        }
        if (options_.chunk && manifest_->window) {
            throw InputError(manifest_->variant + " runs whole windows; give window instead of chunk");
        }
        if (options_.chunk % f || options_.window % f || std::max(options_.chunk, options_.window) > 65536) {
            throw InputError("a chunk or window of " + manifest_->variant + " is a multiple of " + std::to_string(f) +
                             " frames and at most 65536");
        }
        precision_ = manifest_->graph("encoder", engine_.provider, options_.precision).precision;
    }

    const Manifest& manifest() const { return *manifest_; }
    const std::string& provider() const { return engine_.provider; }

    /// A new stream of frames to tokens; with `gop` its state starts anew every so many latents.
    Encoder encoder(std::optional<std::size_t> gop = std::nullopt) {
        if (gop && manifest_->window) {
            throw InputError(manifest_->variant + " encodes windows that stand on their own already; leave gop out");
        }
        if (gop == std::size_t{0}) throw InputError("a gop is at least 1 latent");
        return Encoder(source("encoder", window()), gop);
    }

    /// A new stream of the tokens that `info` describes to their frames; throws MismatchError.
    Decoder decoder(const TokenInfo& info) {
        info.check_bundle(*manifest_);
        Timing timing = info.timing();
        if (info.window) timing.group.reset();  // windows follow each other in one stream, which needs no cutting
        return Decoder(source("decoder", info.window), {info.num_frames, info.height, info.width}, timing, info.skip);
    }

    /// A new stream of tokens to frames, whose tail and edge padding stay unless they are cropped.
    Decoder decoder(const Crop& crop = {}) {
        const Timing timing{manifest_->time_factor, manifest_->front_frames, manifest_->look_ahead, std::nullopt};
        return Decoder(source("decoder", window()), crop, timing, 0);
    }

    /// Of the graphs, as token files name it.
    const std::string& precision() const { return precision_; }

    /// What a token file made by this tokenizer says about itself.
    TokenInfo describe(std::size_t num_frames, std::size_t height, std::size_t width,
                       std::optional<std::size_t> gop = std::nullopt) const {
        TokenInfo info;
        info.variant = manifest_->variant;
        info.weights_sha256 = manifest_->weights_sha256;
        info.num_frames = num_frames;
        info.height = height;
        info.width = width;
        info.time_factor = manifest_->time_factor;
        info.front_frames = manifest_->front_frames;
        info.look_ahead = manifest_->look_ahead;
        info.codebook_size = manifest_->codebook_size;
        info.precision = precision_;
        info.provider = engine_.provider;
        info.window = window();
        info.gop = gop;
        return info;
    }

    /// Frames, and latents, of a graph call at most: how many to push at once for a stream that waits for nothing.
    std::size_t encoder_chunk() const { return rule("encoder", window()).most; }
    std::size_t decoder_chunk() const { return rule("decoder", window()).most; }

private:
    std::optional<std::size_t> window() const {
        return options_.window ? std::optional(options_.window) : manifest_->window;
    }

    CallRule rule(const std::string& role, std::optional<std::size_t> window) const {
        CallRule rule = manifest_->rule(role, window);
        if (options_.chunk) rule.most = role == "encoder" ? options_.chunk : options_.chunk / manifest_->time_factor;
        return rule;
    }

    StreamSource source(const std::string& role, std::optional<std::size_t> window) {
        std::shared_ptr<LoadedGraph>& graph = role == "encoder" ? encoder_ : decoder_;
        if (!graph) graph = load_graph(*manifest_, manifest_->graph(role, engine_.provider, precision_), engine_);
        return {manifest_, graph, rule(role, window)};
    }

    std::shared_ptr<const Manifest> manifest_;
    Engine engine_;
    TokenizerOptions options_;
    std::string precision_;
    std::shared_ptr<LoadedGraph> encoder_;
    std::shared_ptr<LoadedGraph> decoder_;
};

}  // namespace vidtok
