// Streams that are refused something, and streams whose engine fails: `streams BUNDLE [PROVIDER]` prints what is
// otherwise. The bundle has a codebook and no groups of its own.
#include <vidtok/tokenizer.hpp>

#include <cstdio>

#include "../src/engines.hpp"
#include "programs.hpp"

namespace breaking {

namespace {

constexpr std::size_t frames = 14, height = 24, width = 32, gop = 2;

/// Runs until an engine fails at one, once; none: it does not.
using Fuse = std::optional<std::size_t>;

class Request final : public vidtok::Request {
public:
    Request(std::unique_ptr<vidtok::Request> own, Fuse& fuse) : own_(std::move(own)), fuse_(fuse) {}
    vidtok::Tensor input(const std::string& name, const vidtok::Shape& shape) override {
        return own_->input(name, shape);
    }
    void start(const std::vector<vidtok::StateTensor>& states) override { own_->start(states); }
    void run(bool release) override {
        if (fuse_ && (*fuse_)-- == 0) {
            fuse_.reset();
            throw vidtok::ProviderError("the fuse has blown");
        }
        own_->run(release);
    }
    vidtok::Tensor output(const std::string& name) override { return own_->output(name); }

private:
    std::unique_ptr<vidtok::Request> own_;
    Fuse& fuse_;
};

class Session final : public vidtok::Session {
public:
    Session(std::unique_ptr<vidtok::Session> own, Fuse& fuse) : own_(std::move(own)), fuse_(fuse) {}
    vidtok::PortShapes inputs() const override { return own_->inputs(); }
    vidtok::PortShapes outputs() const override { return own_->outputs(); }
    std::unique_ptr<vidtok::Request> request() override { return std::make_unique<Request>(own_->request(), fuse_); }

private:
    std::unique_ptr<vidtok::Session> own_;
    Fuse& fuse_;
};

vidtok::Engine fused(vidtok::Engine engine, Fuse& fuse) {
    const auto load = engine.load;
    engine.load = [load, &fuse](const vidtok::fs::path& file) { return std::make_unique<Session>(load(file), fuse); };
    return engine;
}

/// Whether an action throws an Error that says so.
template <class Error, class Action>
bool fails(const char* words, Action action) {
    try {
        action();
    } catch (const Error& error) {
        return std::string(error.what()).find(words) != std::string::npos;
    }
    return false;
}

class Trial {
public:
    Trial(const vidtok::fs::path& bundle, const std::string& provider)
        : tok_(bundle, fused(make_engine(provider, 1), fuse_)), clip_(frames * height * width * 3) {
        for (std::size_t i = 0; i < clip_.size(); ++i) clip_[i] = static_cast<std::uint8_t>(i * i % 251);
    }

    int run() {
        for (const std::optional<std::size_t> cut : {std::optional<std::size_t>(), std::optional(gop)}) {
            vidtok::Encoder encoder = tok_.encoder(cut);
            vidtok::Tokens tokens = push(encoder);
            tokens.append(encoder.finish());
            vidtok::Decoder decoder = tok_.decoder(tok_.describe(frames, height, width, cut));
            std::vector<float> pixels = decoder.push(tokens).pixels;
            append(pixels, decoder.finish());
            refused(cut, tokens, pixels);
            for (std::size_t runs = 0; runs < 4; ++runs) broken(cut, tokens, runs);
        }
        std::printf("%d are otherwise\n", wrong_);
        return wrong_ ? 1 : 0;
    }

private:
    /// What is refused before, between and behind leaves no trace.
    void refused(std::optional<std::size_t> cut, const vidtok::Tokens& tokens, const std::vector<float>& pixels) {
        const auto none = [&](vidtok::Encoder& encoder, std::size_t h, std::size_t w) {
            return fails<vidtok::InputError>("frames", [&] { encoder.push(clip_.data(), 1, h, w); });
        };
        vidtok::Encoder encoder = tok_.encoder(cut);
        judge(none(encoder, 0, width) && none(encoder, height, 0), "frames without pixels are taken");
        judge(encoder.num_frames() == 0, "frames that were refused are counted");
        vidtok::Tokens found = push(encoder);
        judge(none(encoder, width, height), "frames of another size are taken");
        found.append(encoder.finish());
        judge(found.indices == tokens.indices, "other tokens behind frames that were refused");

        vidtok::Tokens beyond = tokens, narrow = tokens.slice(0, 1);
        beyond.indices.back() = -1;
        narrow.width = 1;
        narrow.indices.resize(narrow.step_size());
        vidtok::Decoder decoder = tok_.decoder(tok_.describe(frames, height, width, cut));
        const auto refuses = [&](const vidtok::Tokens& some) {
            return fails<vidtok::InputError>("", [&] { decoder.push(some); });
        };
        judge(refuses(beyond) && refuses(narrow), "tokens of no code or of another size are taken");
        std::vector<float> all = decoder.push(tokens.slice(0, gop)).pixels;
        judge(refuses(beyond) && refuses(narrow), "tokens of no code or of another size are taken later");
        append(all, decoder.push(tokens.slice(gop)));
        append(all, decoder.finish());
        const auto close = [](float a, float b) { return std::abs(a - b) < 1e-4F; };  // in calls of other lengths
        judge(std::equal(all.begin(), all.end(), pixels.begin(), pixels.end(), close),
              "other frames behind tokens that were refused");
    }

    /// A stream whose engine has failed says so, and gives nothing with a hole in it.
    void broken(std::optional<std::size_t> cut, const vidtok::Tokens& tokens, std::size_t runs) {
        const auto ended = [&](const auto& action) { return fails<vidtok::InputError>("earlier call", action); };
        const auto blown = [&](const auto& action) {
            fuse_ = runs;
            const bool said = fails<vidtok::ProviderError>("fuse", action);
            fuse_.reset();
            return said;
        };
        vidtok::Encoder encoder = tok_.encoder(cut);
        judge(blown([&] {
                  push(encoder);
                  encoder.finish();
              }),
              "an encoder hides that its engine failed");
        judge(ended([&] { push(encoder); }), "an encoder goes on after its engine failed");
        judge(ended([&] { encoder.finish(); }), "an encoder ends well after its engine failed");
        vidtok::Decoder decoder = tok_.decoder(tok_.describe(frames, height, width, cut));
        judge(blown([&] {
                  decoder.push(tokens);
                  decoder.finish();
              }),
              "a decoder hides that its engine failed");
        judge(ended([&] { decoder.push(tokens); }), "a decoder goes on after its engine failed");
        judge(ended([&] { decoder.finish(); }), "a decoder ends well after its engine failed");
    }

    vidtok::Tokens push(vidtok::Encoder& encoder) const { return encoder.push(clip_.data(), frames, height, width); }

    static void append(std::vector<float>& pixels, const vidtok::Frames& more) {
        pixels.insert(pixels.end(), more.pixels.begin(), more.pixels.end());
    }

    void judge(bool right, const char* otherwise) {
        if (right) return;
        std::printf("%s\n", otherwise);
        ++wrong_;
    }

    Fuse fuse_;
    vidtok::Tokenizer tok_;
    std::vector<std::uint8_t> clip_;
    int wrong_ = 0;
};

}  // namespace

}  // namespace breaking

int streams(const Words& words) {
    if (words.empty()) throw vidtok::InputError("give a bundle with a codebook, and perhaps a provider");
    return breaking::Trial(words[0], words.size() > 1 ? words[1] : built_in().front()).run();
}
