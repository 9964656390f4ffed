"""libvidtok by ctypes, every type and function taken out of vidtok.h itself, so that the header is what is tested."""

from __future__ import annotations

import ctypes as C
import re
from pathlib import Path
from typing import Any

HEADER = Path(__file__).parents[2] / "runtime/cpp/include/vidtok.h"
FUNCTION = r"VIDTOK_API ([\w ]+?\*?) ?(vidtok_\w+)\((.*?)\);"
NUMBERS: dict[str, Any] = {
    "size_t": C.c_size_t,
    "int32_t": C.c_int32,
    "int64_t": C.c_int64,
    "uint8_t": C.c_uint8,
    "float": C.c_float,
    "vidtok_status": C.c_int32,
}


class RefusedError(Exception):
    """A status other than VIDTOK_OK, by its name, and the text of vidtok_error()."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status, self.text = status, text


class Header:
    """Statuses, structs and functions that a header declares."""

    def __init__(self, text: str) -> None:
        text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        self.statuses = {int(n): name for name, n in re.findall(r"(VIDTOK_\w+) = (\d+)", text)}
        self._types = dict(NUMBERS)
        self._handles = {b for a, b in re.findall(r"typedef struct (\w+) (\w+);", text) if a == b}
        for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\}", text, flags=re.DOTALL):
            fields = [self._split(line) for line in body.split(";") if line.strip()]
            self._types[name] = type(name, (C.Structure,), {"_fields_": fields})
        self.functions = {
            name: (self._type(result), [self._split(word)[1] for word in given.split(",") if word != "void"])
            for result, name, given in re.findall(FUNCTION, text, flags=re.DOTALL)
        }

    def _split(self, declaration: str) -> tuple[str, Any]:
        words = re.match(r"(.*?)(\w+)$", declaration.strip(), flags=re.DOTALL)
        assert words is not None, declaration
        return words[2], self._type(words[1])

    def _type(self, text: str) -> Any:
        word = " ".join(text.replace("const", " ").replace("*", " * ").split())
        if word.startswith("void"):
            return None
        if word == "char *":
            return C.c_char_p
        name, *stars = word.split()
        kind = C.c_void_p if name in self._handles else self._types[name]
        for _ in stars[1:] if name in self._handles else stars:
            kind = C.POINTER(kind)
        return kind

    def struct(self, name: str, **values: Any) -> Any:
        """A new struct; what is not named is zero."""
        return self._types[name](**values)


class Library:
    """A shared library and the functions of the header in it."""

    def __init__(self, path: Path) -> None:
        self.header = Header(HEADER.read_text())
        self._library = C.CDLL(str(path))
        for name, (result, arguments) in self.header.functions.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments

    def call(self, name: str, *arguments: Any) -> Any:
        """Call `vidtok_<name>`; raises RefusedError for a status of a failure, returns what is no status."""
        result = getattr(self._library, f"vidtok_{name}")(*arguments)
        if self.header.functions[f"vidtok_{name}"][0] is not C.c_int32:
            return result
        if result:
            raise RefusedError(self.header.statuses[result], self._library.vidtok_error().decode())
        return None

    def open(self, name: str, *arguments: Any) -> C.c_void_p:
        """A handle of `vidtok_<name>`."""
        handle = C.c_void_p()
        self.call(name, *arguments, C.byref(handle))
        return handle

    def ask(self, struct: str, name: str, *arguments: Any) -> Any:
        """The struct that `vidtok_<name>` fills."""
        out = self.header.struct(struct)
        self.call(name, *arguments, C.byref(out))
        return out
