// Latents or tokens in memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace vidtok {

/// Latents `[t, C, h, w]`, or tokens `[t, h, w]` of a model with a codebook; time first. `channels` is 1 of tokens.
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

    /// Those from `start` on, at most `most` of them.
    Tokens slice(std::size_t start, std::size_t most = static_cast<std::size_t>(-1)) const {
        const std::size_t number = std::min(most, count - start);
        const auto cut = [&](const auto& numbers) {
            using Numbers = std::decay_t<decltype(numbers)>;
            if (numbers.empty()) return Numbers{};
            const auto first = numbers.begin() + static_cast<std::ptrdiff_t>(start * step_size());
            return Numbers(first, first + static_cast<std::ptrdiff_t>(number * step_size()));
        };
        return {number, channels, height, width, cut(latent), cut(indices)};
    }
};

}  // namespace vidtok
