// Values out of JSON that may hold anything: each has the type and the range that was asked for, or it is an error.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "json.hpp"

namespace vidtok {

constexpr std::int64_t max_whole = (std::int64_t{1} << 53) - 1;  // what every language can hold

/// Whether text is short, can be shown on a terminal and shows what it is; it is valid UTF-8.
inline bool is_printable(std::string_view text) {
    // Controls, and what shows nothing or turns the direction of writing.
    constexpr std::uint32_t hidden[][2] = {{0, 0x1F},          {0x7F, 0x9F},     {0x61C, 0x61C},   {0x200B, 0x200F},
                                           {0x2028, 0x202E},   {0x2060, 0x206F}, {0xFEFF, 0xFEFF}, {0xE0000, 0xE0FFF}};
    std::size_t count = 0;
    for (std::size_t at = 0; at < text.size(); ++count) {
        const std::uint32_t code = detail::next_code_point(text, at);
        for (const auto& [first, last] : hidden) {
            if (first <= code && code <= last) return false;
        }
    }
    return count <= 300;
}

inline bool is_sha256(std::string_view text) {
    return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// An object out of JSON. Every method throws FormatError that says where and what.
class Fields {
public:
    /// `json` must outlive this and everything that comes out of it.
    Fields(const Json& json, std::string where) : json_(&json), where_(std::move(where)) {
        if (json.kind != Json::Kind::object) throw FormatError(where_ + " is no object");
    }

    const std::string& where() const { return where_; }
    const std::vector<std::string>& names() const { return json_->names; }
    bool has(std::string_view name) const { return json_->find(name) != nullptr; }

    /// The value as it is.
    const Json& get(const std::string& name) const {
        const Json* value = json_->find(name);
        if (value == nullptr) throw FormatError(where_ + " lacks " + name);
        return *value;
    }

    bool is_null(const std::string& name) const { return get(name).kind == Json::Kind::null; }

    std::int64_t integer(const std::string& name, std::int64_t least, std::int64_t most) const {
        const Json& value = get(name);
        if (value.kind != Json::Kind::integer || value.integer < least || value.integer > most) {
            wrong(name, "a whole number in " + std::to_string(least) + ".." + std::to_string(most));
        }
        return value.integer;
    }

    std::optional<std::int64_t> integer_or_none(const std::string& name, std::int64_t least, std::int64_t most) const {
        if (is_null(name)) return std::nullopt;
        return integer(name, least, most);
    }

    double number(const std::string& name) const {
        const Json& value = get(name);
        const bool fits = value.kind == Json::Kind::integer || value.kind == Json::Kind::number;
        if (!fits) wrong(name, "a number");
        return value.number;
    }

    /// Short text that can be shown on a terminal.
    std::string text(const std::string& name) const {
        const Json& value = get(name);
        if (value.kind != Json::Kind::text || !is_printable(value.text)) wrong(name, "short, printable text");
        return value.text;
    }

    std::string one_of(const std::string& name, const std::vector<std::string>& choices) const {
        std::string value = text(name);
        std::string all;
        for (const std::string& choice : choices) {
            if (value == choice) return value;
            all += (all.empty() ? "" : ", ") + choice;
        }
        wrong(name, "one of " + all);
    }

    std::string sha256(const std::string& name) const {
        std::string value = text(name);
        if (!is_sha256(value)) wrong(name, "a SHA-256");
        return value;
    }

    std::vector<std::string> texts(const std::string& name) const {
        std::vector<std::string> all;
        for (const Json& item : list(name, 100)) {
            if (item.kind != Json::Kind::text || !is_printable(item.text)) wrong(name, "a list of short texts");
            all.push_back(item.text);
        }
        return all;
    }

    bool boolean(const std::string& name) const {
        if (get(name).kind != Json::Kind::boolean) wrong(name, "true or false");
        return get(name).boolean;
    }

    /// At most so many numbers.
    std::vector<double> numbers(const std::string& name, std::size_t most) const {
        std::vector<double> all;
        for (const Json& item : list(name, most)) {
            if (item.kind != Json::Kind::integer && item.kind != Json::Kind::number) wrong(name, "a list of numbers");
            all.push_back(item.number);
        }
        return all;
    }

    /// At most so many sizes.
    std::vector<std::int64_t> sizes(const std::string& name, std::size_t most) const {
        std::vector<std::int64_t> all;
        for (const Json& item : list(name, most)) {
            if (item.kind != Json::Kind::integer || item.integer < 0 || item.integer > max_whole) {
                wrong(name, "a list of sizes");
            }
            all.push_back(item.integer);
        }
        return all;
    }

    Fields fields(const std::string& name) const { return Fields(get(name), name); }

    std::optional<Fields> fields_or_none(const std::string& name) const {
        if (is_null(name)) return std::nullopt;
        return fields(name);
    }

    std::vector<Fields> rows(const std::string& name) const {
        std::vector<Fields> all;
        for (const Json& item : list(name, 10000)) {
            all.emplace_back(item, name + "[" + std::to_string(all.size()) + "]");
        }
        return all;
    }

private:
    const std::vector<Json>& list(const std::string& name, std::size_t most) const {
        const Json& value = get(name);
        if (value.kind != Json::Kind::list || value.items.size() > most) wrong(name, "a list");
        return value.items;
    }

    [[noreturn]] void wrong(const std::string& name, const std::string& wanted) const {
        const Json& value = get(name);
        std::string found = "something else";
        if (value.kind == Json::Kind::integer) found = std::to_string(value.integer);
        if (value.kind == Json::Kind::null) found = "null";
        if (value.kind == Json::Kind::text && is_printable(value.text)) {
            found = "'" + detail::beginning(value.text, 60) + "'";
        }
        throw FormatError(name + " of " + where_ + " is " + found + ", not " + wanted);
    }

    const Json* json_;
    std::string where_;
};

}  // namespace vidtok
