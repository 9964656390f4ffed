// Encoders and decoders.
#include "handles.hpp"

using namespace vidtok::c;

vidtok_status vidtok_encoder_open(vidtok_tokenizer* tokenizer, size_t gop, vidtok_encoder** encoder) {
    return guarded([&] {
        need(tokenizer, "tokenizer");
        need(encoder, "encoder");
        const std::optional<std::size_t> latents = gop ? std::optional(gop) : std::nullopt;
        const SharedTokenizer& tok = tokenizer->tokenizer;
        *encoder = new vidtok_encoder{tok, latents, tok->encoder(latents)};
    });
}

vidtok_status vidtok_encoder_push(vidtok_encoder* encoder, const uint8_t* rgb, size_t count, size_t height,
                                  size_t width, vidtok_tokens* tokens) {
    return guarded([&] {
        need(encoder, "encoder");
        need(tokens, "tokens");
        if (count) need(rgb, "rgb");
        constexpr std::size_t most = 65536;  // pixels along an axis, as token files have them
        if (height > most || width > most) throw vidtok::InputError("frames have at most 65536 pixels along an axis");
        encoder->latest = encoder->encoder.push(rgb, count, height, width);
        if (count) {
            encoder->height = height;
            encoder->width = width;
        }
        *tokens = view(encoder->latest);
    });
}

vidtok_status vidtok_encoder_finish(vidtok_encoder* encoder, vidtok_tokens* tokens) {
    return guarded([&] {
        need(encoder, "encoder");
        need(tokens, "tokens");
        encoder->latest = encoder->encoder.finish();
        encoder->finished = true;
        *tokens = view(encoder->latest);
    });
}

void vidtok_encoder_free(vidtok_encoder* encoder) { delete encoder; }

vidtok_status vidtok_decoder_open(vidtok_tokenizer* tokenizer, size_t num_frames, size_t height, size_t width,
                                  vidtok_decoder** decoder) {
    return guarded([&] {
        need(tokenizer, "tokenizer");
        need(decoder, "decoder");
        const auto given = [](std::size_t n) { return n ? std::optional(n) : std::nullopt; };
        const vidtok::Crop crop{given(num_frames), given(height), given(width)};
        const SharedTokenizer& tok = tokenizer->tokenizer;
        *decoder = new vidtok_decoder{tok, tok->decoder(crop)};
    });
}

vidtok_status vidtok_decoder_open_file(vidtok_tokenizer* tokenizer, const vidtok_reader* reader,
                                       vidtok_decoder** decoder) {
    return guarded([&] {
        need(tokenizer, "tokenizer");
        need(reader, "reader");
        need(decoder, "decoder");
        const vidtok::TokenInfo& info = reader->reader.info();
        const SharedTokenizer& tok = tokenizer->tokenizer;
        *decoder = new vidtok_decoder{tok, tok->decoder(info)};
    });
}

namespace {

vidtok_frames view(const vidtok::Frames& frames) {
    return {frames.count, frames.height, frames.width, frames.pixels.empty() ? nullptr : frames.pixels.data()};
}

}  // namespace

vidtok_status vidtok_decoder_push(vidtok_decoder* decoder, const vidtok_tokens* tokens, vidtok_frames* frames) {
    return guarded([&] {
        need(decoder, "decoder");
        need(tokens, "tokens");
        need(frames, "frames");
        decoder->latest = decoder->decoder.push(copy(*tokens));
        *frames = view(decoder->latest);
    });
}

vidtok_status vidtok_decoder_finish(vidtok_decoder* decoder, vidtok_frames* frames) {
    return guarded([&] {
        need(decoder, "decoder");
        need(frames, "frames");
        decoder->latest = decoder->decoder.finish();
        *frames = view(decoder->latest);
    });
}

void vidtok_decoder_free(vidtok_decoder* decoder) { delete decoder; }

void vidtok_to_uint8(const float* pixels, size_t count, uint8_t* bytes) {
    for (std::size_t i = 0; i < count; ++i) bytes[i] = vidtok::to_byte(pixels[i]);
}
