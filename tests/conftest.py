"""What all tests share: the markers, the seed, and the project's own catalogue."""

import os
import signal
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import tiers
from tests.support import boot_trees, host_trees
from vdscheck.catalogue.catalogue import Catalogue, load
from vdscheck.process import standing
from vdscheck.target import secrets

PROGRAMS = Path(__file__).with_name("programs.coveragerc")
"""How the coverage of the programs is counted that a test starts, and of their children."""
BEGAN = pytest.StashKey[float]()
TESTED = pytest.StashKey[tuple[str, bool]]()
"""The commit that is tested, and whether the tree differs from it: as it was when the run began."""


# How long something takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    """The catalogue of what is installed."""
    return load()


@pytest.fixture(autouse=True)
def _nothing_stands() -> None:
    """A fix that an earlier test began in this process is no matter of the program that this one calls."""
    standing.note("")


def pytest_configure(config: pytest.Config) -> None:
    """Remember what is tested, and let signals reach it where a shell began this in the background (`&`, nohup)."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    config.stash[BEGAN] = time.monotonic()
    if os.environ.get("VDSCHECK_TIER") == "all" and not hasattr(config, "workerinput"):
        config.stash[TESTED] = tiers.commit()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Count what the programs of a test reach where it is marked so: counting takes six times as long."""
    if not item.get_closest_marker("covered") or not getattr(item.config.option, "cov_source", None):
        return (yield)
    counting = {"COVERAGE_PROCESS_START": str(PROGRAMS), "COVERAGE_FILE": str(item.config.rootpath / ".coverage")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in counting.items():
            patch.setenv(name, os.environ.get(name, value))
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Leave what properties happen to reach out of the coverage: it varies, and counting it takes twice as long."""
    if not item.get_closest_marker("hypothesis"):
        return (yield)
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the part of the slow tier that was asked for, and refuse a slow test that no part would run."""
    lost = tiers.without_a_part(items)
    if lost:
        pytest.exit(f"no part of the slow tier has {', '.join(lost)}: see tests/tiers.py", returncode=2)
    part = tiers.chosen()
    if part is not None:
        others = tiers.outside(items, part)
        config.hook.pytest_deselected(items=others)
        left_out = set(others)
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to go on where groups are marked and have no effect: two servers at once take each other's CPU."""
    if not session.config.getoption("loadgroup", default=False):
        return
    marked = (item for item in session.items if item.get_closest_marker("xdist_group"))
    if any("@" not in item.nodeid for item in marked):
        pytest.exit("the groups of pytest-xdist have no effect with this version of pytest", returncode=2)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the host trees, say the seed, and name what a tier skipped: then it has failed."""
    terminalreporter.write_line(host_trees.counts())
    terminalreporter.write_line(f"seed of the random trees: {boot_trees.seed()} (VDSCHECK_SEED changes it)")
    for report in terminalreporter.stats.get("skipped", ()):
        terminalreporter.write_line(f"SKIPPED, so this tier fails: {report.nodeid}: {report.longrepr}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a tier that skipped something, and write down how the slow tier went."""
    tier = os.environ.get("VDSCHECK_TIER")
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if tier is None or reporter is None or hasattr(session.config, "workerinput"):
        return
    reports = [(word, report) for word in tiers.OUTCOMES for report in reporter.stats.get(word, ())]
    if exitstatus == pytest.ExitCode.OK and any(word == "skipped" for word, _ in reports):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if tier == "all":
        wall_s = time.monotonic() - session.config.stash[BEGAN]
        tiers.written(reports, session.config.stash[TESTED], boot_trees.seed(), wall_s)


@pytest.fixture(autouse=True)
def _forget_secrets() -> Generator[None, None, None]:
    """What one test registers as a secret is none in the next one."""
    yield
    secrets.forget()
