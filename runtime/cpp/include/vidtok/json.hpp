// JSON in and out, by the rules of docs/format.md: RFC 8259 and no second value of one name.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdio>
#include <locale>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "utf8.hpp"

namespace vidtok {

/// One value. An object keeps its names in `names`, and their values at the same places in `items`.
struct Json {
    enum class Kind { null, boolean, integer, number, text, list, object };

    Kind kind = Kind::null;
    bool boolean = false;
    std::int64_t integer = 0;
    double number = 0;
    std::string text;
    std::vector<std::string> names;
    std::vector<Json> items;

    /// The value of a name, or nullptr.
    const Json* find(std::string_view name) const {
        for (std::size_t i = 0; i < names.size(); ++i) {
            if (names[i] == name) return &items[i];
        }
        return nullptr;
    }
};

namespace detail {

class JsonParser {
public:
    explicit JsonParser(std::string_view text) : text_(text) {}

    Json document() {
        Json value = parse(0);
        skip_space();
        if (at_ != text_.size()) fail("more text after its value");
        return value;
    }

private:
    static constexpr int max_depth_ = 64;  // objects and lists inside each other
    static constexpr double max_number_ = 1e300;

    [[noreturn]] void fail(const std::string& what) const {
        throw FormatError("it is no JSON: " + what + " at byte " + std::to_string(at_));
    }

    void skip_space() {
        while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
    }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

    bool take(char c) {
        if (at_ >= text_.size() || text_[at_] != c) return false;
        ++at_;
        return true;
    }

    Json parse(int depth) {
        skip_space();
        if (depth == max_depth_ && (peek() == '{' || peek() == '[')) fail("it is nested too deeply");
        Json value;
        if (take('{')) {
            value.kind = Json::Kind::object;
            members(value, depth);
        } else if (take('[')) {
            value.kind = Json::Kind::list;
            elements(value, depth);
        } else if (peek() == '"') {
            value.kind = Json::Kind::text;
            value.text = string();
        } else if (peek() == '-' || (peek() >= '0' && peek() <= '9')) {
            number(value);
        } else if (word("true") || word("false")) {
            value.kind = Json::Kind::boolean;
            value.boolean = text_[at_ - 2] == 'u';
        } else if (!word("null")) {
            fail("no value");
        }
        return value;
    }

    void members(Json& value, int depth) {
        std::set<std::string> known;
        skip_space();
        if (take('}')) return;
        do {
            skip_space();
            std::string name = string();
            if (!known.insert(name).second) fail("a second '" + beginning(name, 40) + "'");
            skip_space();
            if (!take(':')) fail("no colon");
            value.names.push_back(std::move(name));
            value.items.push_back(parse(depth + 1));
            skip_space();
        } while (take(','));
        if (!take('}')) fail("no end of an object");
    }

    void elements(Json& value, int depth) {
        skip_space();
        if (take(']')) return;
        do {
            value.items.push_back(parse(depth + 1));
            skip_space();
        } while (take(','));
        if (!take(']')) fail("no end of a list");
    }

    bool word(std::string_view name) {
        if (text_.substr(at_, name.size()) != name) return false;
        at_ += name.size();
        return true;
    }

    std::string string() {
        if (!take('"')) fail("no text");
        std::string out;
        while (!take('"')) {
            const std::size_t start = at_;
            if (static_cast<unsigned char>(peek()) < 0x20) fail("text without an end");
            if (take('\\')) {
                append_utf8(out, escape());
            } else {
                next_code_point(text_, at_);
                out += text_.substr(start, at_ - start);
            }
        }
        return out;
    }

    std::uint32_t escape() {
        constexpr std::string_view letters = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
        const char letter = peek();
        ++at_;
        if (const auto i = letters.find(letter); i != std::string_view::npos) {
            return static_cast<unsigned char>(meanings[i]);
        }
        if (letter != 'u') fail("an unknown escape");
        const std::uint32_t high = four_digits();
        if (high < 0xD800 || high >= 0xE000) return high;
        if (high >= 0xDC00 || !word("\\u")) fail("half a character");
        const std::uint32_t low = four_digits();
        if (low < 0xDC00 || low >= 0xE000) fail("half a character");
        return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
    }

    std::uint32_t four_digits() {
        const std::string_view digits = text_.substr(at_ < text_.size() ? at_ : text_.size(), 4);
        std::uint32_t code = 0;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
        if (digits.size() != 4 || error != std::errc() || end != digits.data() + 4) fail("no four digits");
        at_ += 4;
        return code;
    }

    void digits() {
        if (peek() < '0' || peek() > '9') fail("no digit");
        while (peek() >= '0' && peek() <= '9') ++at_;
    }

    void number(Json& value) {
        const std::size_t start = at_;
        bool whole = true;
        take('-');
        if (!take('0')) digits();
        if (take('.')) {
            digits();
            whole = false;
        }
        if (take('e') || take('E')) {
            if (!take('+')) take('-');
            digits();
            whole = false;
        }
        const std::string_view all = text_.substr(start, at_ - start);
        std::istringstream stream{std::string(all)};
        stream.imbue(std::locale::classic());
        if (!(stream >> value.number) || !(std::abs(value.number) < max_number_)) fail("a number out of range");
        const bool fits = std::from_chars(all.data(), all.data() + all.size(), value.integer).ec == std::errc();
        value.kind = whole && fits ? Json::Kind::integer : Json::Kind::number;
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

}  // namespace detail

/// What JSON text holds; throws FormatError.
inline Json parse_json(std::string_view text) { return detail::JsonParser(text).document(); }

/// Text as JSON writes it, in ASCII alone.
inline std::string quote_json(std::string_view text) {
    std::string out = "\"";
    const auto unit = [&](std::uint32_t code) {
        char digits[16];
        std::snprintf(digits, sizeof digits, "\\u%04x", static_cast<unsigned>(code));
        out += digits;
    };
    for (std::size_t at = 0; at < text.size();) {
        const std::uint32_t code = detail::next_code_point(text, at);
        if (code == '"' || code == '\\') {
            out += '\\';
            out += static_cast<char>(code);
        } else if (code >= 0x20 && code < 0x7F) {
            out += static_cast<char>(code);
        } else if (code < 0x10000) {
            unit(code);
        } else {
            unit(0xD800 + ((code - 0x10000) >> 10));
            unit(0xDC00 + ((code - 0x10000) & 0x3FF));
        }
    }
    return out + '"';
}

}  // namespace vidtok
