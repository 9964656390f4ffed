// What `vidtok_tests` can do, each with the words behind its name; gives the exit code.
#pragma once

#include <string>
#include <vector>

using Words = std::vector<std::string>;

int conformance(const Words& words);
int refusals(const Words& words);
int tiles(const Words& words);
int plans(const Words& words);
int writer(const Words& words);
int streams(const Words& words);
