// Latents or tokens in memory.
#pragma once

#include <cstdint>
#include <vector>

namespace vidtok {

/// Latents `[t, C, h, w]`, or tokens `[t, h, w]` of a variant with a codebook; time first. `channels` is 1 of tokens.
struct Tokens {
    std::size_t count = 0;
    std::size_t channels = 0;
    std::size_t height = 0;
    std::size_t width = 0;
    std::vector<float> latent;
    std::vector<std::int32_t> indices;

    std::size_t step_size() const { return channels * height * width; }

    /// Add others of the same size behind.
    void append(const Tokens& more) {
        if (count == 0) {
            *this = more;
            return;
        }
        latent.insert(latent.end(), more.latent.begin(), more.latent.end());
        indices.insert(indices.end(), more.indices.begin(), more.indices.end());
        count += more.count;
    }
};

}  // namespace vidtok
