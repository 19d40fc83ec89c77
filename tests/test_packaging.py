"""What is installed, what it depends on, and who imports whom."""

import ast
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("hw", "sw", "sim", "search")
HEAVY = ("torch", "torchvision", "timm", "amaranth", "pyosys", "cocotb", "matplotlib", "scipy", "safetensors", "wasmtime")
TEXT = (ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(TEXT)["project"]


def modules(package: str) -> list[Path]:
    """The package's modules that are no tests and no benches."""
    return [path for path in sorted((ROOT / package).rglob("*.py")) if not path.name.startswith(("test_", "bench_"))]


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """Top-level names of everything that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0]


def loaded_by(names: list[str]) -> set[str]:
    """Which of the heavy libraries a fresh Python holds after importing the modules."""
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\nprint(*sys.modules)"
    call = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert call.returncode == 0, call.stderr
    return set(HEAVY) & set(call.stdout.split())


def commands() -> list[str]:
    """The modules that ``python -m`` runs."""
    sources = {path: path.read_text() for package in PACKAGES for path in modules(package)}
    return [dotted(path) for path, text in sources.items() if '__name__ == "__main__"' in text]


def test_metadata():
    assert PROJECT["name"] == "pivot-codesign"
    assert PROJECT["license"] == "Apache-2.0"
    assert PROJECT["requires-python"] == ">= 3.11"
    assert PROJECT["optional-dependencies"]["all"] == ["pivot-codesign[dev]", "pivot-codesign[perfetto]"]


EXTRAS = PROJECT["optional-dependencies"]


@pytest.mark.parametrize("requirement", PROJECT["dependencies"] + EXTRAS["dev"] + EXTRAS["ecp5"] + EXTRAS["perfetto"])
def test_each_dependency_has_a_closed_range_and_a_reason(requirement: str):
    assert "==" in requirement or (">=" in requirement and "<" in requirement)
    line = next(line for line in TEXT.splitlines() if f'"{requirement}"' in line)
    assert len(line.partition("#")[2].split()) >= 3, f"no reason beside {requirement}"


def test_changelog_names_the_version():
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    for name in (*PACKAGES, "tests", "examples"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    call = subprocess.run([*command, "-w", folder, source], capture_output=True, text=True, timeout=300)
    assert call.returncode == 0, call.stderr
    return next(folder.glob("pivot_codesign-*.whl"))


def test_wheel_holds_packages_assets_and_notices_and_no_tests(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "examples"))]
    assets = [path for path in (ROOT / "sw" / "assets").rglob("*") if path.is_file()]
    files = [path for package in ("hw", "sim") for path in (ROOT / package).rglob("*")]
    data = [path for path in files if path.suffix in (".sv", ".tcl", ".xdc")]
    python = [path for package in PACKAGES for path in modules(package)]
    expected = {str(path.relative_to(ROOT)) for path in [*assets, *data, *python]}
    assert expected <= names, expected - names
    licenses = {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name}
    assert licenses >= {"LICENSE", "NOTICE"}


@pytest.mark.slow
def test_the_installed_wheel_runs_beside_files_named_as_its_packages(wheel: Path, tmp_path: Path):
    """In an environment of its own, which sees this one's libraries and not the checkout."""
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True, timeout=300)
    site = Path(sysconfig.get_path("purelib", vars={"base": tmp_path / "venv"}))
    (site / "libraries.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")) + "\n")
    work = tmp_path / "work"
    work.mkdir()
    for name in PACKAGES:
        (work / f"{name}.py").write_text("raise RuntimeError(__file__)\n")
    network = "vit:dim=8,depth=1,heads=2,tokens=5,classes=3"
    for command, said in (
        (["measure", "--engine", "model", "--model", network, "--images", "1"], "cycles per image"),
        (["build", "--help"], "--board"), (["infer", "--help"], "--pair"), (["search", "--help"], "--efforts"),
        (["--version"], PROJECT["version"]),
    ):  # fmt: skip
        call = subprocess.run([python.with_name("pivot"), *command], cwd=work, capture_output=True, text=True, timeout=300)
        assert (call.returncode, call.stderr) == (0, "") and said in call.stdout, (command, call.stderr)


def test_every_command_is_a_subcommand_of_pivot():
    from search.pivot import COMMANDS

    assert sorted(load().__name__ for load, _ in COMMANDS.values()) == sorted(commands())


def test_hw_imports_neither_torch_nor_the_other_packages():
    allowed = {"hw", "amaranth", "amaranth_boards", "numpy", "pyosys", "find_libpython", "rich", "threadpoolctl"}
    allowed |= sys.stdlib_module_names
    outside = {(dotted(path), name) for path in modules("hw") for name in imported(path) if name not in allowed}
    assert not outside


def test_sw_never_imports_sim_or_search():
    wrong = {(dotted(path), name) for path in modules("sw") for name in imported(path) if name in ("sim", "search")}
    assert not wrong


@pytest.mark.parametrize("package", ["hw", "sim"])
def test_no_module_loads_torch(package: str):
    names = [dotted(path) for path in modules(package) if path.name not in ("__main__.py", "conftest.py")]
    assert not loaded_by(names) & {"torch", "torchvision", "timm"}


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_is_light(package: str):
    assert not loaded_by([package])


@pytest.mark.parametrize("command", commands())
def test_importing_a_command_is_light(command: str):
    assert not loaded_by([command])
