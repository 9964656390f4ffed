// What the handles of vidtok.h hold.
#pragma once

#include <vidtok/token_reader.hpp>
#include <vidtok/token_writer.hpp>
#include <vidtok/tokenizer.hpp>

#include "border.hpp"

namespace vidtok::c {

/// A tokenizer, which its streams hold, too.
using SharedTokenizer = std::shared_ptr<const Tokenizer>;

/// As C sees tokens that stay where they are.
inline vidtok_tokens view(const Tokens& tokens) {
    return {tokens.count,
            tokens.channels,
            tokens.height,
            tokens.width,
            tokens.latent.empty() ? nullptr : tokens.latent.data(),
            tokens.indices.empty() ? nullptr : tokens.indices.data()};
}

/// A copy of tokens out of C, each number of which is there; throws InputError.
inline Tokens copy(const vidtok_tokens& given) {
    Tokens tokens;
    if (given.count == 0) return tokens;
    if ((given.latent == nullptr) == (given.indices == nullptr)) {
        throw InputError("tokens have either latent or indices, not both and not neither");
    }
    constexpr std::size_t most = std::size_t{1} << 40;
    std::size_t size = 1;
    for (const std::size_t length : {given.count, given.channels, given.height, given.width}) {
        if (length == 0 || length > most / size) throw InputError("a length of tokens is 0 or too large");
        size *= length;
    }
    tokens.count = given.count;
    tokens.channels = given.channels;
    tokens.height = given.height;
    tokens.width = given.width;
    if (given.latent != nullptr) tokens.latent.assign(given.latent, given.latent + size);
    if (given.indices != nullptr) tokens.indices.assign(given.indices, given.indices + size);
    return tokens;
}

}  // namespace vidtok::c

struct vidtok_tokenizer {
    vidtok::c::SharedTokenizer tokenizer;
};

struct vidtok_encoder {
    vidtok::c::SharedTokenizer tokenizer;
    std::optional<std::size_t> gop;
    vidtok::Encoder encoder;
    std::size_t height = 0;
    std::size_t width = 0;
    bool finished = false;
    vidtok::Tokens latest = {};
};

struct vidtok_decoder {
    vidtok::c::SharedTokenizer tokenizer;
    vidtok::Decoder decoder;
    vidtok::Frames latest = {};
};

struct vidtok_reader {
    vidtok::TokenReader reader;
    vidtok::Tokens latest = {};
    std::vector<std::int64_t> pts = {};
};

struct vidtok_writer {
    vidtok::c::SharedTokenizer tokenizer;
    vidtok::TokenWriter writer;
};
