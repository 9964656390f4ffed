// The public entry: a bundle on an engine.
#pragma once

#include "groups.hpp"
#include "token_info.hpp"

namespace vidtok {

/// Settings of a tokenizer.
///
/// precision: as listed in the manifest, empty for its first. chunk: frames a call at most, 0 for the manifest's; it
/// changes no result beyond the last float digits. window: frames a group, 0 for the manifest's; for bundles that say
/// so. normalize: encoders apply the bundle's latent mean and scale. max_tile: pixels along an axis that local graphs
/// compute at once at most, which saves memory and changes no more than chunk does; 0: whole frames. max_memory: bytes
/// that the process may take, as far as a prediction can tell: calls become shorter, and if need be frames are cut into
/// tiles; 0: no limit.
struct TokenizerOptions {
    std::string precision;
    std::size_t chunk = 0;
    std::size_t window = 0;
    bool normalize = false;
    std::size_t max_tile = 0;
    std::size_t max_memory = 0;
};

/// Encodes video to tokens and back. Several threads may use one at once; of its streams each is for one at a time.
class Tokenizer {
public:
    /// Throws BundleError, InputError; the graphs load when they are first needed.
    Tokenizer(const fs::path& folder, Engine engine, const TokenizerOptions& options = {})
        : manifest_(std::make_shared<const Manifest>(read_manifest(folder))),
          normalize_(options.normalize),
          spec_(manifest_->stream) {
        const std::string precision =
            manifest_->chain("encoder", engine.provider, options.precision).front().precision;
        graphs_ = std::make_shared<detail::LoadedGraphs>(manifest_, std::move(engine), precision);
        plans_ = std::make_shared<detail::Plans>(manifest_, graphs_, options.max_tile, options.max_memory);
        if (options.window) set_window(options.window);
        if (options.chunk) set_chunk(options.chunk);
        if (normalize_ && !spec_.latent_scale) {
            throw InputError(manifest_->name + " has no mean and scale of latents; leave normalize out");
        }
    }

    const Manifest& manifest() const { return *manifest_; }
    const std::string& provider() const { return graphs_->provider(); }

    /// How a stream of a role is cut for frames of a size in pixels; throws InputError when the memory is too little.
    ///
    /// Under a limit the streams of all graphs loaded so far are taken to run at the same time.
    CallPlan plan(const std::string& role, std::size_t height, std::size_t width) const {
        const detail::PaddedSize padded = detail::padded_size(spec_, height, width);
        return plans_->plan(role, spec_, padded.height, padded.width);
    }

    /// A new stream of frames to tokens; with `gop` its state starts anew every so many latents.
    Encoder encoder(std::optional<std::size_t> gop = std::nullopt) const {
        return Encoder(source("encoder", groups(gop)), normalize_);
    }

    /// A new stream of the tokens that `info` describes to their frames; throws MismatchError.
    Decoder decoder(const TokenInfo& info) const {
        info.check_bundle(*manifest_);
        return Decoder(source("decoder", info.groups), {info.num_frames, info.height, info.width}, info.skip,
                       info.normalized);
    }

    /// A new stream of tokens to frames, whose tail and edge padding stay unless they are cropped.
    Decoder decoder(const Crop& crop = {}) const {
        return Decoder(source("decoder", spec_.groups), crop, 0, normalize_);
    }

    /// Of the graphs, as token files name it.
    const std::string& precision() const { return graphs_->precision(); }

    /// What a token file made by this tokenizer says about itself.
    TokenInfo describe(std::size_t num_frames, std::size_t height, std::size_t width,
                       std::optional<std::size_t> gop = std::nullopt) const {
        TokenInfo info;
        info.family = manifest_->family;
        info.name = manifest_->name;
        info.weights_sha256 = manifest_->weights_sha256;
        info.num_frames = num_frames;
        info.height = height;
        info.width = width;
        info.time_factor = spec_.time_factor;
        info.front_frames = spec_.front_frames;
        info.look_ahead = spec_.look_ahead();
        info.length = spec_.length;
        info.codebook_size = spec_.codebook_size;
        info.groups = groups(gop);
        info.exact = spec_.decoder.exact_sizes();
        info.surplus = !spec_.decoder.drop;
        info.precision = precision();
        info.provider = provider();
        info.normalized = normalize_;
        return info;
    }

    /// Frames, and latents, of a call at most: how many to push at once for a stream that waits for nothing.
    std::size_t encoder_chunk() const { return spec_.encoder.max ? *spec_.encoder.max : spec_.groups->frames; }
    std::size_t decoder_chunk() const { return spec_.decoder.max ? *spec_.decoder.max : spec_.groups->latents; }

private:
    void set_window(std::size_t frames) {
        const std::optional<std::size_t> multiple = spec_.groups ? spec_.groups->multiple : std::nullopt;
        if (spec_.groups && frames == spec_.groups->frames) return;
        if (!multiple) throw InputError(manifest_->name + " has no windows of another length; leave window out");
        if (frames % *multiple || frames > static_cast<std::size_t>(max_length)) {
            throw InputError("a window of " + manifest_->name + " is a multiple of " + std::to_string(*multiple) +
                             " frames and at most " + std::to_string(max_length));
        }
        spec_ = spec_.regrouped(frames);
    }

    /// Other sizes of calls, where results do not depend on them.
    void set_chunk(std::size_t frames) {
        CallSpec &encoder = spec_.encoder, &decoder = spec_.decoder;
        if (!encoder.max || encoder.exact) {
            throw InputError(manifest_->name + " runs calls of its own sizes; leave chunk out");
        }
        if (frames % encoder.multiple || frames > static_cast<std::size_t>(max_length)) {
            throw InputError("a chunk of " + manifest_->name + " is a multiple of " + std::to_string(encoder.multiple) +
                             " frames and at most " + std::to_string(max_length));
        }
        encoder.max = frames;
        if (!decoder.max || decoder.exact) return;
        const std::size_t latents = frames / spec_.time_factor;
        decoder.max = std::max(decoder.multiple, latents - latents % decoder.multiple);
    }

    /// How a clip is cut: as the bundle does it, or every so many latents.
    std::optional<Groups> groups(std::optional<std::size_t> gop) const {
        if (!gop) return spec_.groups;
        if (spec_.groups) {
            throw InputError(manifest_->name + " encodes groups that stand on their own already; leave gop out");
        }
        constexpr auto most = static_cast<std::size_t>(max_length);
        if (*gop == 0 || *gop * spec_.time_factor > most) {
            throw InputError("a gop has at least 1 latent and at most " + std::to_string(most) + " frames");
        }
        Timing timing = spec_.timing();
        const std::size_t frames = timing.stream_frames(*gop);
        if (frames == 0 || timing.stream_latents(frames) != *gop) {
            throw InputError("no frames of " + manifest_->name + " have " + std::to_string(*gop) +
                             " latents, since it pads them; choose another gop");
        }
        timing.groups = Groups{frames, *gop, 0, 0, false, std::nullopt};
        return timing.groups;
    }

    StreamSource source(const std::string& role, const std::optional<Groups>& groups) const {
        plans_->check(role);
        auto spec = std::make_shared<StreamSpec>(spec_);
        spec->groups = groups;
        const auto& flags = spec->calls(role).flags;
        auto chain = std::make_shared<StatefulChain>(graphs_->load(role), flags, spec->spatial_multiple);
        return {std::move(spec), std::move(chain), plans_};
    }

    std::shared_ptr<const Manifest> manifest_;
    std::shared_ptr<detail::LoadedGraphs> graphs_;
    std::shared_ptr<detail::Plans> plans_;
    bool normalize_;
    StreamSpec spec_;
};

}  // namespace vidtok
