from pathlib import Path

import pytest

from tailplane.deploy.targets import check_target, home_of, source_of
from tailplane.workers import TargetNotFound


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


@pytest.mark.parametrize("target", ["flows", "flows.py:main", "shop/orders.py", "shop.orders:main", "bare"])
def test_a_target_that_is_there_passes_and_is_not_run(project: Path, target: str) -> None:
    (project / "bare").write_text("beside a module of the same name")
    (project / "bare.py").write_text("raise RuntimeError('must not run')")
    check_target(target, project)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("no_such_file.py", "there is no file .*no_such_file.py"),
        ("no/such/file", "there is no file"),
        ("no_such_module:main", "there is no module no_such_module"),
        ("flows.txt", "flows.txt is not a .py file"),
        ("./flows.txt:main", "./flows.txt is not a .py file"),
        ("prog", "prog is not a .py file"),
    ],
)
def test_a_target_that_is_not_there_is_told_before_anything_runs(project: Path, target: str, words: str) -> None:
    for name in ("flows.txt", "prog"):
        (project / name).write_text("no Python")
    with pytest.raises(TargetNotFound, match=words):
        check_target(target, project)


def test_a_file_is_at_home_beside_itself_wherever_it_is_started_from(project: Path) -> None:
    shop = (project / "shop").resolve()
    assert home_of("shop/orders.py:main", project) == home_of("orders.py:main", shop) == (shop, "orders.py:main")
    assert home_of("shop.orders", project) == (project.resolve(), "shop.orders")
    assert home_of(None, project) == (project.resolve(), "")
