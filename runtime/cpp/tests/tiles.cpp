// Cuts frames as tiles.json says, and runs graphs in tiles beside whole frames: `tiles tiles.json`.
#include <cstdio>
#include <random>

#include "programs.hpp"
#include "whole_numbers.hpp"

namespace tiling {

namespace {

using vidtok::detail::cut;
using vidtok::detail::smallest_tile;
using vidtok::detail::Tiles;

std::size_t number(const vidtok::Fields& row, const std::string& name) {
    return static_cast<std::size_t>(row.integer(name, 0, 65536));
}

/// Whether tiles are those of a row of the table.
bool are_those(const Tiles& tiles, const vidtok::Fields& row) {
    const std::vector<vidtok::Json>& rows = row.get("tiles").items;
    bool same = tiles.size() == rows.size();
    for (std::size_t i = 0; same && i < tiles.size(); ++i) {
        const auto& [extent, kept] = tiles[i];
        const std::size_t found[] = {extent.start, extent.stop, kept.start, kept.stop};
        for (std::size_t j = 0; j < 4; ++j) same = same && rows[i].items.at(j).integer == static_cast<int>(found[j]);
    }
    return same;
}

/// Rows that the geometry does not give.
int wrong_cuts(const std::vector<vidtok::Fields>& table) {
    int wrong = 0;
    const auto judge = [&](const Tiles& tiles, std::size_t most, const vidtok::Fields& row) {
        if (are_those(tiles, row)) return;
        std::printf("%s: other tiles for %zu latents at most\n", row.where().c_str(), most);
        ++wrong;
    };
    for (std::size_t i = 0; i < table.size(); ++i) {
        const std::size_t length = number(table[i], "length"), margin = number(table[i], "margin");
        const std::size_t size = number(table[i], "size");
        judge(vidtok::detail::tiles_along(length, size, margin), size, table[i]);
        judge(vidtok::detail::cut(length, size, margin), size, table[i]);
        const bool last = i + 1 == table.size() || number(table[i + 1], "length") != length ||
                          number(table[i + 1], "margin") != margin;
        const std::size_t one_less = std::min(size, length) - 1;
        if (!last) judge(vidtok::detail::cut(length, one_less, margin), one_less, table[i + 1]);
    }
    return wrong;
}

using Clip = std::vector<vidtok::Step>;

/// What a stream in calls of such lengths becomes.
Clip run(bool encodes, const vidtok::detail::Tiling& tiling, const Clip& clip, const std::vector<std::size_t>& calls,
         int streams) {
    const std::map<std::string, std::set<std::string>> flags{{"odd", {vidtok::second_call}}};
    vidtok::StatefulChain chain({whole_numbers::graph(encodes)}, flags, whole_numbers::pixels);
    Clip out;
    for (int i = 0; i < streams; ++i) {  // nothing may be left of the stream before
        chain.restart({tiling}, true);
        std::deque<vidtok::Step> waiting(clip.begin(), clip.end());
        for (const std::size_t size : calls) {
            for (vidtok::Step& step : chain.run(waiting, size, false)) out.push_back(std::move(step));
        }
    }
    return out;
}

bool same(const Clip& a, const Clip& b) {
    const auto equal = [](const vidtok::Step& x, const vidtok::Step& y) { return x.numbers == y.numbers; };
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), equal);
}

/// Runs of tiles that are not the whole frame's; all of them where a margin that is too small does not show.
int wrong_runs(int count) {
    std::mt19937 chance(0);  // NOLINT: the same every time
    const auto draw = [&](std::size_t least, std::size_t most) { return least + chance() % (most - least + 1); };
    int wrong = 0, tiled = 0, narrow = 0;
    for (int i = 0; i < count; ++i) {
        const bool encodes = i % 2 == 0;
        const std::size_t margin = *vidtok::detail::margin_of(whole_numbers::graph(encodes)->entry, 4);
        const std::size_t most = draw(smallest_tile(margin), 16);
        const std::size_t height = draw(1, 24), width = draw(1, 24);
        std::vector<std::size_t> calls;
        for (std::size_t n = draw(1, 4); n > 0; --n) calls.push_back(draw(1, 3));
        Clip clip;
        for (const std::size_t size : calls) {
            for (std::size_t t = 0; t < size; ++t) {
                const std::size_t scale = encodes ? whole_numbers::pixels : 1;
                vidtok::Step step{1, height * scale, width * scale, {}};
                step.numbers.resize(step.height * step.width);
                for (std::uint32_t& value : step.numbers) {
                    const auto drawn = static_cast<float>(draw(0, whole_numbers::most - 1));
                    std::memcpy(&value, &drawn, sizeof value);
                }
                clip.push_back(std::move(step));
            }
        }
        const auto tiles = [&](std::size_t beside) {
            return vidtok::detail::Tiling{cut(height, most, beside), cut(width, most, beside)};
        };
        const Clip expected = run(encodes, vidtok::detail::Tiling::whole(height, width), clip, calls, 2);
        const Clip found = run(encodes, tiles(margin), clip, calls, 2);
        tiled += std::max(height, width) > most;
        narrow += !same(run(encodes, tiles(margin - 1), clip, calls, 2), expected);
        if (same(found, expected)) continue;
        std::printf("%s of %zux%zu latents in tiles of %zu: other numbers\n", encodes ? "encoding" : "decoding", width,
                    height, most);
        ++wrong;
    }
    std::printf("%d of %d streams, %d of them in tiles, differ; with a smaller margin %d\n", wrong, count, tiled,
                narrow);
    return narrow > tiled / 2 ? wrong : count;
}

}  // namespace

}  // namespace tiling

int tiles(const Words& words) {
    if (words.empty()) throw vidtok::InputError("give tiles.json of the conformance kit");
    const vidtok::fs::path file = words[0];
    const vidtok::Json json = vidtok::parse_json(vidtok::read_whole(file, std::size_t{1} << 24));
    const vidtok::Fields all(json, "the file");
    if (all.text("format") != "vidtok-tiles" || all.integer("version", 0, 1000) != 1) {
        throw vidtok::InputError(vidtok::detail::text_of(file) + " has no cuts of version 1");
    }
    const std::vector<vidtok::Fields> table = all.rows("axes");
    const int cuts = tiling::wrong_cuts(table);
    std::printf("%d cuts of %zu axes differ\n", cuts, table.size());
    return tiling::wrong_runs(400) + cuts ? 1 : 0;
}
