// The geometry of tiles: what each of them reads, and the part of it that is right. All numbers count latents.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace vidtok::detail {

/// Tiles begin at multiples of it: Winograd computes rows in groups of four, from the first that it sees.
constexpr std::size_t aligned = 4;

/// Latents from `start` to before `stop`.
struct Span {
    std::size_t start = 0;
    std::size_t stop = 0;

    std::size_t size() const { return stop - start; }

    /// Its place in an array with `scale` positions a latent that begins at the latent `begin`.
    Span at(std::size_t scale, std::size_t begin = 0) const {
        return {(start - begin) * scale, (stop - begin) * scale};
    }
};

/// Along one axis: what a tile computes (`extent`), and the part of it that is taken (`kept`).
struct Tile {
    Span extent;
    Span kept;
};
using Tiles = std::vector<Tile>;

/// The smallest tile along an axis that goes on behind it.
inline std::size_t smallest_tile(std::size_t margin) { return 2 * margin + aligned; }

/// Tiles along an axis of a frame, in order; the kept parts cover it, each latent once. Each tile keeps what it
/// computes, less a `margin` where the frame goes on.
///
/// size: the largest extent: `length`, or `smallest_tile` at least.
inline Tiles tiles_along(std::size_t length, std::size_t size, std::size_t margin) {
    Tiles found;
    for (std::size_t start = 0, kept = 0; kept < length; start = (kept - margin) / aligned * aligned) {
        const std::size_t stop = std::min(start + size, length);
        const std::size_t end = stop == length ? stop : stop - margin;
        found.push_back({{start, stop}, {kept, end}});
        kept = end;
    }
    return found;
}

/// Of the fewest tiles that compute at most `most` latents each those whose largest is smallest; the whole axis is one.
///
/// most: `length`, or `smallest_tile` at least.
inline Tiles cut(std::size_t length, std::size_t most, std::size_t margin) {
    Tiles best = tiles_along(length, std::min(length, most), margin);
    if (best.size() == 1) return best;
    for (std::size_t size = most - 1; size >= smallest_tile(margin); --size) {
        Tiles smaller = tiles_along(length, size, margin);
        if (smaller.size() > best.size()) break;
        best = std::move(smaller);
    }
    return best;
}

/// Tiles of a frame, along H and along W.
struct Tiling {
    Tiles rows;
    Tiles columns;

    std::size_t count() const { return rows.size() * columns.size(); }
};

}  // namespace vidtok::detail
