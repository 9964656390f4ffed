// A bundle on an engine.
#include "engines.hpp"
#include "handles.hpp"

using namespace vidtok::c;

vidtok_status vidtok_tokenizer_open(const char* folder, const vidtok_options* options, vidtok_tokenizer** tokenizer) {
    return guarded([&] {
        need(folder, "folder");
        need(tokenizer, "tokenizer");
        const vidtok_options asked = options != nullptr ? *options : vidtok_options{};
        vidtok::TokenizerOptions settings;
        settings.precision = asked.precision != nullptr ? asked.precision : "";
        settings.chunk = asked.chunk;
        settings.window = asked.window;
        settings.normalize = asked.normalize != 0;
        settings.max_tile = asked.max_tile;
        settings.max_memory = asked.max_memory;
        constexpr std::size_t max_threads = 4096;
        if (asked.threads > max_threads) throw vidtok::InputError("threads are 4096 at most");
        vidtok::Engine engine = load_engine(asked.provider != nullptr ? asked.provider : "cpu", asked.threads);
        *tokenizer = new vidtok_tokenizer{std::make_shared<const vidtok::Tokenizer>(
            vidtok::detail::path_of(folder), std::move(engine), settings)};
    });
}

vidtok_status vidtok_tokenizer_info(const vidtok_tokenizer* tokenizer, vidtok_bundle* bundle) {
    return guarded([&] {
        need(tokenizer, "tokenizer");
        need(bundle, "bundle");
        const vidtok::Tokenizer& tok = *tokenizer->tokenizer;
        const vidtok::Manifest& manifest = tok.manifest();
        const vidtok::StreamSpec& stream = manifest.stream;
        *bundle = {manifest.family.c_str(),
                   manifest.name.c_str(),
                   manifest.weights_sha256.c_str(),
                   manifest.licence.c_str(),
                   tok.precision().c_str(),
                   tok.provider().c_str(),
                   stream.codebook_size.value_or(0),
                   stream.codebook_size ? 1 : stream.latent_channels,
                   stream.time_factor,
                   stream.spatial_multiple,
                   tok.encoder_chunk(),
                   tok.decoder_chunk()};
    });
}

void vidtok_tokenizer_free(vidtok_tokenizer* tokenizer) { delete tokenizer; }
