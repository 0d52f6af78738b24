"""A third party's package adds a check, a profile and a format, built from exactly what the guide shows."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import program
from tests.support.project import PROJECT
from tests.support.wheel import build, environment

pytestmark = pytest.mark.xdist_group("package")  # its environment takes half a minute to make: once is enough
GUIDE = PROJECT / "docs/writing-a-check.md"


def commands_shown() -> str:
    (block,) = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return str(block)


def files_shown() -> dict[str, str]:
    blocks = re.findall(r"^```\w+ file=(\S+)\n(.*?)^```$", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return dict(blocks)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with vdscheck, after the guide's commands were run there on the guide's files."""
    folder = tmp_path_factory.mktemp("plugin")
    for name, text in files_shown().items():
        file = folder / "acme-vdscheck" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (folder / "ours").mkdir()
    found = environment(folder / "venv", build(folder / "ours"))
    activated = program.environment(PATH=f"{found}:{os.environ['PATH']}", VIRTUAL_ENV=str(found.parent))
    done = subprocess.run(
        ["sh", "-euc", commands_shown()], cwd=folder, env=activated, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "The kernel was started not too long ago." in done.stdout
    assert "profile acme" in done.stdout
    assert "VDSCHECK OK: score 100 | score=100" in done.stdout
    return found


def vdscheck(programs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [programs / "vdscheck", *words], capture_output=True, text=True, timeout=60, check=False, cwd="/"
    )


def uptime_s() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


def test_the_guide_shows_a_whole_package() -> None:
    module = {f"acme_vdscheck/{name}" for name in ("__init__.py", "acme.toml", "commands.py")}
    assert set(files_shown()) == {"pyproject.toml", "test_acme.py", *module}


@pytest.mark.xdist_group("plugin")
def test_the_check_of_the_package_is_judged_by_the_profile_of_the_package(programs: Path) -> None:
    before_s = uptime_s()
    done = vdscheck(programs, "run", "--profile", "acme", "--only", "uptime.*", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    (finding,) = report["findings"]
    assert finding["id"] == "uptime.days"
    assert finding["expected"]["pass"] == 90
    measured_s = report["measurements"]["uptime.kernel"]["value"]["uptime_s"]
    assert before_s <= measured_s <= uptime_s()
    assert finding["observed"]["value"] == pytest.approx(measured_s / 86_400, abs=0.02)
    assert report["ruleset"]["profiles"] == ["acme"]


@pytest.mark.xdist_group("plugin")
def test_the_profile_of_the_package_extends_ours(programs: Path) -> None:
    done = vdscheck(programs, "run", "--profile", "acme", "--passive", "--json")
    ids = {finding["id"] for finding in json.loads(done.stdout)["findings"]}
    assert {"uptime.days", "sysctl.somaxconn", "virt.hypervisor"} <= ids


@pytest.mark.xdist_group("plugin")
def test_without_the_profile_the_check_is_not_part_of_the_ruleset(programs: Path) -> None:
    done = vdscheck(programs, "run", "--passive", "--json")
    assert "uptime.days" not in {finding["id"] for finding in json.loads(done.stdout)["findings"]}
    done = vdscheck(programs, "run", "--only", "uptime.*", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "uptime.days is judged by: acme" in done.stderr


@pytest.mark.xdist_group("plugin")
def test_the_option_and_the_format_of_the_package_are_those_of_a_run(programs: Path, tmp_path: Path) -> None:
    words = ("run", "--profile", "acme", "--only", "uptime.*", "--longest-uptime", "30000")
    done = vdscheck(programs, *words, "--format", "nagios", "-o", f"json={tmp_path}/r.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "VDSCHECK OK: score 100 | score=100\n", "")
    (finding,) = json.loads((tmp_path / "r.json").read_text())["findings"]
    assert finding["expected"]["pass"] == 30000
    of_nothing = ("--only", "sysctl.somaxconn", "--root", str(tmp_path), "--format", "nagios")
    assert vdscheck(programs, "run", "--profile", "acme", *of_nothing).returncode == 3


@pytest.mark.xdist_group("plugin")
def test_the_check_is_listed_and_explained_as_ours_are(programs: Path) -> None:
    assert "uptime.days" in vdscheck(programs, "list").stdout
    explained = " ".join(vdscheck(programs, "explain", "uptime.days").stdout.split())
    assert "A kernel that has run for months" in explained
    assert "Acme reboots every quarter" in explained


@pytest.mark.xdist_group("plugin")
def test_the_tests_of_the_package_pass(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "test_acme.py").write_text(files_shown()["test_acme.py"])
    calls = (
        "from pathlib import Path; import test_acme as tests; "
        "tests.test_the_probe_reads_the_first_number(Path('host')); tests.test_each_verdict()"
    )
    done = subprocess.run(
        [programs / "python", "-c", calls], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
