from pathlib import Path

import pytest

from tailplane.deploy.targets import source_of


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "flows.py").write_text("raise RuntimeError('must not run')")
    (tmp_path / "shop" / "deep").mkdir(parents=True)
    for name in ("__init__.py", "orders.py"):
        (tmp_path / "shop" / name).write_text("raise RuntimeError('must not run')")
    return tmp_path


@pytest.mark.parametrize(
    ("target", "places"),
    [
        ("flows", [""]),
        ("flows:main", [""]),
        ("flows.py", [""]),
        ("./flows.py:main", [""]),
        ("shop/orders.py", ["shop"]),
        ("shop.orders:main", ["shop"]),
        ("shop", ["shop"]),
        ("no_such_module", []),
        ("no_such_file.py", []),
        ("", []),
        ("a b:c", []),
    ],
)
def test_the_source_is_found_and_not_run(project: Path, target: str, places: list[str]) -> None:
    assert source_of(target, project) == [(project / place).resolve() for place in places]


def test_an_installed_module_is_found() -> None:
    assert source_of("tailplane.deploy.demo.analysis", Path("/"))


def test_a_builtin_module_has_no_source(project: Path) -> None:
    assert source_of("sys", project) == [] or source_of("sys", project)[0].is_dir()
