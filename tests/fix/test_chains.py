"""However fixes and undos are killed, interrupted, stopped and edited between: old or new, said, and finished next."""

import json
import os
import shlex
import sys
from collections import Counter
from typing import Any

import pytest

from tests.fix.chains import SEED
from tests.support.fix_namespace import in_namespace
from tests.support.project import PROJECT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")


def run(first: int, count: int) -> list[dict[str, Any]]:
    command = shlex.join([sys.executable, "-m", "tests.fix.chains", str(SEED), str(first), str(count)])
    done = in_namespace(
        f"cd {shlex.quote(str(PROJECT))} && PYTHONPATH=. {command}; code >&2", timeout_s=60 + 60 * count
    )
    assert done.stderr.endswith("code 0\n"), done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def hold(found: list[dict[str, Any]], count: int) -> None:
    assert [each for each in found if each["wrong"]] == []
    assert len(found) == count


def test_a_few_chains_end_in_a_whole_state() -> None:
    hold(run(0, 3), 3)


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_hundreds_of_chains_end_in_a_whole_state() -> None:
    found = run(0, 250)
    print(Counter(step.partition("(")[2].partition(" ")[0].rstrip(")") for each in found for step in each["steps"]))
    hold(found, 250)
