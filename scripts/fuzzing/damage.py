"""Damages the bytes of a file, or replaces it by something that is not a regular file."""

import gzip
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5481\n"
WEB_PAGE = b"<!DOCTYPE html><html><head><title>404</title></head><body>Not found</body></html>\n"


def _flip(rng: Random, data: bytearray) -> str:
    place, bit = rng.randrange(len(data)), rng.randrange(8)
    data[place] ^= 1 << bit
    return f"bit {bit} of byte {place}"


def _flips(rng: Random, data: bytearray) -> str:
    number = rng.randint(2, 20)
    for _ in range(number):
        _flip(rng, data)
    return f"{number} bits"


def _set(rng: Random, data: bytearray) -> str:
    place = rng.randrange(len(data))
    data[place] = rng.choice([value for value in (0, 0xFF, 0x1B, 0x80, 0x0A, 0x22, 0x7B, 0x39) if value != data[place]])
    return f"byte {place} is {data[place]:#04x}"


def _insert(rng: Random, data: bytearray) -> str:
    place = rng.randint(0, len(data))
    added = rng.choice(
        (b"\x00", b"\xff\xfe", b"\x1b[31m", b"\r", b"\t", b"[" * 2000, b"9" * 400, b"\xc3", rng.randbytes(8))
    )
    data[place:place] = added
    return f"{added[:8]!r} put in at byte {place}"


def _cut_out(rng: Random, data: bytearray) -> str:
    place = rng.randrange(len(data))
    number = min(len(data) - place, rng.choice((1, 2, 16, 300)))
    del data[place : place + number]
    return f"{number} bytes cut out at byte {place}"


def _truncate(rng: Random, data: bytearray) -> str:
    kept = rng.choice((0, 1, 8, rng.randrange(len(data)), len(data) - 1))
    del data[min(kept, len(data) - 1) :]
    return f"cut off after {len(data)} bytes"


def _repeat(rng: Random, data: bytearray) -> str:
    place = rng.randrange(len(data))
    part = data[place : place + rng.choice((1, 16, 300))]
    data[place:place] = part
    return f"{len(part)} bytes twice at byte {place}"


def _double(rng: Random, data: bytearray) -> str:
    data.extend(bytes(data))
    return "the whole twice"


def _zeros(rng: Random, data: bytearray) -> str:
    place = rng.randrange(len(data))
    number = min(len(data) - place, rng.choice((4, 64, 512)))
    data[place : place + number] = bytes(number)
    if not number or data[place] == 0:
        data[place] ^= 1  # so that something has changed
    return f"{number} bytes zero at byte {place}"


def _append(rng: Random, data: bytearray) -> str:
    added = rng.choice((b"\n", b"\x00", b"}", b"x", rng.randbytes(64)))
    data += added
    return f"{added[:8]!r} at the end"


def _garbage(rng: Random, data: bytearray) -> str:
    data[:] = rng.randbytes(rng.choice((1, 50, 5000)))
    return f"{len(data)} random bytes"


def _other(rng: Random, data: bytearray) -> str:
    content, what = rng.choice(
        ((LFS_POINTER, "an LFS pointer"), (WEB_PAGE, "a web page"), (b"null", "null"), (b"[]", "[]"), (b"{}", "{}"),
         (b"\xef\xbb\xbf" + bytes(data), "a byte order mark first"), (gzip.compress(bytes(data), mtime=0), "gzipped"),
         (data.decode("latin-1").encode("utf-16"), "UTF-16"), (bytes(len(data)), "all zero"))
    )  # fmt: skip
    data[:] = content
    return what


DAMAGES: tuple[Callable[[Random, bytearray], str], ...] = (
    _flip, _flip, _flip, _flip, _flips, _set, _set, _insert, _cut_out, _truncate, _truncate, _repeat, _double, _zeros,
    _append, _garbage, _other,
)  # fmt: skip


def damaged(rng: Random, path: Path) -> str:
    """Change a file's bytes and return a description; a change without effect is repeated.

    A file that was linked to or shared is replaced, so that its other names keep the old bytes.
    """
    before = path.read_bytes()
    while True:
        data = bytearray(before or b"x")
        done = rng.choice(DAMAGES)(rng, data)
        if bytes(data) != before:
            break
    put(path, bytes(data))
    return f"{path.name}: {done}"


def flipped(rng: Random, path: Path) -> str:
    """Flip one bit of a file; returns a description."""
    data = bytearray(path.read_bytes())
    done = _flip(rng, data)
    put(path, bytes(data))
    return f"{path.name}: {done}"


def put(path: Path, data: bytes | str) -> None:
    """Write a file anew."""
    remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode(errors="surrogatepass"))


def remove(path: Path) -> None:
    """Remove whatever is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path may have 107 characters
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def _full_folder(path: Path) -> None:
    path.mkdir()
    (path / "file").write_text("x")


SPECIAL: dict[str, Callable[[Path], None]] = {
    "missing": lambda path: None,
    "empty": Path.touch,
    "a pipe": os.mkfifo,
    "a socket": _socket,
    "an empty folder": Path.mkdir,
    "a folder": _full_folder,
    "a terabyte of holes": _sparse,
    "/dev/zero": _link("/dev/zero"),
    "/dev/full": _link("/dev/full"),
    "/dev/urandom": _link("/dev/urandom"),
    "/dev/null": _link("/dev/null"),
    "/dev/tty": _link("/dev/tty"),
    "a link to nothing": _link("nothing"),
    "a link to itself": _link("itself"),
    "a link to its folder": _link("."),
    "/proc/self/mem": _link("/proc/self/mem"),
}
"""Things that may be in place of a file."""

HARMLESS = tuple(what for what in SPECIAL if not what.startswith("/"))
"""Things that may be in place of results; a failing command must not rename or write a device."""


def replaced(rng: Random, path: Path, among: Sequence[str] = tuple(SPECIAL)) -> str:
    """Replace a file by something else; returns a description."""
    what = rng.choice(among)
    remove(path)
    if what == "a link to itself":
        path.symlink_to(path.name)
    else:
        SPECIAL[what](path)
    return f"{path.name}: {what}"
