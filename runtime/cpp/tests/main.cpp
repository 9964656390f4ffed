// The tests of the C++ library as one program: `vidtok_tests conformance|refusals|tiles|plans|writer|streams ...`.
#include <cstdio>
#include <exception>

#include "programs.hpp"

int main(int argc, char** argv) {
    const Words words(argv + 1, argv + argc);
    const std::string name = words.empty() ? "" : words[0];
    const auto program = name == "conformance" ? conformance
                         : name == "refusals"  ? refusals
                         : name == "tiles"     ? tiles
                         : name == "plans"     ? plans
                         : name == "writer"    ? writer
                         : name == "streams"   ? streams
                                               : nullptr;
    if (program == nullptr) {
        std::fprintf(stderr, "vidtok_tests: conformance, refusals, tiles, plans, writer or streams; see their sources\n");
        return 2;
    }
    try {
        return program({words.begin() + 1, words.end()});
    } catch (const std::exception& error) {
        std::fprintf(stderr, "vidtok_tests: %s\n", error.what());
        return 2;
    }
}
