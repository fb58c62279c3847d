"""Finds and reads text files. Used by the workflow, and by the command before it starts anything."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tailplane.protocol.errors import RequestError

SUFFIXES = frozenset({".md", ".markdown", ".rst", ".txt", ".adoc", ".org", ".py"})
NAMES = frozenset({"README", "LICENSE", "CHANGELOG", "CONTRIBUTING", "AUTHORS", "NOTICE", "COPYING"})
MAX_SIZE_BYTES = 4 * 1024 * 1024

# Other people's files and machines' files: nobody means them by "the text files in this folder".
_PASSED_BY = frozenset({"node_modules", "__pycache__", "site-packages", "dist", "build", "target", "venv"})
_MAX_LOOKED_AT = 200_000


class NoDocuments(RequestError):
    """There is nothing to analyse at that place."""

    code = "no_documents"
    title = "There is nothing to analyse"


class Unreadable(Exception):
    """The file is not text, too big, or may not be read; the message says which."""


@dataclass(frozen=True, slots=True)
class Documents:
    """The text files of a folder, in the order of their names, code last."""

    root: Path
    paths: list[Path]
    left_out: int


def find_documents(folder: Path, max_files: int) -> Documents:
    """Return the text files in and below `folder`, at most `max_files`; or the one file that `folder` is.

    Hidden folders, virtual environments and build products are passed by.

    Raises:
        NoDocuments: no such place, no text in it, or not a text file.
    """
    if folder.is_file():
        if not _is_document(folder):
            raise NoDocuments(f"{folder} is not a text file", hint=_HINT)
        return Documents(folder.parent, [folder], 0)
    if not folder.exists():
        raise NoDocuments(f"there is no folder {folder}")
    others = 0
    found = []
    for looked_at, path in enumerate(_walk(folder)):
        if looked_at >= _MAX_LOOKED_AT:
            break
        if _is_document(path):
            found.append(path)
        else:
            others += 1
    if not found:
        what = f"none of its {others} files is one" if others else "it is empty"
        raise NoDocuments(f"there are no text files in {folder}: {what}", hint=_HINT)
    # What was written to be read first: code has its comments only.
    found.sort(key=lambda path: path.suffix == ".py")
    return Documents(folder, found[:max_files], max(0, len(found) - max_files))


def read_text(path: Path) -> str:
    """Return a file's text: UTF-8, or what else it declares itself to be; Latin-1 as the last resort.

    Raises:
        Unreadable: it is binary, bigger than `MAX_SIZE_BYTES`, or may not be read.
    """
    try:
        if path.stat().st_size > MAX_SIZE_BYTES:
            raise Unreadable(f"larger than {MAX_SIZE_BYTES // 1024**2} MiB")
        raw = path.read_bytes()
    except OSError as error:
        raise Unreadable(error.strerror or "can't be read") from None
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", errors="replace")
    if b"\0" in raw:
        raise Unreadable("binary")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


_HINT = f"looked for {' '.join(sorted(SUFFIXES))} and for files such as README"


def _is_document(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES or path.name in NAMES


def _walk(folder: Path) -> Iterator[Path]:
    for directory, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _passed_by(Path(directory, name)))
        for name in sorted(files):
            path = Path(directory, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _passed_by(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.name in _PASSED_BY or (folder / "pyvenv.cfg").exists()
