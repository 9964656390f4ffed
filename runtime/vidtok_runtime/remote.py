"""Files anywhere that fsspec reaches (s3://, gs://, hf://, https://, memory://), under the names that paths have.

Credentials, endpoints and time-outs are fsspec's own: https://filesystem-spec.readthedocs.io/en/latest/features.html
"""

from __future__ import annotations

import errno
import io
import posixpath
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

# Addresses that FFmpeg opens itself where a source is named; as a RemotePath, https:// is read by ranges.
FFMPEG_SCHEMES = {"gopher", "http", "https", "icecast", "mmsh", "mmst", "rtmp", "rtmpe", "rtmps", "rtmpt", "rtp"}
FFMPEG_SCHEMES |= {"rtsp", "rtsps", "srt", "srtp", "tcp", "tls", "udp"}
_PLAIN_SCHEMES = {"file", "local"}
# Stores where an object appears when it is complete. Elsewhere a part would be seen under the final name.
_WHOLE_OBJECTS = {"abfs", "abfss", "az", "gcs", "gs", "hf", "memory", "s3", "s3a"}
_BUCKETS = {"gcs", "gs", "s3", "s3a"}  # the first name is that of something which must be there already
_PIECE = 16 << 20  # bytes of a file that is sent in pieces; stores take 10,000 of them
# How a file is read: sixteen blocks are kept, or what was asked for and a little more.
_AHEAD: dict[str, Any] = {"block_size": 1 << 18, "cache_type": "background", "cache_options": {"maxblocks": 16}}
_PIECEMEAL: dict[str, Any] = {"block_size": 1 << 14, "cache_type": "bytes"}
_EXTRA = {"aiohttp", "fsspec", "s3fs"}
_AT_ONCE = 16  # small files read at the same time
_LONGEST = 200  # letters of what a library says
_PART = re.compile(r"subfile,,start,(\d+),end,(\d+),,:(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, order=True)
class RemotePath:
    """A file or folder by its URL, or `size` bytes from `offset` on of a file. Its methods raise OSError, in words.

    Members of the same name do what those of pathlib.Path do. `file://` is a part of a file of this machine.
    """

    url: str
    offset: int = 0
    size: int | None = None

    def __str__(self) -> str:
        return self.url if self.size is None else part_url(self.url, self.offset, self.size)

    @classmethod
    def parse(cls, text: str) -> RemotePath:
        """Inverse of `str`."""
        found = _PART.fullmatch(text)
        return cls(found[3], int(found[1]), int(found[2]) - int(found[1])) if found else cls(text)

    @property
    def scheme(self) -> str:
        """`s3` of `s3://bucket/key`."""
        return self.url.partition("://")[0].lower()

    @property
    def path(self) -> PurePosixPath:
        """Bucket or host, folders and name, without the query."""
        return PurePosixPath(self._halves[0])

    @property
    def query(self) -> str:
        """What a signed address says behind a question mark."""
        return self._halves[1]

    @property
    def _halves(self) -> tuple[str, str]:
        """What is behind `://` in front of the question mark of an address, and behind it."""
        path = self.url.partition("://")[2]
        before, _, behind = path.partition("?") if self.scheme in ("http", "https") else (path, "", "")
        return before, behind

    @property
    def public(self) -> PurePosixPath:
        """The path without user and password, which may stand in front of a host and not of a bucket."""
        first, slash, rest = self._halves[0].partition("/")
        return self.path if self.scheme in _WHOLE_OBJECTS else PurePosixPath(first.rpartition("@")[2] + slash + rest)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def stem(self) -> str:
        return self.path.stem

    @property
    def suffix(self) -> str:
        return self.path.suffix

    @property
    def parent(self) -> RemotePath:
        return RemotePath(f"{self.scheme}://{self.path.parent}")

    def __truediv__(self, name: str | PurePosixPath) -> RemotePath:
        return RemotePath(f"{self.url.rstrip('/')}/{name}" if str(name) else self.url)

    def with_name(self, name: str) -> RemotePath:
        return self.parent / name

    def with_suffix(self, suffix: str) -> RemotePath:
        return self.parent / self.path.with_suffix(suffix).name

    def absolute(self) -> RemotePath:
        return self

    def without_dots(self) -> RemotePath:
        """The same without `.` and `..`; one whose `..` lead out of its host or bucket stays as it is."""
        path, query = self._halves
        names, plain = path.split("/"), posixpath.normpath(path)
        if {".", ".."}.isdisjoint(names) or plain.split("/")[0] != names[0]:
            return self
        return RemotePath(f"{self.scheme}://{plain}" + (f"?{query}" if query else ""))

    def is_relative_to(self, folder: RemotePath) -> bool:
        return self.scheme == folder.scheme and self.path.is_relative_to(folder.path)

    def relative_to(self, folder: RemotePath) -> PurePosixPath:
        return self.path.relative_to(folder.path)

    def length(self) -> int | None:
        """Bytes, None where no file is there or the store does not say how long it is."""
        if self.size is not None:
            return self.size
        with self._system() as (system, path):
            try:
                found = system.info(path)
            except FileNotFoundError:
                return None
            return found["size"] if found["type"] == "file" else None

    def is_file(self) -> bool:
        with self._system() as (system, path):
            return bool(system.isfile(path))

    def is_dir(self) -> bool:
        with self._system() as (system, path):
            return bool(system.isdir(path))

    def files(self) -> dict[RemotePath, int]:
        """All files below, in order, with their bytes."""
        with self._system() as (system, path):
            found = system.find(path, detail=True)
        top = str(path).rstrip("/")
        inside = {
            name: facts for name, facts in found.items() if name.startswith(f"{top}/") and facts["type"] == "file"
        }
        return {self / name[len(top) + 1 :]: int(inside[name]["size"] or 0) for name in sorted(inside)}

    def open(self, mode: str = "rb", *, ahead: bool = True) -> io.BufferedReader:
        """For reading, in ranges as they are asked for; ahead: the next one is fetched meanwhile."""
        assert mode == "rb"
        with self._system() as (system, path):
            file = system.open(path, "rb", **(_AHEAD if ahead else _PIECEMEAL))
        return io.BufferedReader(_Remote(self, file), 1 << 16)

    def read_bytes(self) -> bytes:
        return self.read_range(0, self.size)

    def read_range(self, start: int, stop: int | None) -> bytes:
        """So many bytes of the file, in one request; fewer where it ends earlier."""
        with self._system() as (system, path):
            end = None if stop is None else self.offset + stop
            return bytes(system.cat_file(path, start=self.offset + start, end=end))

    def check_target(self) -> None:
        """Raise OSError where nothing can be written here."""
        if self.scheme not in _WHOLE_OBJECTS:
            raise OSError(
                errno.EROFS, f"outputs go to stores whose objects appear when complete ({_listed(_WHOLE_OBJECTS)})"
            )
        if self.scheme in _BUCKETS:
            with self._system() as (system, path):
                bucket = str(path).partition("/")[0]
                if not system.exists(bucket):
                    system.ls(bucket)  # says so where access is denied
                    raise FileNotFoundError(errno.ENOENT, "the specified bucket does not exist; create it first")

    def write_bytes(self, content: bytes, *, force: bool = True) -> None:
        """Make the object of these bytes; raises FileExistsError where it is there already, without `force`."""
        with self._system() as (system, path):
            system.pipe_file(path, content, mode="overwrite" if force else "create")

    def send(self, file: Path, *, force: bool = True) -> None:
        """Make the object of a file, as `write_bytes` does, in pieces that are nothing until the last one is there."""
        chunks = {"chunksize": _PIECE} if self.scheme in _BUCKETS else {}
        with self._system() as (system, path):
            system.put_file(str(file), path, mode="overwrite" if force else "create", **chunks)

    def unlink(self, missing_ok: bool = False) -> None:
        with self._system() as (system, path):
            try:
                system.rm_file(path)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    @contextmanager
    def _system(self) -> Iterator[tuple[Any, str]]:
        """The file system and what it calls this path, with its errors in words meanwhile."""
        with self.in_words():
            if self.scheme == "file":
                yield _ThisMachine, self.url.removeprefix("file://")
                return
            from fsspec.core import url_to_fs

            # What others write meanwhile is to be seen, so no listing is kept. Schemes are known by small letters.
            yield url_to_fs(f"{self.scheme}{self.url[len(self.scheme) :]}", use_listings_cache=False)

    @contextmanager
    def in_words(self) -> Iterator[None]:
        """Turn what a library raises into an OSError whose `strerror` is a line for the user."""
        try:
            yield
        except ImportError as error:
            found = re.search(r"nstall ([\w.-]+)", str(error))
            library = error.name or (found[1] if found else "aiohttp")  # as fsspec says it, or not, of https://
            what = "'vidtok-onnx[remote]'" if library in _EXTRA else library
            raise OSError(errno.ENOPKG, f"{self.scheme}:// needs {library}; pip install {what}") from error
        except FileExistsError as error:
            raise FileExistsError(errno.EEXIST, "it exists already") from error
        except FileNotFoundError as error:
            said = _said(error)
            raise FileNotFoundError(errno.ENOENT, said if " " in said else "it is not there") from error
        except PermissionError as error:
            raise PermissionError(
                errno.EACCES, f"access is denied ({_said(error)}); check the credentials and what they allow"
            ) from error
        except Exception as error:  # of any store's library
            name = type(error).__name__
            cure = "; check the network and the endpoint" if "Connect" in name or "Timeout" in name else ""
            cure = "; give them as the store's library takes them" if "Credentials" in name else cure
            raise OSError(errno.EIO, f"{_said(error)}{cure}") from error


class _ThisMachine:
    """What is asked of parts of files of this machine, as members of a tar file are, without fsspec."""

    @staticmethod
    def open(path: str, mode: str, **_: object) -> IO[bytes]:
        return cast(IO[bytes], Path(path).open(mode))

    @staticmethod
    def isfile(path: str) -> bool:
        return Path(path).is_file()


class _Remote(io.RawIOBase):
    """An open file of a store, or a part of it; errors are in words."""

    def __init__(self, path: RemotePath, file: IO[bytes]) -> None:
        self._path, self._inner, self._at = path, file, 0
        self._moves = file.seekable()
        if path.offset:
            self._inner.seek(path.offset)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._moves

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with self._path.in_words():
            if whence == io.SEEK_END:
                end = self._path.size
                offset += self._inner.seek(0, io.SEEK_END) - self._path.offset if end is None else end
            elif whence == io.SEEK_CUR:
                offset += self._at
            self._at = self._inner.seek(self._path.offset + max(0, offset)) - self._path.offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        size = self._path.size
        wanted = len(buffer) if size is None else max(0, min(len(buffer), size - self._at))
        with self._path.in_words():
            content = self._inner.read(wanted)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()


Place = Path | RemotePath


def is_remote(name: str) -> bool:
    """Whether a name is a URL that fsspec is to open, not FFmpeg and not this machine."""
    scheme, mark, _ = name.rpartition(",,:")[2].partition("://")
    return bool(mark) and "/" not in scheme and scheme.lower() not in FFMPEG_SCHEMES | _PLAIN_SCHEMES


def place_of(name: str | PathLike[str] | RemotePath) -> Place:
    """The path that a name or URL means; `http://` and `https://`, too, are read by ranges then."""
    if isinstance(name, RemotePath):
        return name
    text = fspath(name)
    remote = RemotePath.parse(text)
    if is_remote(remote.url) or remote.scheme in ("http", "https") or remote.size is not None:
        return remote
    return Path(text.removeprefix("file://"))


def unavailable_store(scheme: str) -> str | None:
    """Why no file of a store can be opened here, with the cure; None where its library is there."""
    try:
        with RemotePath(f"{scheme}://").in_words():
            from fsspec import get_filesystem_class

            get_filesystem_class(scheme)
    except OSError as error:
        return error.strerror
    return None


def part_url(url: str, offset: int, size: int) -> str:
    """`size` bytes of a file from `offset` on, as FFmpeg names them."""
    return f"subfile,,start,{offset},end,{offset + size},,:{url}"


def read_all(paths: list[RemotePath]) -> list[bytes]:
    """The content of many small files, some at a time."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(RemotePath.read_bytes, paths))


def _said(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(text).splitlines()[0][:_LONGEST]


def _listed(schemes: set[str]) -> str:
    return " ".join(f"{scheme}://" for scheme in sorted(schemes))
