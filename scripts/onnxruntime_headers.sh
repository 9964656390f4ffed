#!/usr/bin/env bash
# ONNX Runtime's C and C++ headers, which its Python package lacks, into runtime/cpp/build/onnxruntime: out of Debian 13's
# package, whichever Debian this is. Nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
out="$PWD/runtime/cpp/build/onnxruntime"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

mkdir -p "$work"/{lists/partial,cache/archives/partial}
# This machine's first source, of the newer release.
sed -E '/^$/,$d; s/^Suites: .*/Suites: trixie/' /etc/apt/sources.list.d/debian.sources > "$work/debian.sources"
options=(-o "Dir::Etc::sourcelist=$work/debian.sources" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
apt-get "${options[@]}" update -qq
(cd "$work" && apt-get "${options[@]}" download -qq libonnxruntime-dev)
mkdir -p "$out"
dpkg -x "$work"/libonnxruntime-dev_*.deb "$out"
