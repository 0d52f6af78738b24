"""The public face for tests: hosts made of files, captured hosts, and what a check says of measurements."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from vdscheck import testing
from vdscheck.plugin import (
    Absent,
    AtMost,
    Host,
    Judgement,
    Limits,
    NotFoundError,
    Reason,
    Severity,
    UnavailableError,
    Verdict,
    check,
    measurement,
    not_applicable,
    probe,
    unmeasured,
)

DOC = """A test's check.

Why: It is tested.
False positives: None.
By hand: true
Sources: none
"""
MOST = AtMost(pass_limit=10, fail_limit=20, unit="x", source="house: a test")


@measurement
class Load:
    """Something."""

    x: int


@measurement
class Space:
    """Something else."""

    x: int


@check("load.high", severity=Severity.LOW, doc=DOC)
def high(load: Load, most: AtMost) -> Judgement:
    return most.judge(load.x, "the load")


@check("load.bears", severity=Severity.LOW, doc=DOC)
def bears(load: Load | Absent, most: AtMost | Absent, space: Space) -> Judgement | Absent:
    if isinstance(load, Absent) or isinstance(most, Absent):
        return not_applicable(f"{type(load).__name__} {type(most).__name__} {space.x}")
    return most.judge(load.x, "the load")


@check("space.all", severity=Severity.LOW, doc=DOC)
def each(spaces: Mapping[str, Space | Absent], most: AtMost) -> dict[str, Judgement | Absent]:
    return {name: one if isinstance(one, Absent) else most.judge(one.x, name) for name, one in spaces.items()}


@check("load.limits", severity=Severity.LOW, doc=DOC)
def others(load: Load, limits: Limits) -> Judgement:
    (limit,) = limits.of("sysctl.swappiness").values()
    assert isinstance(limit, AtMost)
    return limit.judge(load.x, "by the limit of another check")


@pytest.mark.parametrize(("x", "verdict"), [(10, Verdict.PASS), (20, Verdict.WARN), (21, Verdict.FAIL)])
def test_a_check_gets_measurements_by_type_and_what_is_given_by_name(x: int, verdict: Verdict) -> None:
    assert testing.judged(high, Load(x=x), most=MOST).verdict is verdict
    assert testing.judged(high, load=Load(x=x), most=MOST).verdict is verdict


def test_what_it_cannot_do_without_is_asked_for_and_an_absence_is_judged_as_in_a_run() -> None:
    with pytest.raises(TypeError, match=r"load\.high needs load: Load"):
        testing.judged(high, most=MOST)
    with pytest.raises(TypeError, match=r"load\.high needs most: AtMost"):
        testing.judged(high, Load(x=1))
    absent = unmeasured(Reason.PERMISSION, "as root")
    judged = testing.judged(high, load=absent, most=MOST)
    assert (judged.verdict, judged.reason, judged.summary) == (Verdict.UNKNOWN, Reason.PERMISSION, "as root")


def test_what_it_can_do_without_is_absent() -> None:
    judged = testing.judged(bears, Space(x=7))
    assert (judged.verdict, judged.summary) == (Verdict.NOT_APPLICABLE, "Absent Absent 7")


def test_each_subject_has_its_judgement() -> None:
    spaces = {"/a": Space(x=5), "/b": unmeasured(Reason.TIMEOUT, "too slow")}
    found = testing.judged_each(each, spaces=spaces, most=MOST)
    assert {name: judged.verdict for name, judged in found.items()} == {"/a": Verdict.PASS, "/b": Verdict.UNKNOWN}
    with pytest.raises(TypeError, match="several subjects"):
        testing.judged(each, spaces=spaces, most=MOST)
    assert testing.judged_each(high, Load(x=1), most=MOST)[None].verdict is Verdict.PASS


def test_the_limits_are_those_of_the_profile() -> None:
    verdicts = [testing.judged(others, Load(x=60), profile=name).verdict for name in ("web", "latency")]
    assert verdicts == [Verdict.PASS, Verdict.FAIL]


@probe("test.read")
def read(host: Host) -> Load:
    """Reads a file, a link, a folder and a fact."""
    names = sorted(host.names("/etc"))
    return Load(x=len(host.read("/bin/x")) + len(names) + int(host.fact("answer", lambda: 0)))


def test_a_host_answers_from_its_files_alone(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"/usr/bin/x": "12345", "etc/a": b"\xff"}
    host = testing.host(tmp_path, files, {"/bin": "usr/bin", "/etc/b": "/etc/a"}, {"answer": 40})
    assert read.function(host) == Load(x=5 + 2 + 40)
    assert (tmp_path / "etc/a").read_bytes() == b"\xff"
    with pytest.raises(NotFoundError):
        host.read("/etc/hostname")
    with pytest.raises(UnavailableError):
        host.fact("another", lambda: 0)


def test_what_is_captured_is_a_host_again(tmp_path: Path) -> None:
    @probe("test.kernel")
    def kernel(host: Host) -> Load:
        """Reads what does not change."""
        return Load(x=len(host.read("/proc/version")))

    tree = testing.capture([kernel])
    (tmp_path / "here.toml").write_text(testing.text(tree))
    again = testing.load(tmp_path / "here.toml")
    assert again == tree
    assert kernel.function(testing.unpack(again, tmp_path / "root")) == kernel.function(Host())
