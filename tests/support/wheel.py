"""The wheel installs into an empty environment and runs there; the packages of its users' architectures exist."""

import json
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.project import PROJECT

PYTHONS = ("3.11", "3.12", "3.13")
ARCHITECTURES = ("x86_64", "aarch64")


def run(*words: str | Path, **more: object) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def build(folder: Path, project: Path = PROJECT) -> Path:
    """The wheel of a project; ours is built from a copy, so that several builds do not meet."""
    if project == PROJECT:
        project = folder / "source"
        shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "tests"))
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, project)
    return next(folder.glob("*.whl"))


def environment(folder: Path, *packages: Path) -> Path:
    """An empty environment with some packages in it; its folder of programs."""
    run(sys.executable, "-m", "venv", folder)
    # Most of what is installed is never imported: compiling all of it takes longer than all else.
    pip = (folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
    run(*pip, *packages)
    return folder / "bin"


def resolve(wheel: Path, python: str, architecture: str, folder: Path) -> str:
    """Refuse a dependency that would need a compiler there."""
    target = folder / f"{python}-{architecture}"
    run(
        sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", target,
        "--python-version", python, "--implementation", "cp", "--abi", f"cp{python.replace('.', '')}", "--abi", "abi3",
        "--abi", "none", "--platform", f"manylinux2014_{architecture}", "--platform", f"manylinux_2_28_{architecture}",
        wheel,
    )  # fmt: skip
    return f"{python} {architecture}: {len(list(target.iterdir()))} wheels"


def tried(wheel: Path, folder: Path) -> str:
    """What the wheel says of this host from an empty environment."""
    programs = environment(folder / "venv", wheel)
    version = run(programs / "vdscheck", "--version").strip()
    report = json.loads(run(programs / "vdscheck", "--passive", "--json"))
    packages = {path.name for path in next((folder / "venv/lib").glob("*/site-packages")).iterdir()}
    if "checks" in packages:
        sys.exit("the wheel installs a top-level package `checks`")
    if len(report["findings"]) < 10:
        sys.exit(f"only {len(report['findings'])} findings: the wheel lacks checks or profiles")
    return f"{version}: {len(report['findings'])} findings, score {report['score']['value']}"


def main() -> None:
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(4) as pool:
        folder = Path(name)
        wheel = build(folder)
        answers = [pool.submit(tried, wheel, folder)]
        answers += [
            pool.submit(resolve, wheel, python, architecture, folder)
            for python in PYTHONS
            for architecture in ARCHITECTURES
        ]
        for answer in answers:
            print(answer.result())


if __name__ == "__main__":
    main()
