// Reading and writing token files.
#include "handles.hpp"

using namespace vidtok::c;

namespace {

vidtok_fraction view(const std::optional<vidtok::Fraction>& fraction) {
    return fraction ? vidtok_fraction{fraction->numerator, fraction->denominator} : vidtok_fraction{0, 0};
}

std::optional<vidtok::Fraction> checked(const vidtok_fraction& given, const char* name) {
    if (given.denominator == 0) return std::nullopt;
    constexpr std::int64_t most = (std::int64_t{1} << 31) - 1;
    for (const std::int64_t n : {given.numerator, given.denominator}) {
        if (n < 1 || n > most) throw vidtok::InputError(std::string(name) + " is a quotient of numbers in 1..2^31-1");
    }
    return vidtok::Fraction{given.numerator, given.denominator};
}

/// The timestamps that are given, or those that count frames.
std::vector<std::int64_t> timestamps(const vidtok_times& times, std::size_t num_frames) {
    if (times.pts != nullptr) return {times.pts, times.pts + times.num_pts};
    std::vector<std::int64_t> pts(num_frames);
    for (std::size_t i = 0; i < num_frames; ++i) pts[i] = static_cast<std::int64_t>(i);
    return pts;
}

}  // namespace

vidtok_status vidtok_reader_open(const char* path, vidtok_reader** reader) {
    return guarded([&] {
        need(path, "path");
        need(reader, "reader");
        *reader = new vidtok_reader{vidtok::TokenReader(vidtok::detail::path_of(path))};
    });
}

vidtok_status vidtok_reader_info(const vidtok_reader* reader, vidtok_clip* clip) {
    return guarded([&] {
        need(reader, "reader");
        need(clip, "clip");
        const vidtok::TokenInfo& info = reader->reader.info();
        const std::vector<std::int64_t>& shape = reader->reader.shape();
        const auto size = [&](std::size_t from_end) { return static_cast<std::size_t>(shape[shape.size() - from_end]); };
        *clip = {info.family.c_str(),
                 info.name.c_str(),
                 info.weights_sha256.c_str(),
                 info.precision.c_str(),
                 info.provider.c_str(),
                 info.num_frames,
                 info.height,
                 info.width,
                 view(info.fps),
                 view(info.time_base),
                 info.codebook_size.value_or(0),
                 reader->reader.count(),
                 shape.size() == 4 ? size(3) : 1,
                 size(2),
                 size(1)};
    });
}

vidtok_status vidtok_reader_verify(const vidtok_reader* reader) {
    return guarded([&] {
        need(reader, "reader");
        reader->reader.verify();
    });
}

vidtok_status vidtok_reader_read(vidtok_reader* reader, size_t start, size_t most, vidtok_tokens* tokens) {
    return guarded([&] {
        need(reader, "reader");
        need(tokens, "tokens");
        reader->latest = reader->reader.read(start, most);
        *tokens = vidtok::c::view(reader->latest);
    });
}

vidtok_status vidtok_reader_pts(vidtok_reader* reader, const int64_t** pts) {
    return guarded([&] {
        need(reader, "reader");
        need(pts, "pts");
        reader->pts = reader->reader.pts();
        *pts = reader->pts.data();
    });
}

void vidtok_reader_free(vidtok_reader* reader) { delete reader; }

vidtok_status vidtok_writer_open(vidtok_tokenizer* tokenizer, const char* path, int32_t half, int32_t force,
                                 vidtok_writer** writer) {
    return guarded([&] {
        need(tokenizer, "tokenizer");
        need(path, "path");
        need(writer, "writer");
        const SharedTokenizer& tok = tokenizer->tokenizer;
        const auto& codes = tok->manifest().stream.codebook_size;
        *writer = new vidtok_writer{
            tok, vidtok::TokenWriter(vidtok::detail::path_of(path), codes, half != 0, force != 0)};
    });
}

vidtok_status vidtok_writer_append(vidtok_writer* writer, const vidtok_tokens* tokens) {
    return guarded([&] {
        need(writer, "writer");
        need(tokens, "tokens");
        writer->writer.append(copy(*tokens));
    });
}

vidtok_status vidtok_writer_finish(vidtok_writer* writer, const vidtok_encoder* encoder, const vidtok_times* times) {
    return guarded([&] {
        need(writer, "writer");
        need(encoder, "encoder");
        if (encoder->tokenizer != writer->tokenizer) {
            throw vidtok::InputError("encoder and writer have different tokenizers");
        }
        if (!encoder->finished) throw vidtok::InputError("the encoder is not finished");
        const std::size_t frames = encoder->encoder.num_frames();
        if (frames == 0) throw vidtok::InputError("there are no frames");
        const vidtok_times shown = times != nullptr ? *times : vidtok_times{};
        vidtok::TokenInfo info = writer->tokenizer->describe(frames, encoder->height, encoder->width, encoder->gop);
        info.fps = checked(shown.fps, "fps");
        info.time_base = checked(shown.time_base, "time_base");
        writer->writer.close(info, timestamps(shown, frames));
    });
}

void vidtok_writer_free(vidtok_writer* writer) { delete writer; }
