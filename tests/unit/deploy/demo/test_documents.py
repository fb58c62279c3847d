import os
from pathlib import Path

import pytest

from tailplane.deploy.demo.documents import MAX_SIZE_BYTES, NoDocuments, Unreadable, find_documents, read_text


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("text")


def found(root: Path, max_files: int = 100) -> list[str]:
    return [str(path.relative_to(root)) for path in find_documents(root, max_files).paths]


def test_text_files_are_found_in_order_and_below_and_code_last(tmp_path: Path) -> None:
    write(tmp_path, "b.md", "a.txt", "sub/c.rst", "code.py", "README", "x.png", "y")
    assert found(tmp_path) == ["README", "a.txt", "b.md", "sub/c.rst", "code.py"]


def test_what_is_not_the_users_own_is_passed_by(tmp_path: Path) -> None:
    write(tmp_path, "a.md", ".git/b.md", "node_modules/c.md", "env/pyvenv.cfg", "env/lib/d.py", ".hidden.md")
    assert found(tmp_path) == ["a.md"]


def test_a_folder_that_is_itself_hidden_is_read(tmp_path: Path) -> None:
    write(tmp_path / ".notes", "a.md")
    assert found(tmp_path / ".notes") == ["a.md"]


def test_files_over_the_limit_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "b.md", "c.md")
    documents = find_documents(tmp_path, 2)
    assert (len(documents.paths), documents.left_out) == (2, 1)


def test_one_file_will_do(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    documents = find_documents(tmp_path / "a.md", 1)
    assert (documents.root, documents.paths) == (tmp_path, [tmp_path / "a.md"])


def test_a_link_to_nowhere_is_passed_by(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    (tmp_path / "b.md").symlink_to(tmp_path / "gone")
    assert found(tmp_path) == ["a.md"]


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    (tmp_path / "again").symlink_to(tmp_path)
    assert found(tmp_path) == ["a.md"]


def test_nothing_to_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(NoDocuments, match="it is empty"):
        find_documents(tmp_path, 1)
    (tmp_path / "x.bin").write_bytes(b"\0")
    with pytest.raises(NoDocuments, match="none of its 1 files"):
        find_documents(tmp_path, 1)
    with pytest.raises(NoDocuments, match="there is no folder"):
        find_documents(tmp_path / "no", 1)
    with pytest.raises(NoDocuments, match="not a text file"):
        find_documents(tmp_path / "x.bin", 1)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("grün".encode(), "grün"),
        ("grün".encode("utf-8-sig"), "grün"),
        ("grün".encode("utf-16"), "grün"),
        ("grün".encode("latin-1"), "grün"),
        (b"", ""),
    ],
)
def test_text_is_read_in_its_encoding(tmp_path: Path, raw: bytes, text: str) -> None:
    (tmp_path / "a.txt").write_bytes(raw)
    assert read_text(tmp_path / "a.txt") == text


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(Unreadable, match="No such file"):
        read_text(path)
    path.write_bytes(b"PNG\0\0")
    with pytest.raises(Unreadable, match="binary"):
        read_text(path)
    os.truncate(path, MAX_SIZE_BYTES + 1)
    with pytest.raises(Unreadable, match="larger than 4 MiB"):
        read_text(path)
