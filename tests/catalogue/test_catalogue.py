"""What is declared wrongly is refused in one line that names file and line."""

import importlib
import importlib.metadata
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.program import vdscheck
from tests.support.project import PROJECT
from vdscheck.catalogue.catalogue import Catalogue, assemble, load
from vdscheck.catalogue.entry_points import GROUP, CatalogueError, declared_in, entry_points
from vdscheck.model.absence import Absent
from vdscheck.plugin import AtMost, Host, Judgement, ProfileFile, Severity, Window, check, measurement, probe

DOC = """A test's check.

Why: Because.
False positives: none
By hand: look
Sources: this file
"""


@measurement
class Load:
    """A number."""

    x: int


@measurement
class Orphan:
    """What no probe provides."""

    x: int


@probe("test.load")
def load_(_host: Host) -> Load:
    """Measures."""
    return Load(x=1)


class Folder:
    @classmethod
    def chosen(cls, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        return settings


def good(load: Load, most: AtMost) -> Judgement:
    return most.judge(load.x, "it")


def high(check_id: str = "load.high", function: Callable[..., Any] = good, doc: str = DOC) -> Any:
    return check(check_id, severity=Severity.LOW, doc=doc)(function)


def catalogue(*values: Any) -> Catalogue:
    return assemble(("module", value) for value in values)


def untyped(load: Load, most) -> Judgement:  # type: ignore[no-untyped-def]  # noqa: ANN001
    return most.judge(load.x, "it")  # type: ignore[no-any-return]


def number(load: Load, most: float) -> Judgement:
    raise AssertionError


def nothing(most: AtMost) -> Judgement:
    raise AssertionError


def unknown_name(load: "NoSuchType", most: AtMost) -> Judgement:  # type: ignore[name-defined]  # noqa: F821
    raise AssertionError


def returns_nothing(load: Load) -> None:
    raise AssertionError


def returns_text(load: Load) -> str | Judgement:
    raise AssertionError


def orphan(load: Orphan) -> Judgement:
    raise AssertionError


def by_number(loads: Mapping[int, Load]) -> Judgement:
    raise AssertionError


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (untyped, "parameter most has no annotation"),
        (number, "parameter most: float is neither"),
        (nothing, "reads no measurement"),
        (unknown_name, "cannot be evaluated"),
        (returns_nothing, "a check returns a Judgement"),
        (returns_text, "a check returns a Judgement"),
        (orphan, "no probe provides Orphan"),
        (by_number, "is neither"),
    ],
)
def test_a_check_with_a_wrong_signature_is_refused(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(CatalogueError, match=r"test_catalogue\.py:\d+: ") as refused:
        catalogue(load_, high(function=function))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("check_id", ["high", "Load.high", "load.high!", "load.", "load.High", "load.a_b", "a.b.c", ""])
def test_an_id_is_an_area_and_a_name(check_id: str) -> None:
    with pytest.raises(CatalogueError, match="is not an id"):
        catalogue(load_, high(check_id))


@pytest.mark.parametrize("heading", ["Why", "False positives", "By hand", "Sources"])
def test_a_docstring_without_a_heading_is_refused(heading: str) -> None:
    with pytest.raises(CatalogueError, match=f"has no `{heading}:`"):
        catalogue(load_, high(doc=DOC.replace(f"{heading}:", "Something:")))
    with pytest.raises(CatalogueError, match=f"has no `{heading}:`"):
        catalogue(
            load_,
            high(doc="\n".join(f"{heading}:" if line.startswith(heading) else line for line in DOC.split("\n"))),
        )


def test_a_check_without_a_docstring_is_refused() -> None:
    with pytest.raises(CatalogueError, match="has no docstring"):
        catalogue(load_, high(doc=""))


def test_two_checks_with_one_id_are_refused_and_both_are_named() -> None:
    with pytest.raises(CatalogueError, match=r"load\.high is declared twice; first at .*test_catalogue\.py:"):
        catalogue(load_, high(), high())


def test_the_same_value_found_twice_is_one() -> None:
    one = high()
    assert list(catalogue(load_, one, load_, one).checks) == ["load.high"]


def test_two_probes_for_one_measurement_are_refused() -> None:
    @probe("test.other")
    def other(_host: Host) -> Load:
        """Measures."""
        return Load(x=1)

    with pytest.raises(CatalogueError, match=r"Load is measured by test\.load already"):
        catalogue(load_, other)


def no_host(x: int) -> Load:
    """Measures."""
    raise AssertionError


def no_doc(_host: Host) -> Load:
    raise AssertionError


def no_type(_host: Host) -> int:
    """Measures."""
    raise AssertionError


def no_window(_host: Host) -> Iterator[Load]:
    """Measures."""
    raise AssertionError


def bad_subject(_host: Host, _folder: str) -> Load:
    """Measures."""
    raise AssertionError


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (no_host, "the first parameter of a probe is a Host"),
        (no_doc, "has no docstring"),
        (no_type, "a probe returns a measurement type"),
        (no_window, "a generator states its window"),
        (bad_subject, "has no classmethod `chosen"),
    ],
)
def test_a_probe_with_a_wrong_signature_is_refused(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(CatalogueError, match=r"test_catalogue\.py:\d+: ") as refused:
        catalogue(probe("test.bad")(function))
    assert said in str(refused.value)


def test_a_window_is_for_generators_only() -> None:
    def once(_host: Host) -> Load:
        """Measures."""
        raise AssertionError

    with pytest.raises(CatalogueError, match="a generator states its window"):
        catalogue(probe("test.bad", window=Window(1, 1, 1, 1))(once))


def test_needs_follow_from_the_types() -> None:
    def many(loads: Mapping[str, Load | Absent], one: Load | Absent, most: AtMost, least: AtMost | Absent) -> Judgement:
        raise AssertionError

    entry = catalogue(load_, high(function=many)).checks["load.high"]
    assert [(need.kind, need.bears_absence) for need in entry.needs] == [
        ("every-subject", True),
        ("measurement", True),
        ("threshold", False),
        ("threshold", True),
    ]
    assert entry.required_thresholds == ("most",)


def test_everything_that_is_installed_isdeclared_in_rightly() -> None:
    found = load()
    assert {"web", "redis", "postgres", "kubernetes-node", "latency"} <= set(found.profiles)
    assert len(found.checks) >= 25
    areas = {entry.check.area for entry in found.checks.values()}
    assert areas == {"sysctl", "virt", "cpu", "memory", "time", "disk", "redis", "path", "net", "cluster"}


def test_the_module_of_an_area_declares_the_checks_of_that_area_and_no_others() -> None:
    for name, value in entry_points(GROUP, sys.path):
        module = importlib.import_module(value)
        if value.startswith("vdscheck_checks."):
            area = value.rpartition(".")[2]
            declared = [each for _, each in declared_in(module)]
            assert {check.area for check in declared} == {area}, name


def test_entry_points_are_those_that_the_standard_library_finds(tmp_path: Path) -> None:
    path = [str(tmp_path / "first"), str(tmp_path / "second"), str(tmp_path / "nowhere"), *sys.path]
    text = "# all\n[console_scripts]\nx = y:z\n\n[acme.group]\none = a.b\n two=c.d [extra]\n[other]\nthree = e\n"
    for folder, package in (
        ("first", "acme_x-1.0.dist-info"),
        ("second", "Acme_X-2.0.dist-info"),
        ("second", "b-1.egg-info"),
    ):
        (tmp_path / folder / package).mkdir(parents=True)
        name = package.partition("-")[0]
        (tmp_path / folder / package / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (tmp_path / folder / package / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (tmp_path / folder / package / "entry_points.txt").write_text(text.replace("a.b", f"{folder}.{name.lower()}"))
    for group in ("acme.group", "vdscheck.plugins", "console_scripts", "nothing"):
        context = importlib.metadata.DistributionFinder.Context(path=path)
        found: dict[str, list[tuple[str, str]]] = {}
        for each in importlib.metadata.MetadataPathFinder.find_distributions(context):
            points = [
                (p.name, p.module if group == "acme.group" else p.value) for p in each.entry_points if p.group == group
            ]
            found.setdefault(each.metadata["Name"].lower().replace("_", "-"), points)
        wanted = sorted(point for points in found.values() for point in points)
        assert sorted(entry_points(group, path)) == wanted


def test_a_profile_is_found_by_the_name_of_its_file() -> None:
    assert list(catalogue(ProfileFile("vdscheck.profiles", "web.toml")).profiles) == ["web"]


def test_checks_of_another_checkout_are_refused_by_name(tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "checks", tmp_path / "elsewhere/vdscheck_checks")
    done = vdscheck("list", env={"PYTHONPATH": str(tmp_path / "elsewhere")})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"{tmp_path}/elsewhere/vdscheck_checks" in done.stderr
    assert "not of one installation" in done.stderr


def test_what_a_package_declares_has_one_order_whichever_of_its_modules_was_imported_first() -> None:
    def package(*names: str) -> ModuleType:
        made = ModuleType("acme")
        for name in names:
            module = ModuleType(f"acme.{name}")
            vars(module)["PROFILE"] = ProfileFile("acme", f"{name}.toml")
            vars(made)[name] = module
        return made

    first, second = (list(declared_in(package(*names))) for names in (("a", "b"), ("b", "a")))
    assert first == second
    assert [module for module, _ in first] == ["acme.a", "acme.b"]
