"""The shape of the repository: imports run one way, modules stay small, the package is what the folders say."""

import ast
import itertools
import re
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fastmlp import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
MAPPED = ("kernels", "bench")  # folders here, packages of fastmlp once installed

# From the top down: a folder imports from its own layer and those below it.
LAYERS = (
    ("cli", "__main__"),
    ("experiments", "accel", "estimators", "testing", "bench"),
    ("training", "models", "report"),
    ("datasets", "extractors", "features", "augment", "network"),
    ("backends",),
    ("kernels",),
    ("ops",),
    ("common", "paper", "_version"),
)
MODULE_LINES = 400
FUNCTION_LINES = 40
SOMEBODYS_PATH = r"/(?:home|root|Users|work)/\w"
INDEX_HOST = r"(?:pypi|pythonhosted|anaconda|pytorch)\.org/"


def sources() -> dict[str, Path]:
    """Every module of the package by its installed name."""
    folders = {"fastmlp": ROOT / "fastmlp", **{f"fastmlp.{name}": ROOT / name for name in MAPPED}}
    files = ((name, folder, path) for name, folder in folders.items() for path in sorted(folder.rglob("*.py")))
    return {module_name(package, path.relative_to(folder)): path for package, folder, path in files}


def module_name(package: str, path: Path) -> str:
    parts = [part for part in path.with_suffix("").parts if part != "__init__"]
    return ".".join([package, *parts])


def all_python() -> list[Path]:
    folders = ("fastmlp", *MAPPED, "tests", "scripts")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), path.name)


# Imports.

SOURCES = sources()


def imports(name: str) -> Iterator[str]:
    """The modules of the package that a module imports anywhere in it."""
    for node in ast.walk(tree_of(SOURCES[name])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in SOURCES)
        elif isinstance(node, ast.ImportFrom) and (origin := origin_of(node, name)) in SOURCES:
            inner = (f"{origin}.{alias.name}" for alias in node.names)
            yield from (module if module in SOURCES else origin for module in inner)


def origin_of(node: ast.ImportFrom, name: str) -> str:
    """The full name of the module that a module imports from."""
    if not node.level:
        return node.module or ""
    parents = name.split(".") if SOURCES[name].name == "__init__.py" else name.split(".")[:-1]
    return ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])


def folder_of(name: str) -> str:
    """The folder, or module, of the package that a module lies in."""
    return name.split(".")[1]


def layer(name: str) -> int:
    """The place of a module, 0 at the top; the package itself, which offers the public names, stands above all."""
    if name == "fastmlp":
        return -1
    return next(place for place, names in enumerate(LAYERS) if folder_of(name) in names)


def arrows() -> Iterator[tuple[str, str]]:
    """Every import within the package: who imports whom."""
    return ((importer, imported) for importer in SOURCES for imported in imports(importer))


def assert_no_circle(pairs: Iterable[tuple[str, str]]) -> None:
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for importer, imported in pairs:
        if importer != imported:
            sorter.add(importer, imported)
    try:
        sorter.prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_every_folder_has_exactly_one_layer():
    folders = sorted({folder_of(name) for name in SOURCES if name != "fastmlp"})
    assert folders == sorted(itertools.chain(*LAYERS)), "a new folder: give it a layer"


def test_imports_run_downward():
    upward = [f"{importer} imports {imported}" for importer, imported in arrows() if layer(importer) > layer(imported)]
    assert not upward


def test_imports_make_no_circle_between_modules():
    assert_no_circle(arrows())


def test_imports_make_no_circle_between_folders():
    inner = ((importer, imported) for importer, imported in arrows() if "fastmlp" not in (importer, imported))
    assert_no_circle((folder_of(importer), folder_of(imported)) for importer, imported in inner)


def test_a_circle_is_seen():
    with pytest.raises(pytest.fail.Exception, match=r"(a|b) -> (a|b) -> (a|b)"):
        assert_no_circle([("a", "b"), ("b", "a"), ("b", "b")])


def test_the_tests_lie_in_the_same_folders():
    packages = {path.name for path in (ROOT / "fastmlp").iterdir() if (path / "__init__.py").exists()}
    tested = {path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("test_*.py")}
    assert tested == packages | {"repository", "faults", "mutations"}


def test_imports_are_absolute():
    """But in the mapped folders, which have one name here and another once installed."""
    nodes = ((path, node) for path in all_python() for node in ast.walk(tree_of(path)))
    relative = {path for path, node in nodes if isinstance(node, ast.ImportFrom) and node.level > 0}
    assert not [path for path in relative if path.relative_to(ROOT).parts[0] not in MAPPED]


# Size and care.


def test_modules_are_short():
    """All but the tests, which are read one by one."""
    paths = (path for path in all_python() if not path.is_relative_to(ROOT / "tests"))
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in paths}
    assert not {path: length for path, length in lengths.items() if length > MODULE_LINES}


def test_functions_are_short():
    functions = (
        (f"{path.relative_to(ROOT)}:{node.name}", node.end_lineno - node.lineno + 1)
        for path in all_python()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    )
    assert not {name: length for name, length in functions if length > FUNCTION_LINES}


def swallows(handler: ast.ExceptHandler) -> bool:
    """Whether a handler catches everything unnamed, or does nothing with what it caught."""
    idle = all(
        isinstance(step, ast.Pass) or (isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant))
        for step in handler.body
    )
    return handler.type is None or idle


def test_no_error_is_swallowed():
    nodes = ((path, node) for path in all_python() for node in ast.walk(tree_of(path)))
    handlers = ((path, node) for path, node in nodes if isinstance(node, ast.ExceptHandler))
    assert not [f"{path.relative_to(ROOT)}:{node.lineno}" for path, node in handlers if swallows(node)]


@pytest.mark.parametrize("body", ["except:\n raise", "except Exception:\n pass", "except ValueError:\n ..."])
def test_a_swallowed_error_is_seen(body):
    (handler,) = (node for node in ast.walk(ast.parse(f"try: f()\n{body}")) if isinstance(node, ast.ExceptHandler))
    assert swallows(handler)


# Packaging.


def test_the_packages_are_the_folders():
    assert sorted(PACKAGES) == sorted(name for name, path in SOURCES.items() if path.name == "__init__.py")


def test_every_package_outside_the_package_is_mapped():
    folders = PROJECT["tool"]["setuptools"]["package-dir"]
    outside = [name for name in PACKAGES if name.split(".")[1:2] and name.split(".")[1] in MAPPED]
    assert {name: folders.get(name) for name in outside} == {
        name: name.removeprefix("fastmlp.").replace(".", "/") for name in outside
    }


def test_every_file_beside_the_modules_is_shipped():
    beside = [name for name in tracked() if name.startswith(("fastmlp/", "kernels/", "bench/")) and is_data(name)]
    assert beside
    assert not [name for name in beside if not is_shipped(Path(name))]


def is_data(name: str) -> bool:
    """Neither a module, nor a link to a mapped folder, nor one of the benchmark's results, which stay here."""
    return not (name.endswith(".py") or (ROOT / name).is_symlink() or name.startswith("bench/results/"))


def is_shipped(path: Path) -> bool:
    """Whether a pattern of the package that the file lies in, or of all packages, names it."""
    package = next(folder for folder in path.parents if (ROOT / folder / "__init__.py").exists())
    name = ".".join(package.parts if package.parts[0] == "fastmlp" else ("fastmlp", *package.parts))
    data = PROJECT["tool"]["setuptools"]["package-data"]
    inner = path.relative_to(package)
    return any(
        fnmatch(inner.name, pattern.rpartition("/")[2]) and inner.parent == Path(pattern).parent
        for pattern in (*data["*"], *data.get(name, ()))
    )


def test_type_checkers_are_told_that_the_package_has_types():
    """An empty py.typed at its top, shipped with it, speaks for the packages below too (PEP 561)."""
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    assert any(fnmatch("py.typed", pattern) for pattern in patterns)
    assert (ROOT / "fastmlp/py.typed").read_bytes() == b""
    assert "fastmlp/py.typed" in tracked()


def test_the_package_says_what_it_is():
    project = PROJECT["project"]
    assert project["keywords"]
    assert (
        f"Programming Language :: Python :: {project['requires-python'].removeprefix('>=')}" in project["classifiers"]
    )
    assert "Typing :: Typed" in project["classifiers"]


def test_the_bench_extra_brings_what_histograms_need():
    (plugin,) = (one for one in requirements() if one.name == "pytest-benchmark" and one.extras)
    assert str(plugin) in {str(Requirement(line)) for line in PROJECT["project"]["optional-dependencies"]["bench"]}
    assert plugin.extras == {"histogram"}
    assert {"pygal", "pygaljs"} <= pins().keys()  # its requirements


def test_the_version_is_the_changelogs_newest():
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == __version__


def pins() -> dict[str, str]:
    lines = (line for line in (ROOT / "scripts/lock.txt").read_text().splitlines() if not line.startswith("#"))
    return dict(line.split("==") for line in lines if line)


def requirements() -> list[Requirement]:
    project = PROJECT["project"]
    lists = (project["dependencies"], *project["optional-dependencies"].values(), PROJECT["build-system"]["requires"])
    return [Requirement(line) for line in itertools.chain(*lists)]


def test_the_lock_has_an_exact_version_of_every_requirement():
    locked = pins()
    for requirement in requirements():
        if requirement.name != "fastmlp":
            assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), requirement


def test_the_lock_is_portable():
    """No local version, such as a build for CPUs alone, that only one index has."""
    assert not [f"{name}=={version}" for name, version in pins().items() if not re.fullmatch(r"[\d.]+", version)]


# What is tracked.


def tracked() -> list[str]:
    """The files that git tracks."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    return subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")[:-1]


@pytest.mark.parametrize("pattern", [SOMEBODYS_PATH, INDEX_HOST])
def test_nothing_names_a_machine_or_a_package_index(pattern):
    texts = {name: (ROOT / name).read_bytes().decode(errors="ignore") for name in tracked() if (ROOT / name).is_file()}
    assert texts
    assert not {name: found.group() for name, text in texts.items() if (found := re.search(pattern, text))}


def test_the_scripts_can_be_started():
    assert all((ROOT / name).stat().st_mode & 0o111 for name in ("scripts/reproduce", "scripts/test", ".ci/run"))
