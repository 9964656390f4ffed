// What the token writer refuses and what it then leaves: `writer FOLDER` prints what is otherwise.
#include <vidtok/token_reader.hpp>
#include <vidtok/token_writer.hpp>

#include <cstdio>

#include "programs.hpp"

namespace writing {

namespace {

using vidtok::TokenWriter;
using vidtok::fs::path;

constexpr std::size_t frames = 4;

struct Clip {
    vidtok::Tokens tokens;
    vidtok::TokenInfo info;
    std::vector<std::int64_t> pts;
};

/// Tokens of 16 codes or latents of 2 channels, one for each frame.
Clip clip(bool codes) {
    Clip one;
    one.tokens = {frames, codes ? 1U : 2U, 3, 5, {}, {}};
    const std::size_t numbers = frames * one.tokens.step_size();
    if (codes) {
        one.tokens.indices.assign(numbers, 15);
        one.info.codebook_size = 16;
    } else {
        one.tokens.latent.assign(numbers, 0.5F);
    }
    one.info.family = one.info.name = one.info.provider = "made";
    one.info.weights_sha256 = std::string(64, 'a');
    one.info.num_frames = frames;
    one.info.height = 12;
    one.info.width = 20;
    for (std::size_t i = 0; i < frames; ++i) one.pts.push_back(static_cast<std::int64_t>(3 * i));
    return one;
}

TokenWriter open(const path& file, const Clip& one) { return {file, one.info.codebook_size, false, true}; }

template <class Action>
bool refuses(Action action) {
    try {
        action();
    } catch (const vidtok::InputError&) {
        return true;
    }
    return false;
}

struct Misfit {
    const char* name;
    bool codes;
    void (*change)(Clip&);
};

const Misfit misfits[] = {
    {"a latent less", false, [](Clip& one) { one.tokens.latent.pop_back(); }},
    {"a token more", true, [](Clip& one) { one.tokens.indices.push_back(0); }},
    {"latents among tokens", true, [](Clip& one) { one.tokens = clip(false).tokens; }},
    {"tokens among latents", false, [](Clip& one) { one.tokens = clip(true).tokens; }},
    {"tokens of two channels", true,
     [](Clip& one) {
         one.tokens.channels = 2;
         one.tokens.indices.resize(2 * one.tokens.indices.size());
     }},
    {"a timestamp less", false, [](Clip& one) { one.pts.pop_back(); }},
    {"a timestamp twice", false, [](Clip& one) { one.pts[2] = one.pts[1]; }},
    {"timestamps that fall", true, [](Clip& one) { one.pts[3] = -1; }},
    {"a name that readers refuse", false, [](Clip& one) { one.info.name = "two\nlines"; }},
    {"a name that is not UTF-8", false, [](Clip& one) { one.info.name = "\xFF"; }},
    {"tokens that are sampled", true, [](Clip& one) { one.info.sampled = 1; }},
};

bool is_refused(const path& folder, const Misfit& misfit) {
    const path file = folder / misfit.name;
    const bool refused = refuses([&] {
        Clip one = clip(misfit.codes);
        TokenWriter writer = open(file, one);
        misfit.change(one);
        writer.append(one.tokens);
        writer.close(one.info, one.pts);
    });
    return refused && !vidtok::is_file(file);
}

/// A file is readable, too, where a misfit was refused on the way, and takes nothing when it is finished.
bool stays_sound(const path& folder, bool codes) {
    const path file = folder / "sound";
    const Clip one = clip(codes);
    Clip other = clip(codes);
    other.tokens.height = 1;
    TokenWriter writer = open(file, one);
    bool sound = refuses([&] { writer.append(other.tokens); });
    if (codes) {
        other = one;
        other.tokens.indices.back() = 16;
        sound = refuses([&] { writer.append(other.tokens); }) && sound;
    }
    writer.append(one.tokens);
    sound = refuses([&] { writer.close(one.info, {}); }) && sound;
    writer.close(one.info, one.pts);
    sound = refuses([&] { writer.append(one.tokens); }) && sound;
    sound = refuses([&] { writer.close(one.info, one.pts); }) && sound;
    const vidtok::TokenReader reader(file);
    reader.verify();
    const vidtok::Tokens back = reader.read(0, reader.count());
    return sound && back.latent == one.tokens.latent && back.indices == one.tokens.indices && reader.pts() == one.pts;
}

}  // namespace

}  // namespace writing

int writer(const Words& words) {
    if (words.empty()) throw vidtok::InputError("give an empty folder");
    int wrong = 0;
    const auto judge = [&](bool right, const char* name) {
        if (right) return;
        std::printf("%s\n", name);
        ++wrong;
    };
    for (const writing::Misfit& one : writing::misfits) judge(writing::is_refused(words[0], one), one.name);
    judge(writing::stays_sound(words[0], true), "a file of tokens");
    judge(writing::stays_sound(words[0], false), "a file of latents");
    std::printf("%d are otherwise\n", wrong);
    return wrong ? 1 : 0;
}
