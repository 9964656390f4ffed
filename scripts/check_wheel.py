"""Build the wheel, install it where torch is not installed, and run its main job and the browser page's server there.

python scripts/check_wheel.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Fail with the failing command's exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT], check=True, stdout=2)
        (wheel,) = folder.glob("*.whl")
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv/bin/python"
        pip = [python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", f"{wheel}[cpu]"]
        subprocess.run(pip, check=True)
        without_torch = "import importlib.util as u; assert not u.find_spec('torch') and not u.find_spec('onnx')"
        subprocess.run([python, "-c", without_torch], check=True, cwd=folder)
        for bundle in ("tiny-kl-16chn", "tiny-fsq-32768"):
            command = [folder / "venv/bin/vidtok-run", "demo", "--quiet", "--provider", "cpu", "--bundle", bundle]
            subprocess.run([*command, "--out", bundle], check=True, cwd=folder)
        engine = check_page(python, folder)
        print(f"wheel: {wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB, runs without torch; {engine}")


def check_page(python: Path, folder: Path) -> str:
    """Whether the page's engine is inside, as it must be where npm has put it; without it the error says how to get it.

    Raises RuntimeError where the wheel has less than it should.
    """
    ask = "from vidtok_runtime.tools.web_server import site; print(len(site()), 'files for the browser page')"
    result = subprocess.run([python, "-c", ask], cwd=folder, capture_output=True, text=True)
    if result.returncode == 0:
        return result.stdout.strip()
    if (ROOT / "runtime/web/node_modules/onnxruntime-web/dist").is_dir() or "npm install" not in result.stderr:
        raise RuntimeError(f"the browser page is not whole: {result.stderr}")
    return "browser page without its engine"


if __name__ == "__main__":
    main()
