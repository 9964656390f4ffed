"""The opcodes of pickle that describe tensors and plain containers, carried out without pickle: nothing is run.

Names of classes and functions are compared with a list and never looked up. What a name that is not on the list stands
for is decided by each kind of archive.
"""

from __future__ import annotations

import pickletools
from typing import Any, NamedTuple

from torch import Tensor

from vidtok_ref.archives.zip_archive import DTYPES, Archive, view

_MAX_BYTES = 4 << 20  # of the description, of which one byte can become an object of a hundred


class Named(NamedTuple):
    """A class or a function, by its name only."""

    module: str
    name: str


TENSOR = Named("torch._utils", "_rebuild_tensor_v2")
DICT = Named("collections", "OrderedDict")


class Description:
    """What the opcodes of `data.pkl` build."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def content(self) -> Any:
        """All of it; raises ValueError."""
        pickled = self._archive.read("data.pkl", _MAX_BYTES)
        try:
            for opcode, argument, _ in pickletools.genops(pickled):
                self._carry_out(opcode.name, argument)
            return self._stack.pop()
        except (IndexError, KeyError) as error:
            raise ValueError("its data.pkl is damaged") from error

    def named(self, name: Named) -> Named:
        """The name, where it may be asked for."""
        return name

    def new(self, name: Named, arguments: Any) -> Any:
        """An object of a class; raises ValueError."""
        raise NotImplementedError

    def build(self, value: Any, state: Any) -> None:
        """Give an object its state; raises ValueError."""
        raise NotImplementedError

    def called(self, name: Named, arguments: Any) -> Any:
        """What a function that is not known here gives; raises ValueError."""
        raise NotImplementedError

    def holds(self, container: Any, kind: type) -> bool:
        """Whether what is put into a container is kept; raises ValueError where it is none."""
        if type(container) is not kind:
            raise ValueError(f"its data.pkl fills what is no {kind.__name__}")
        return True

    def _carry_out(self, opcode: str, argument: Any) -> None:
        push, pop = self._stack.append, self._stack.pop
        match opcode:
            case "PROTO" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                push({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE":
                push(argument)
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "BINGET" | "LONG_BINGET":
                push(self._memo[argument])
            case "MARK":
                self._marks.append(len(self._stack))
            case "EMPTY_TUPLE":
                push(())
            case "TUPLE":
                push(tuple(self._since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(reversed([pop() for _ in range(int(opcode[-1]))])))
            case "EMPTY_LIST":
                push([])
            case "APPEND":
                self._extend([pop()])
            case "APPENDS":
                self._extend(self._since_mark())
            case "EMPTY_DICT":
                push({})
            case "SETITEM":
                self._update(list(reversed([pop(), pop()])))
            case "SETITEMS":
                self._update(self._since_mark())
            case "GLOBAL":
                push(self.named(Named(*argument.split(" ", 1))))
            case "NEWOBJ":
                push(self._new(arguments=pop(), name=pop()))
            case "BUILD":
                self.build(state=pop(), value=self._stack[-1])
            case "BINPERSID":
                push(self._storage(pop()))
            case "REDUCE":
                push(self._reduced(arguments=pop(), name=pop()))
            case _:
                raise ValueError(f"its data.pkl has the opcode {opcode}, which PyTorch does not write")

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _extend(self, items: list[Any]) -> None:
        if self.holds(self._stack[-1], list):
            self._stack[-1].extend(items)

    def _update(self, items: list[Any]) -> None:
        keys, values = items[::2], items[1::2]
        if len(keys) > len(values):
            raise ValueError("its data.pkl sets items that are none of a dictionary")
        if self.holds(self._stack[-1], dict):
            # To hash what is deeply nested would need a stack as deep; no tensor lies under such a key.
            plain = ((k, v) for k, v in zip(keys, values, strict=True) if type(k) in (str, int))
            self._stack[-1].update(plain)

    def _storage(self, given: Any) -> Tensor:
        match given:
            case ("storage", Named("torch", kind), str(key), str(), int(count)) if kind in DTYPES:
                return self._archive.storage(DTYPES[kind], key, count)
        raise ValueError("its data.pkl names a storage in a way that is not known")

    def _new(self, name: Any, arguments: Any) -> Any:
        if not isinstance(name, Named):
            raise ValueError("its data.pkl makes an object of what is no class")
        return self.new(name, arguments)

    def _reduced(self, name: Any, arguments: Any) -> Any:
        if not isinstance(name, Named):
            raise ValueError("its data.pkl calls what is no function")
        if name == DICT and arguments == ():
            return {}
        if name == TENSOR:
            match arguments:
                case (Tensor() as numbers, int(offset), tuple(size), tuple(stride), bool(), dict()):
                    return view(numbers, offset, size, stride)
            raise ValueError("its data.pkl makes a tensor in a way that is not known")
        return self.called(name, arguments)
