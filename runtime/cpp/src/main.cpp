// The program `vidtok`: parses, calls the library, and turns every error into one line.
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <new>

#include <vidtok/token_reader.hpp>
#include <vidtok/token_writer.hpp>
#include <vidtok/tokenizer.hpp>

#include "ending.hpp"
#include "engines.hpp"
#include "frames_in.hpp"
#include "frames_out.hpp"
#include "info.hpp"
#include "options.hpp"

namespace {

/// One line on stderr, whatever the text holds.
void report(std::string text) {
    for (char& c : text) c = static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    std::fprintf(stderr, "vidtok: %s\n", text.c_str());
}

/// Progress on a terminal; throws where Ctrl-C was pressed, so that nothing half-written stays.
class Progress {
public:
    Progress(std::string text, std::size_t total, bool quiet, const Ending& ending)
        : ending_(ending), text_(std::move(text)), total_(total), shown_(!quiet && isatty(STDERR_FILENO)) {}
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;
    ~Progress() {
        if (shown_) std::fprintf(stderr, "\n");
    }

    void add(std::size_t frames) {
        if (ending_.interrupted) throw vidtok::Error("interrupted; nothing was written");
        done_ += frames;
        if (shown_) std::fprintf(stderr, "\r%s: %zu of %zu frames", text_.c_str(), done_, total_);
    }

private:
    const Ending& ending_;
    std::string text_;
    std::size_t total_;
    std::size_t done_ = 0;
    bool shown_;
};

vidtok::Tokenizer open_tokenizer(const Options& options) {
    const std::string provider = options.provider.empty() ? built_in().front() : options.provider;
    const vidtok::TokenizerOptions settings{options.precision, options.chunk,    options.window,
                                            options.normalize, options.max_tile, options.max_memory};
    return {options.files[0], make_engine(provider, options.threads), settings};
}

/// Latents of a call, with a line about the plan where there is a limit of memory.
std::size_t chunk_of(const vidtok::Tokenizer& tok, const std::string& role, std::size_t height, std::size_t width,
                     bool quiet) {
    const vidtok::CallPlan plan = tok.plan(role, height, width);
    if (plan.peak && !quiet) std::fprintf(stderr, "vidtok: %s\n", plan.text.c_str());
    return plan.chunk;
}

void encode(const Options& options, const Ending& ending) {
    const vidtok::Tokenizer tok = open_tokenizer(options);
    FrameReader reader(options.files[1], options.raw);
    vidtok::TokenWriter writer(options.files[2], tok.manifest().stream.codebook_size, options.half, options.force);
    vidtok::Encoder encoder = tok.encoder(options.gop);
    const std::size_t chunk = chunk_of(tok, "encoder", reader.height, reader.width, options.quiet);
    const std::size_t at_once = chunk * tok.manifest().stream.time_factor;
    std::vector<std::int64_t> pts;  // the one thing that grows: eight bytes a frame
    {
        Progress progress("encode", reader.total, options.quiet, ending);
        std::vector<std::uint8_t> frames;
        for (bool more = true; more;) {
            frames.clear();
            std::size_t count = 0;
            while (count < at_once && (more = reader.next(frames))) ++count;
            writer.append(encoder.push(frames.data(), count, reader.height, reader.width));
            while (pts.size() < encoder.num_frames()) pts.push_back(static_cast<std::int64_t>(pts.size()));
            progress.add(count);
        }
    }
    if (pts.empty()) throw vidtok::InputError(options.files[1] + " holds no frames");
    writer.append(encoder.finish());
    vidtok::TokenInfo info = tok.describe(pts.size(), reader.height, reader.width, options.gop);
    info.fps = reader.fps;
    info.time_base = reader.time_base;
    info.display = reader.display;
    writer.close(info, pts);
    if (!options.quiet) {
        std::fprintf(stderr, "%s: %zu frames by %s\n", options.files[2].c_str(), pts.size(), tok.provider().c_str());
    }
}

void decode(const Options& options, const Ending& ending) {
    if (options.window) throw UsageError("tokens decode in the windows that they were made in; leave --window out");
    if (options.normalize) throw UsageError("what a token file says is undone on its own; leave --normalize out");
    const vidtok::Tokenizer tok = open_tokenizer(options);
    const vidtok::TokenReader reader(options.files[1]);
    reader.verify();
    if (reader.info().precision != tok.precision()) {
        report("warning: tokens made in " + reader.info().precision + " are decoded in " + tok.precision() +
               ", which gives slightly other frames; --precision " + reader.info().precision + " gives its own");
    }
    FrameWriter writer(options.files[2], reader.info(), options.force);
    vidtok::Decoder decoder = tok.decoder(reader.info());
    {
        Progress progress("decode", reader.info().num_frames, options.quiet, ending);
        const auto deliver = [&](const vidtok::Frames& frames) {
            writer.write(frames);
            progress.add(frames.count);
        };
        const vidtok::TokenInfo& info = reader.info();
        const std::size_t chunk = chunk_of(tok, "decoder", info.height, info.width, options.quiet);
        for (std::size_t at = 0; at < reader.count(); at += chunk) deliver(decoder.push(reader.read(at, chunk)));
        deliver(decoder.finish());
    }
    writer.close();
    if (!options.quiet) {
        std::fprintf(stderr, "%s: %zu frames by %s\n", options.files[2].c_str(), reader.info().num_frames,
                     tok.provider().c_str());
    }
}

void run(const Options& options, Ending& ending) {
    ending.watch(options.time_limit);
    if (options.help) {
        std::fputs(help_text(), stdout);
    } else if (options.command == "encode") {
        encode(options, ending);
    } else if (options.command == "decode") {
        decode(options, ending);
    } else {
        describe(options.files[0], options.verify);
    }
}

}  // namespace

int main(int argc, char** argv) {
    static Ending ending;  // for as long as its thread
    try {
        run(parse_options({argv + 1, argv + argc}), ending);
        return 0;
    } catch (const UsageError& error) {
        report(error.what());
        return 2;
    } catch (const std::bad_alloc&) {
        report("there is not enough memory; frames or calls are too large, see --max-memory");
    } catch (const std::exception& error) {
        report(error.what());
    }
    return 1;
}
