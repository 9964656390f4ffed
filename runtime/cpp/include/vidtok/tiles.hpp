// The geometry of tiles: what each of them reads, and the part of it that is right. All numbers count latents.
#pragma once

#include <algorithm>
#include <cstddef>
#include <tuple>
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

/// Of every possible number of tiles those whose largest is smallest; the whole axis first.
inline std::vector<Tiles> cuts(std::size_t length, std::size_t margin) {
    std::vector<Tiles> found{tiles_along(length, length, margin)};
    for (std::size_t size = length - 1; size >= smallest_tile(margin) && size < length; --size) {
        Tiles tiles = tiles_along(length, size, margin);
        const auto same = [&](const Tiles& others) { return others.size() == tiles.size(); };
        const auto larger = std::find_if(found.begin(), found.end(), same);
        if (larger == found.end()) {
            found.push_back(std::move(tiles));
        } else {
            *larger = std::move(tiles);
        }
    }
    return found;
}

/// Latents along an axis of a frame.
inline std::size_t length_of(const Tiles& tiles) { return tiles.back().extent.stop; }

/// Latents that the largest tile computes, which is the first.
inline std::size_t size_of(const Tiles& tiles) { return tiles.front().extent.size(); }

/// Latents that the tiles compute in all.
inline std::size_t computed_by(const Tiles& tiles) {
    std::size_t sum = 0;
    for (const Tile& tile : tiles) sum += tile.extent.size();
    return sum;
}

/// Where tiles take turns along `inner` first, what they need beside an array of whole frames that they write into, as
/// a share of it: room along `outer`, and a strip along `inner`.
inline double beside(const Tiles& outer, const Tiles& inner) {
    const auto overlap = [](const Tiles& tiles) {
        std::size_t most = 0;
        for (const Tile& tile : tiles) most = std::max(most, tile.kept.start - tile.extent.start);
        return static_cast<double>(most);
    };
    std::size_t kept = 0;
    for (const Tile& tile : outer) kept = std::max(kept, tile.kept.size());
    const double strip = overlap(inner) / static_cast<double>(length_of(inner)) * static_cast<double>(kept);
    return (overlap(outer) + strip) / static_cast<double>(length_of(outer));
}

/// Tiles of a frame, along H and along W.
struct Tiling {
    Tiles rows;
    Tiles columns;

    /// One tile, which is the frame.
    static Tiling whole(std::size_t height, std::size_t width) {
        return {tiles_along(height, height, 0), tiles_along(width, width, 0)};
    }

    std::size_t count() const { return rows.size() * columns.size(); }

    /// Latents that the largest tile computes.
    std::size_t largest() const { return size_of(rows) * size_of(columns); }

    /// Latents that all tiles compute.
    std::size_t computed() const { return computed_by(rows) * computed_by(columns); }

    /// As the function of this name, in whichever order takes less.
    double beside() const { return std::min(detail::beside(columns, rows), detail::beside(rows, columns)); }
};

/// Whether the frames of any graph of a chain are cut.
inline bool is_cut(const std::vector<Tiling>& tilings) {
    return std::any_of(tilings.begin(), tilings.end(), [](const Tiling& tiling) { return tiling.count() > 1; });
}

/// The tilings that are worth a look, the whole frame first: every later one computes more, in smaller tiles.
inline std::vector<Tiling> grids(std::size_t height, std::size_t width, std::size_t margin) {
    struct Choice {
        std::size_t computed, largest;
        const Tiles *rows, *columns;
    };
    const std::vector<Tiles> rows = cuts(height, margin), columns = cuts(width, margin);
    std::vector<Choice> every;
    for (const Tiles& r : rows) {
        for (const Tiles& c : columns) {
            every.push_back({computed_by(r) * computed_by(c), size_of(r) * size_of(c), &r, &c});
        }
    }
    std::stable_sort(every.begin(), every.end(), [](const Choice& a, const Choice& b) {
        return std::tie(a.computed, a.largest) < std::tie(b.computed, b.largest);
    });
    std::vector<Tiling> found;
    std::size_t smallest = height * width + 1;
    for (const Choice& choice : every) {
        if (choice.largest >= smallest) continue;
        smallest = choice.largest;
        found.push_back({*choice.rows, *choice.columns});
    }
    return found;
}

}  // namespace vidtok::detail
