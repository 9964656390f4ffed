// The release's scale of latents, which people who train on them want applied.
#pragma once

#include "stream_spec.hpp"
#include "tokens.hpp"

namespace vidtok {

namespace detail {

/// Change every number of latents `[t, C, h, w]` by what is said for its channel.
template <class Change>
void change_latents(Tokens& tokens, Change change) {
    const std::size_t plane = tokens.height * tokens.width;
    if (plane == 0 || tokens.channels == 0) return;
    for (std::size_t i = 0; i < tokens.latent.size(); ++i) {
        tokens.latent[i] = change(tokens.latent[i], i / plane % tokens.channels);
    }
}

}  // namespace detail

/// `(latent - mean) / deviation`.
inline void normalize(Tokens& tokens, const LatentScale& scale) {
    detail::change_latents(tokens, [&](float x, std::size_t c) { return (x - scale.mean[c]) / scale.deviation[c]; });
}

/// The inverse; latents of another number of channels stay for the decoder to refuse.
inline void denormalize(Tokens& tokens, const LatentScale& scale) {
    if (tokens.channels != scale.mean.size()) return;
    detail::change_latents(tokens, [&](float x, std::size_t c) { return x * scale.deviation[c] + scale.mean[c]; });
}

}  // namespace vidtok
