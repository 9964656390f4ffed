"""Build hook: the browser page, its module and, where npm has put them, its packages go into the wheel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WebFiles(BuildHookInterface):
    """Adds `vidtok_runtime/web`; an editable install finds these files in the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """List the files, unless the install is editable."""
        if version == "editable":
            return
        web = Path(self.root) / "runtime/web"
        inside, places = "vidtok_runtime/web", build_data["force_include"]
        for part in ("page", "src"):
            places[str(web / part)] = f"{inside}/{part}"
        for row in json.loads((web / "page/packages.json").read_bytes()).values():
            files = [Path("node_modules") / row["folder"] / name for name in row["files"]]
            if all((web / file).is_file() for file in files):
                places.update({str(web / file): f"{inside}/{file}" for file in files})
