"""The rooms of the code: modules, packages, imports between packages, and circles.

python scripts/rooms.py            # of this checkout
python scripts/rooms.py --arrows   # every import from one package into another, too
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "vidtok_runtime": ROOT / "runtime/vidtok_runtime",
    "vidtok_ref": ROOT / "vidtok_ref",
    "vidtok_export": ROOT / "export/vidtok_export",
}


def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name; a package is named as its folder."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: Iterable[str]) -> set[str]:
    """The project's modules that one module imports, anywhere in it; those for annotations alone do not count."""
    known = set(known)
    found = set()
    tree = ast.parse(path.read_text(), path)
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & known
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found |= {inner if inner in known else node.module} & known
    return found - {name}


def graph() -> dict[str, set[str]]:
    """What each module imports."""
    found = modules()
    return {name: imports(name, path, found) for name, path in found.items()}


def room(module: str) -> str:
    """The package below the top one that a module is in; a module of the top one stands for itself."""
    return ".".join(module.split(".")[:2])


def circle(arrows: Mapping[str, Iterable[str]]) -> list[str]:
    """Nodes of a circle, the first again at the end; empty where there is none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        nodes: list[str] = error.args[1]
        return nodes
    return []


def between_rooms(arrows: Mapping[str, Iterable[str]]) -> Counter[tuple[str, str]]:
    """How many imports lead from one room into another."""
    return Counter((room(a), room(b)) for a, targets in arrows.items() for b in targets if room(a) != room(b))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arrows", action="store_true", help="list imports between rooms")
    options = parser.parse_args()
    arrows = graph()
    for package in PACKAGES:
        inside = {a: {b for b in found if b.split(".")[0] == package} for a, found in arrows.items()}
        inside = {a: found for a, found in inside.items() if a.split(".")[0] == package}
        crossing = between_rooms(inside)
        rooms = {room(a) for a in inside}
        of_rooms = {a: {d for c, d in crossing if c == a} for a in rooms}
        print(
            f"{package}: {len(inside)} modules in {len(rooms)} rooms; {sum(map(len, inside.values()))} imports, "
            f"{crossing.total()} between rooms, {len(crossing)} pairs of rooms; "
            f"circle of files: {' -> '.join(circle(inside)) or 'none'}; "
            f"circle of rooms: {' -> '.join(circle(of_rooms)) or 'none'}"
        )
        if options.arrows:
            for (a, b), count in sorted(crossing.items()):
                print(f"  {a} -> {b}: {count}")


if __name__ == "__main__":
    main()
