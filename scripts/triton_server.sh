#!/usr/bin/env bash
# Triton Inference Server with its Python backend into build/triton, a virtual environment with the package
# nvidia-pytriton, and a command build/triton/tritonserver that starts it. Models find there what $PYTHON has, too.
set -euo pipefail
cd "$(dirname "$0")/.."
out="$PWD/build/triton"
python="${PYTHON:-python}"
ask() { "$python" -c "import sys, sysconfig; print($1)"; }
version="$(ask '"%d.%d" % sys.version_info[:2]')"

rm -rf "$out"
"$python" -m venv --without-pip "$out"
# Its process for models was built for the NumPy before 2: under another one, outputs come back empty.
"$python" -m pip --python "$out/bin/python" install -q --no-deps nvidia-pytriton==0.7.0 numpy==1.26.4
packages="$out/lib/python$version/site-packages"
echo "import site; site.addsitedir('$(ask 'sysconfig.get_path("purelib")')')" > "$packages/models.pth"
server="$packages/pytriton/tritonserver"
cp "$server/python_backend_stubs/$version/triton_python_backend_stub" "$server/backends/python/" || {
    echo "nvidia-pytriton runs no models on Python $version; name another one: PYTHON=python3.12 $0" >&2
    exit 1
}
cat > "$out/tritonserver" <<EOF
#!/bin/sh
# Models run on the libpython that is found first, in the virtual environment whose python is found first.
PATH="$out/bin:\$PATH"
LD_LIBRARY_PATH="$(ask 'sysconfig.get_config_var("LIBDIR")')\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
export PATH LD_LIBRARY_PATH
exec "$server/bin/tritonserver" --backend-directory "$server/backends" "\$@"
EOF
chmod +x "$out/tritonserver"
echo "$out/tritonserver"
