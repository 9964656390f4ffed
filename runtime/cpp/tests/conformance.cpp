// Runs every case of the conformance kit: `conformance cases.json [provider [largest tile]]` prints one line a case.
#include <vidtok/token_reader.hpp>
#include <vidtok/tokenizer.hpp>

#include <cstdio>
#include <future>
#include <limits>
#include <mutex>

#include "../src/engines.hpp"
#include "programs.hpp"

namespace conformance_kit {

namespace {

using vidtok::Fields;
using vidtok::fs::path;

std::vector<float> read_floats(const path& file) {
    const std::string bytes = vidtok::read_whole(file, std::size_t{1} << 30);
    std::vector<float> numbers(bytes.size() / sizeof(float));
    std::memcpy(numbers.data(), bytes.data(), numbers.size() * sizeof(float));
    return numbers;
}

/// The largest difference; infinite where there are not as many numbers.
float difference(const std::vector<float>& found, const std::vector<float>& expected) {
    if (found.size() != expected.size()) return std::numeric_limits<float>::infinity();
    float most = 0;
    for (std::size_t i = 0; i < found.size(); ++i) most = std::max(most, std::abs(found[i] - expected[i]));
    return most;
}

/// The lists of lengths of a field.
std::vector<std::vector<std::size_t>> lengths(const Fields& one, const std::string& name) {
    std::vector<std::vector<std::size_t>> all;
    for (const vidtok::Json& list : one.get(name).items) {
        all.emplace_back();
        for (const vidtok::Json& n : list.items) all.back().push_back(static_cast<std::size_t>(n.integer));
    }
    return all;
}

class Case {
public:
    Case(const path& kit, const Fields& one, const std::string& provider, std::size_t max_tile)
        : one_(one), tok_(kit / one.text("bundle"), make_engine(provider, 1), options(max_tile)),
          expected_(kit / one.text("tokens")) {
        expected_.verify();
        input_ = vidtok::read_whole(kit / one.text("input"), std::size_t{1} << 30);
        expected_video_ = read_floats(kit / one.text("video"));
        height_ = static_cast<std::size_t>(one.integer("height", 1, 65536));
        width_ = static_cast<std::size_t>(one.integer("width", 1, 65536));
        tokens_ = expected_.read(0, expected_.count());
    }

    /// Prints what differs at most; false when it is too much.
    bool run() {
        for (const auto& pushes : lengths(one_, "pushes")) encode(tok_.encoder(), pushes);
        for (const auto& pulls : lengths(one_, "pulls")) decode(tok_.decoder(expected_.info()), pulls);
        // All at once, each stream in a thread of its own: none may see another's state.
        std::vector<std::future<void>> streams;
        for (const auto& pushes : lengths(one_, "pushes")) {
            streams.push_back(std::async(std::launch::async, [this, pushes, encoder = tok_.encoder()]() mutable {
                encode(std::move(encoder), pushes);
            }));
        }
        for (std::future<void>& stream : streams) stream.get();
        std::printf("%s %s latent %.3g indices %zu of %zu video %.3g\n", one_.text("name").c_str(),
                    tok_.provider().c_str(), static_cast<double>(latent_), differing_, tokens_.indices.size(),
                    static_cast<double>(video_));
        const bool exact = one_.get("tokens_exact").boolean;
        const bool close = latent_ <= tolerance("latent_tolerance") && video_ <= tolerance("video_tolerance");
        return close && !(exact && differing_);
    }

private:
    static vidtok::TokenizerOptions options(std::size_t max_tile) {
        vidtok::TokenizerOptions options;
        options.max_tile = max_tile;
        return options;
    }

    double tolerance(const std::string& name) const { return one_.is_null(name) ? 0 : one_.number(name); }

    void encode(vidtok::Encoder encoder, const std::vector<std::size_t>& pushes) {
        const auto* frame = reinterpret_cast<const std::uint8_t*>(input_.data());
        vidtok::Tokens found;
        for (const std::size_t count : pushes) {
            found.append(encoder.push(frame, count, height_, width_));
            frame += count * height_ * width_ * 3;
        }
        found.append(encoder.finish());
        const float most = difference(found.latent, tokens_.latent);
        std::size_t differing = found.indices.size() == tokens_.indices.size() ? 0 : 1;
        for (std::size_t i = 0; i < found.indices.size() && i < tokens_.indices.size(); ++i) {
            differing += found.indices[i] != tokens_.indices[i];
        }
        const std::lock_guard<std::mutex> one_at_a_time(mutex_);
        latent_ = std::max(latent_, most);
        differing_ += differing;
    }

    void decode(vidtok::Decoder decoder, const std::vector<std::size_t>& pulls) {
        std::vector<float> found;
        const auto deliver = [&](const vidtok::Frames& frames) {
            found.insert(found.end(), frames.pixels.begin(), frames.pixels.end());
        };
        std::size_t at = 0;
        for (const std::size_t count : pulls) {
            deliver(decoder.push(expected_.read(at, count)));
            at += count;
        }
        deliver(decoder.finish());
        video_ = std::max(video_, difference(found, expected_video_));
    }

    Fields one_;
    vidtok::Tokenizer tok_;
    vidtok::TokenReader expected_;
    vidtok::Tokens tokens_;
    std::string input_;
    std::vector<float> expected_video_;
    std::mutex mutex_;
    float latent_ = 0;
    float video_ = 0;
    std::size_t differing_ = 0;
    std::size_t height_ = 0;
    std::size_t width_ = 0;
};

}  // namespace

}  // namespace conformance_kit

int conformance(const Words& words) {
    if (words.empty()) throw vidtok::InputError("give cases.json of the kit, and perhaps a provider, and pixels of a tile");
    const vidtok::fs::path file = words[0];
    const vidtok::Json json = vidtok::parse_json(vidtok::read_whole(file, std::size_t{1} << 24));
    const vidtok::Fields kit(json, "the kit");
    if (kit.text("format") != "vidtok-conformance" || kit.integer("version", 0, 1000) != 1) {
        throw vidtok::InputError(vidtok::detail::text_of(file) + " is no conformance kit of version 1");
    }
    const std::string provider = words.size() > 1 ? words[1] : built_in().front();
    const std::size_t max_tile = words.size() > 2 ? std::stoul(words[2]) : 0;
    bool all = true;
    for (const vidtok::Fields& one : kit.rows("cases")) {
        all = conformance_kit::Case(file.parent_path(), one, provider, max_tile).run() && all;
    }
    return all ? 0 : 1;
}
