"""What an earlier version left behind is read, finished or refused in one line."""

import json
import os
import shlex
from pathlib import Path

import pytest

from tests.support.fix_namespace import in_namespace
from tests.support.program import vdscheck
from tests.support.project import PROJECT

EARLIER = PROJECT / "tests/earlier"
REPORTS = sorted(each.stem for each in (EARLIER / "reports").glob("*.json"))
OLD = """\
net.core.somaxconn = 128
net.ipv4.conf.all.rp_filter = 0
net.ipv4.tcp_slow_start_after_idle = 1
net.ipv4.tcp_tw_reuse = 2
"""
NEW = """\
net.core.somaxconn = 4096
net.ipv4.conf.all.rp_filter = 2
net.ipv4.tcp_slow_start_after_idle = 0
net.ipv4.tcp_tw_reuse = 1
"""


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_judged_to_the_same_verdicts(name: str) -> None:
    file = EARLIER / "reports" / f"{name}.json"
    done = vdscheck("judge", str(file), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    before, after = json.loads(file.read_text()), json.loads(done.stdout)
    found = [{(each["id"], each["subject"]): each["verdict"] for each in made["findings"]} for made in (before, after)]
    assert {name: found[1].get(name) for name in found[0]} == found[0]
    added = {name for name, _ in found[1]} - {name for name, _ in found[0]}
    if added:  # by checks that are newer than the report
        skipped = [word for name in sorted(added) for word in ("--skip", name)]
        after = json.loads(vdscheck("judge", str(file), "--json", *skipped).stdout)
    assert after["score"] == before["score"]
    # How a login is hidden has changed: of an address only the server is shown.
    before["run"]["command"] = [word.replace("://:***@", "://***@") for word in before["run"]["command"]]
    assert after["run"] == before["run"]


def test_a_measurement_that_nobody_knows_any_more_is_named(tmp_path: Path) -> None:
    said = json.loads((EARLIER / "reports/host-root.json").read_text())
    some = next(iter(said["measurements"].values()))
    said["measurements"] |= {f"gone.{number}": some for number in range(7)}
    (tmp_path / "r.json").write_text(json.dumps(said))
    done = vdscheck("judge", str(tmp_path / "r.json"), "--json")
    warning = "no probe that is installed measures gone.0, gone.1, gone.2, gone.3, gone.4 and 2 more"
    assert warning in "\n".join(json.loads(done.stdout)["warnings"])


def test_a_report_of_a_later_schema_is_refused_by_its_number(tmp_path: Path) -> None:
    said = json.loads((EARLIER / "reports/host-root.json").read_text())
    (tmp_path / "r.json").write_text(json.dumps(said | {"schema_version": 2}))
    done = vdscheck("judge", str(tmp_path / "r.json"))
    assert (done.returncode, done.stdout, "schema version 2" in done.stderr) == (2, "", True)


def test_there_is_a_report_of_each_kind() -> None:
    assert len(REPORTS) == 12


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")


def left_behind(state: str, *, values: str, this_boot: bool = True, owner: str = "0:0", mode: str = "644") -> str:
    """Shell lines that put a journal and its drop-in where the earlier version left them, with its values in force."""
    folder = shlex.quote(str(EARLIER / "journals" / state))
    boot = "$(cat /proc/sys/kernel/random/boot_id)" if this_boot else "00000000-0000-4000-8000-000000000000"
    return f"""
        mkdir -m 755 /var/lib/vdscheck/journal
        for entry in {folder}/*.json; do
          sed "s/\\"boot_id\\": \\".*\\"/\\"boot_id\\": \\"{boot}\\"/" $entry \\
            > /var/lib/vdscheck/journal/${{entry##*/}}
        done
        for file in {folder}/*.conf; do
          [ ! -e $file ] || install -m {mode} -o {owner.partition(":")[0]} -g {owner.partition(":")[2]} \\
            $file /etc/sysctl.d/
        done
        printf %s {shlex.quote(values)} | sysctl -q -p -
    """


def state(number: int) -> str:
    """A shell command that prints the state of an entry."""
    return f'sed -n \'s/.*"state": "\\(.*\\)".*/\\1/p\' /var/lib/vdscheck/journal/20261129-{number}.json'


@needs_root
@pytest.mark.parametrize(("which", "number", "becomes"), [("begun", 1, "given-back"), ("undoing", 2, "undone")])
def test_what_was_ended_in_the_middle_is_told_and_finished(which: str, number: int, becomes: str) -> None:
    done = in_namespace(
        left_behind(which, values=NEW)
        + f"""
        vdscheck --passive --only 'sysctl.somaxconn' --json > report.json; code
        grep -c "ended in the middle (journal entry 20261129-{number})" report.json
        vdscheck --passive --only 'sysctl.somaxconn' -q 2>said >/dev/null; code
        grep -c "ended in the middle (journal entry 20261129-{number})" said
        vdscheck undo; code
        keys; ls /etc/sysctl.d
        {state(number)}
        """
    )
    first, *rest = done.stdout.split("code 0\n")
    assert (done.stderr, first, len(rest)) == ("", "", 3), done
    assert rest[0] == "1\n"
    count, undone = rest[1].split("\n", 1)
    assert count == "1"
    assert f"journal entry 20261129-{number}" in undone
    assert rest[2] == OLD + becomes + "\n"


@needs_root
@pytest.mark.parametrize("this_boot", [True, False])
def test_a_fix_that_held_is_undone(*, this_boot: bool) -> None:
    done = in_namespace(
        left_behind("held", values=NEW if this_boot else NEW.replace("4096", "128"), this_boot=this_boot)
        + f"""
        vdscheck undo > said; code
        keys; ls /etc/sysctl.d
        {state(2)}
        vdscheck undo > said; code
        {state(1)}
        """
    )
    assert done.stderr == ""
    assert done.stdout == f"code 0\n{OLD}undone\ncode 0\ngiven-back\n"


@needs_root
def test_what_was_undone_stays_and_a_new_fix_comes_after_it() -> None:
    done = in_namespace(
        left_behind("undone", values=OLD)
        + """
        vdscheck undo > said; code
        keys
        fix --yes -q > said; code
        keys
        ls /var/lib/vdscheck/journal | grep -c json
        """
    )
    assert done.stdout == f"code 0\n{OLD}code 0\n{NEW}3\n", done


@needs_root
def test_a_new_fix_finishes_what_was_begun_first() -> None:
    done = in_namespace(
        left_behind("begun", values=NEW)
        + f"""
        fix --yes --json > report.json; code
        keys
        {state(1)}
        grep -c "had been ended in the middle" report.json
        """
    )
    assert done.stdout == f"code 0\n{NEW}given-back\n1\n", done


@needs_root
@pytest.mark.parametrize(("owner", "mode"), [("1001:1001", "644"), ("0:0", "666"), ("0:1001", "664")])
def test_a_drop_in_that_others_can_write_is_refused_in_one_line_before_anything_is_changed(
    owner: str, mode: str
) -> None:
    done = in_namespace(
        left_behind("held", values=OLD, owner=owner, mode=mode)
        + """
        fix --yes -q > said 2>&1; code
        grep -c 90-vdscheck.conf said
        keys; stat -c %u:%g:%a /etc/sysctl.d/90-vdscheck.conf
        ls /var/lib/vdscheck/journal | grep -c json
        """
    )
    code, count, rest = done.stdout.split("\n", 2)
    assert (code, int(count) > 0) == ("code 3", True), done
    assert rest == f"{OLD}{owner}:{mode}\n2\n"


@needs_root
def test_a_drop_in_that_only_root_reads_keeps_its_mode() -> None:
    done = in_namespace(
        left_behind("undone", values=OLD)
        + """
        echo 'net.ipv4.tcp_timestamps = 1' > /etc/sysctl.d/90-vdscheck.conf; chmod 600 /etc/sysctl.d/90-vdscheck.conf
        fix --yes -q > said; code
        keys; stat -c %u:%g:%a /etc/sysctl.d/90-vdscheck.conf
        vdscheck undo > said; code
        cat /etc/sysctl.d/90-vdscheck.conf; stat -c %u:%g:%a /etc/sysctl.d/90-vdscheck.conf
        """
    )
    assert done.stdout == f"code 0\n{NEW}0:0:600\ncode 0\nnet.ipv4.tcp_timestamps = 1\n0:0:600\n", done


# Configurations


def test_a_configuration_with_every_key_is_read_where_it_is_named() -> None:
    file = EARLIER / "configurations/everything.toml"
    done = vdscheck("--config", str(file), "--json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert {each["name"] for each in found["gates"]} == {"min-score", "min-coverage", "fail-on"}
    assert found["ruleset"]["overrides"]["offer"] == {
        "cpus": 4,
        "memory": "8 GiB",
        "disk": "80 GB",
        "bandwidth": "1 Gbit/s",
    }


def test_the_same_configuration_found_in_the_current_folder_is_refused_with_the_way_to_mean_it(tmp_path: Path) -> None:
    (tmp_path / "vdscheck.toml").write_text((EARLIER / "configurations/everything.toml").read_text())
    done = vdscheck("--passive", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "vdscheck.toml:11" in line
    assert "disk" in line
    assert "--config ./vdscheck.toml" in line


def test_a_waiver_of_several_checks_is_refused_with_the_names_of_them() -> None:
    done = vdscheck("--config", str(EARLIER / "configurations/glob-waiver.toml"), "--passive")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "sysctl.s*" in line
    for name in ("sysctl.slow-start-idle", "sysctl.somaxconn", "sysctl.swappiness", "sysctl.syn-backlog"):
        assert name in line
