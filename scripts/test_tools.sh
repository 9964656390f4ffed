#!/usr/bin/env bash
# What some tests need beside the Python packages; a tool that cannot be had is named, and its tests skip.
set -euo pipefail
cd "$(dirname "$0")/.."

debian() {  # a Debian package, where this is Debian and we may install
    command -v apt-get > /dev/null && apt-get install -y -qq "$1" > /dev/null 2>&1
}

(cd runtime/web && ONNXRUNTIME_NODE_INSTALL=skip npm ci --no-fund --no-audit) ||
    echo "no Node modules: the tests of the JavaScript runtime and its page skip; install Node 20 with npm"
command -v chromium > /dev/null || { apt-get update -qq 2> /dev/null && debian chromium; } ||
    echo "no Chromium: the tests of the page in a browser skip; install the package chromium"
[ -n "${ONNXRUNTIME_ROOT:-}" ] || debian libonnxruntime-dev || scripts/onnxruntime_headers.sh ||
    echo "no ONNX Runtime headers: the tests of the C API and of C++ on that engine skip; docs/cpp.md says where they are"
