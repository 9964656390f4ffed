// Judges every case of refusals.json: `refusals KIT [refusals.json]` prints the cases whose verdict is another.
#include <vidtok/token_reader.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "programs.hpp"

namespace judging {

namespace {

using vidtok::Fields;
using vidtok::fs::path;

constexpr std::size_t max_bytes = std::size_t{1} << 30;

/// Text of any length and content.
const std::string& text(const Fields& one, const std::string& name) { return one.get(name).text; }

std::size_t number_or(const Fields& one, const std::string& name, std::size_t otherwise) {
    return one.has(name) ? static_cast<std::size_t>(one.integer(name, 0, vidtok::max_whole)) : otherwise;
}

std::string from_hex(const std::string& digits) {
    std::string bytes;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
        bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
    }
    return bytes;
}

void apply(const Fields& edit, std::string& content) {
    const std::string part = edit.has("hex") ? from_hex(text(edit, "hex")) : text(edit, "with");
    std::string all;
    for (std::size_t i = number_or(edit, "times", 1); i > 0; --i) all += part;
    std::size_t at = number_or(edit, "at", content.size()), size = number_or(edit, "delete", 0);
    if (edit.has("replace")) {
        at = content.find(text(edit, "replace"));
        size = text(edit, "replace").size();
    }
    if (at > content.size()) throw vidtok::FormatError("an edit does not fit");
    content.replace(at, size, all);
}

std::string content_of(const path& file, const Fields& one) {
    std::string content = vidtok::read_whole(file, max_bytes), data;
    const bool header = one.has("part") && one.text("part") == "header";
    if (header) {
        const auto room = static_cast<unsigned char>(content[0]) + std::size_t{256} * static_cast<unsigned char>(content[1]);
        data = content.substr(8 + room);
        content = content.substr(8, room);
    }
    for (const Fields& edit : one.rows("edits")) apply(edit, content);
    if (!header) return content;
    std::string prefix;
    for (int i = 0; i < 8; ++i) prefix += static_cast<char>(content.size() >> (8 * i) & 0xFF);
    return prefix + content + data;
}

/// What the readers say against a file; nothing when they take it. bundle: where a graph is from.
std::optional<std::string> refused(const path& file, const path& bundle) {
    try {
        if (file.extension() == ".json") {
            vidtok::read_manifest(file.parent_path());
        } else if (file.extension() == ".onnx") {
            vidtok::WeightsSizes known;
            for (const auto& weights : vidtok::read_manifest(bundle).weights_files) known[weights.file] = weights.size;
            vidtok::check_onnx_file(file, known);
        } else {
            const vidtok::TokenReader reader(file);
            reader.verify();
            reader.pts();
            reader.read(0, reader.count());
        }
    } catch (const vidtok::Error& error) {
        return error.what();
    }
    return std::nullopt;
}

bool judge(const path& kit, const path& work, const Fields& one) {
    const std::string name = text(one, "file");
    const path target = work / name;
    if (!vidtok::fs::exists(target.parent_path())) {
        vidtok::fs::create_directories(target.parent_path());
        vidtok::fs::copy((kit / name).parent_path(), target.parent_path());
    }
    const std::string content = content_of(kit / name, one);
    std::ofstream file(target, std::ios::binary);
    file.write(content.data(), static_cast<std::streamsize>(content.size()));
    file.close();
    if (!file) {
        throw vidtok::OutputError(vidtok::detail::text_of(target) + " cannot be written");
    }
    const std::optional<std::string> found = refused(target, (kit / name).parent_path());
    if (found.has_value() == (one.text("verdict") == "refuse")) return true;
    std::printf("%s: %s, must be: %s (%s)\n", text(one, "name").c_str(), found ? found->c_str() : "accept",
                one.text("verdict").c_str(), text(one, "why").c_str());
    return false;
}

}  // namespace

}  // namespace judging

int refusals(const Words& words) {
    if (words.empty()) throw vidtok::InputError("give the folder of the conformance kit, and perhaps a refusals.json");
    const vidtok::fs::path kit = words[0], file = words.size() > 1 ? vidtok::fs::path(words[1]) : kit / "refusals.json";
    const vidtok::Json json = vidtok::parse_json(vidtok::read_whole(file, judging::max_bytes));
    const vidtok::Fields all(json, "the file");
    if (all.text("format") != "vidtok-refusals" || all.integer("version", 0, 1000) != 1) {
        throw vidtok::InputError(vidtok::detail::text_of(file) + " has no refusals of version 1");
    }
    const vidtok::fs::path work =
        vidtok::fs::temp_directory_path() / ("vidtok-refusals-" + vidtok::detail::process_id());
    int wrong = 0;
    const std::vector<vidtok::Fields> cases = all.rows("cases");
    for (const vidtok::Fields& one : cases) wrong += !judging::judge(kit, work, one);
    vidtok::fs::remove_all(work);
    std::printf("%d of %zu differ\n", wrong, cases.size());
    return wrong ? 1 : 0;
}
