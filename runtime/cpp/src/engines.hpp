// The engines that were built in, by name.
#pragma once

#include <vidtok/session.hpp>

/// Providers that were built in, the default first.
std::vector<std::string> built_in();

/// An engine by the name of its provider; threads 0: all. Throws vidtok::ProviderError when it is not built in.
vidtok::Engine make_engine(const std::string& provider, std::size_t threads);
