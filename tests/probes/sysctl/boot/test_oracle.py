"""What is predicted for the next boot is what the real systemd-sysctl and procps do, tree by tree."""

import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.lab.debian import Suite, rootfs
from tests.lab.oracle import Program, Question, ask_many
from tests.support import boot_trees
from tests.support.boot_trees import BOOT_TRUTH_CASES, Tree
from vdscheck.linux import sysctl_d, sysctl_glob
from vdscheck.linux.sysctl_d import Applied, Line, SettingsFile
from vdscheck.probes.sysctl.boot import cmdline, procps
from vdscheck.target.host import Host

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask systemd-sysctl in a mount namespace of its own"),
    pytest.mark.xdist_group("oracle"),
]
EVERYDAY, FEW, SLOW = 200, 20, 2000
VERSIONS: Mapping[Suite, int] = {"bookworm": 252, "trixie": 257}
LAST_SPLIT_USR = 254

Values = dict[str, str]
Difference = tuple[str, str, str, str]


def trees(folder: Path, count: int, grow: Callable[[Path, int], Tree] = boot_trees.grow) -> list[Tree]:
    seed = boot_trees.seed()
    print(f"seed {seed}: change it with VDSCHECK_SEED")
    grown = []
    for number in range(count):
        path = folder / str(number)
        path.mkdir()
        grown.append(grow(path, seed * 1_000_003 + number))
    return grown


def cases(grown: Iterable[Tree]) -> Counter[str]:
    return sum((tree.cases for tree in grown), Counter())


def asked(grown: Sequence[Tree], suite: Suite = "bookworm", program: Program = "systemd") -> list[Values]:
    questions = [
        Question(tree.path, tree.keys, cmdline=tree.cmdline, chroot=rootfs(suite), program=program) for tree in grown
    ]
    answers = ask_many(questions)
    assert all(answer.code != -9 for answer in answers)
    return [dict(answer.values) for answer in answers]


def files_of(host: Host, version: int) -> list[SettingsFile]:
    split = (sysctl_d.FOLDER_OF_SPLIT_USR,) if version <= LAST_SPLIT_USR else ()
    return sysctl_d.settings_files(host, (*sysctl_d.FOLDERS, *split))


def by_systemd(tree: Tree, version: int = 252) -> Values:
    keys = [key.encode() for key in tree.keys]
    return values(tree, sysctl_d.applied(files_of(Host(str(tree.path)), version), keys, version))


def by_procps(tree: Tree) -> Values:
    keys = [key.encode() for key in tree.keys]
    return values(tree, procps.applied_by_procps(procps.procps_files(Host(str(tree.path))), keys))


def values(tree: Tree, applied: Applied) -> Values:
    """What each key holds in the end: what the kernel had from its command line, where no file sets it."""
    assert not applied.unknown
    line = cmdline.parsed(tree.cmdline, "kernel command line")
    given = {key: value for key, value in line.settings if value is not None}
    found = dict.fromkeys(tree.keys, boot_trees.SENTINEL) | given
    for key, write in applied.writes.items():
        found[key.decode()] = write.value.decode("utf-8", "surrogateescape")
    return found


def differing(
    grown: Sequence[Tree], answers: Sequence[Values], predict: Callable[[Tree], Values] = by_systemd
) -> list[Difference]:
    found: list[Difference] = []
    for tree, answer in zip(grown, answers, strict=True):
        ours = predict(tree)
        found += [(tree.path.name, key, ours[key], answer[key]) for key in answer if ours[key] != answer[key]]
    return found


@pytest.fixture(scope="module")
def everyday(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Tree], list[Values]]:
    """The trees of the everyday tier, with what the real one made of them."""
    grown = trees(tmp_path_factory.mktemp("trees"), EVERYDAY)
    return grown, asked(grown)


def test_two_hundred_trees_are_predicted_as_systemd_252_sets_them(everyday: tuple[list[Tree], list[Values]]) -> None:
    grown, answers = everyday
    assert differing(grown, answers) == []
    counted = cases(grown)
    assert {case: counted[case] for case in BOOT_TRUTH_CASES if counted[case] < 5} == {}
    set_by_files = sum(answer[key] != tree.keys[key] for tree, answer in zip(*everyday, strict=True) for key in answer)
    assert set_by_files > EVERYDAY


def test_some_trees_are_predicted_as_systemd_257_sets_them(everyday: tuple[list[Tree], list[Values]]) -> None:
    grown = everyday[0][:FEW]
    assert differing(grown, asked(grown, "trixie"), lambda tree: by_systemd(tree, 257)) == []


@pytest.mark.parametrize("suite", VERSIONS)
def test_some_trees_are_predicted_as_procps_sets_them(suite: Suite, everyday: tuple[list[Tree], list[Values]]) -> None:
    grown = everyday[0][:FEW]
    assert differing(grown, asked(grown, suite, "procps"), by_procps) == []


LONGEST = b"vm.swappiness = " + b"9" * (sysctl_d.LINE_LIMIT_BYTES - 17)
AFTER = b"\nvm.overcommit_memory = 2\n"
ODD_FILES: dict[str, bytes] = {
    "the longest line that is read": b"vm.swappiness=1\n" + LONGEST + AFTER,
    "a line that is too long by one": b"vm.swappiness=1\n" + LONGEST + b"9" + AFTER,
    "the longest line that is read, at the end": LONGEST,
    "a line that is too long by one, at the end": b"vm.swappiness = 1\n" + LONGEST + b"9",
    "a long line of blanks": b" " * sysctl_d.LINE_LIMIT_BYTES + AFTER,
    "a file of 3 MB": b"# nothing\n" * 300_000 + AFTER,
    "a name of 256 bytes": b"vm/" + b"x" * 256 + b"//./swappiness = 1" + AFTER,
    "old Macintosh": b"vm.swappiness = 1\rvm.overcommit_memory = 2\r",
    "every end of a line": b"vm.swappiness=1\n\r\0vm.overcommit_memory=2\r\n\0fs.file-max=3\0\0net.core.somaxconn=4",
    "UTF-16": "vm.swappiness = 1\n".encode("utf-16"),
    "braces without a glob": b"vm.{swappiness,x} = 1" + AFTER,
    "a brace that is not closed": b"vm.{swap*,over* = 1" + AFTER,
    "a bracket that is not closed": b"vm.[swappiness = 1\nvm.swap[ = 3\nvm.s[[:alpha]wappiness=4\n",
    "brackets": b"vm.[]s]wappiness = 1\nvm.[!]s]vercommit_memory = 3\nfs/file[+--]max = 5\nnet/[b-d]ore/s*n = 4\n",
    "a backslash": b"vm.s\\*s = 1\nvm.\\o*y = 3\nfs/file\\-* = 5\n",
    "a backslash at the end": b"vm.*\\ = 1\nvm/[\\s]w* = 2\n",
    "braces in braces": b"{vm/{swap{pi,po}ness*,over[c]*},fs/f*} = 1\n",
    "an empty alternative": b"vm/swappiness{,x}* = 1\nvm/{}over* = 2\n",
    "a slash in brackets": b"vm[/]swappiness = 1\nvm[./]* = 1\n",
    "a glob of a folder": b"net/ipv4/conf/* = 1\nnet/ipv4/* = 2\n",
    "a glob that leads up": b"net/*/../../vm/swappiness = 1\n",
    "an exclusion with a glob excludes nothing": b"vm.* = 1\n-vm.s*\n",
    "an exclusion and a later assignment": b"-vm.swappiness\nvm.swappiness = 1\n",
}


def test_odd_files_are_predicted_as_systemd_252_and_257_read_them(tmp_path: Path) -> None:
    grown = []
    for number, (name, content) in enumerate(ODD_FILES.items()):
        tree = Tree(tmp_path / f"{number} {name.replace('/', '-')}", random.Random(0))
        tree.keys = dict.fromkeys(boot_trees.KEYS, boot_trees.SENTINEL)
        folder = tree.path / "etc/sysctl.d"
        folder.mkdir(parents=True)
        (folder / "a.conf").write_bytes(content)
        grown.append(tree)
    for suite, version in VERSIONS.items():
        assert differing(grown, asked(grown, suite), _predict(version)) == []


def test_where_systemd_waits_for_a_fifo_it_sets_nothing(tmp_path: Path) -> None:
    tree = boot_trees.grow(tmp_path, 1)
    os.mkfifo(tmp_path / "etc/sysctl.d/98-fifo.conf")
    (answer,) = ask_many([Question(tree.path, tree.keys, timeout_s=1.0)])
    assert answer.code == -9
    assert by_systemd(tree) == dict(answer.values) == tree.keys


def test_nonsense_is_predicted_as_systemd_252_reads_it(tmp_path: Path) -> None:
    grown = trees(tmp_path, EVERYDAY, boot_trees.grow_nonsense)
    assert differing(grown, asked(grown)) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_much_nonsense_is_predicted_as_each_program_reads_it(tmp_path: Path) -> None:
    grown = trees(tmp_path, SLOW, boot_trees.grow_nonsense)
    for suite, version in VERSIONS.items():
        assert differing(grown, asked(grown, suite), _predict(version)) == []
    assert differing(grown, asked(grown, "bookworm", "procps"), by_procps) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_thousand_trees_are_predicted_as_each_program_of_each_debian_sets_them(tmp_path: Path) -> None:
    grown = trees(tmp_path, SLOW)
    counted = cases(grown)
    print(dict(sorted(counted.items())))
    assert {case: counted[case] for case in BOOT_TRUTH_CASES if counted[case] < 50} == {}
    for suite, version in VERSIONS.items():
        predict = _predict(version)
        assert differing(grown, asked(grown, suite), predict) == []
        assert differing(grown, asked(grown, suite, "procps"), by_procps) == []


def _predict(version: int) -> Callable[[Tree], Values]:
    return lambda tree: by_systemd(tree, version)


# Planted faults: each must be seen by the comparison.

Plant = Callable[[pytest.MonkeyPatch], None]
FAULTS: dict[str, Plant] = {}


def fault(plant: Plant) -> Plant:
    FAULTS[plant.__name__] = plant
    return plant


@fault
def the_first_line_wins(patch: pytest.MonkeyPatch) -> None:
    real = sysctl_d._options
    patch.setattr(sysctl_d, "_options", lambda lines: real(reversed(list(lines))))


@fault
def folders_the_other_way_round(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sysctl_d, "FOLDERS", sysctl_d.FOLDERS[::-1])


@fault
def usr_local_is_not_read(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sysctl_d, "FOLDERS", tuple(each for each in sysctl_d.FOLDERS if "local" not in each))


@fault
def split_usr_is_not_read(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sysctl_d, "FOLDER_OF_SPLIT_USR", "/nowhere")


@fault
def files_in_the_order_of_their_paths(patch: pytest.MonkeyPatch) -> None:
    real = sysctl_d.settings_files
    patch.setattr(sysctl_d, "settings_files", lambda *given: sorted(real(*given), key=lambda file: file.path.encode()))


@fault
def a_masked_file_hides_nothing(patch: pytest.MonkeyPatch) -> None:
    real = sysctl_d.settings_files

    def files(host: Host, folders: Sequence[str]) -> list[SettingsFile]:
        chosen: dict[str, SettingsFile] = {}
        for folder in folders:
            for file in real(host, [folder]):
                if file.content:
                    chosen.setdefault(file.path.rpartition("/")[2], file)
        return [chosen[name] for name in sorted(chosen, key=str.encode)]

    patch.setattr(sysctl_d, "settings_files", files)


@fault
def hidden_files_are_read(patch: pytest.MonkeyPatch) -> None:
    real = sysctl_d.settings_files
    patch.setattr(sysctl_d, "settings_files", lambda *given: real(*given, hidden=True))


@fault
def sysctl_conf_is_always_read(patch: pytest.MonkeyPatch) -> None:
    real = sysctl_d.settings_files

    def files(host: Host, folders: Sequence[str]) -> list[SettingsFile]:
        last = [sysctl_d.read_settings_file(host, procps.LAST_FILE)] if host.exists(procps.LAST_FILE) else []
        return [*real(host, folders), *last]

    patch.setattr(sysctl_d, "settings_files", files)


@fault
def globs_win_over_names(patch: pytest.MonkeyPatch) -> None:
    real = sysctl_d._winner
    patch.setattr(
        sysctl_d,
        "_winner",
        lambda options, key, globs: real({**options, key: options[globs[-1]]} if globs else options, key, globs),
    )


@fault
def the_last_of_name_and_glob_wins(patch: pytest.MonkeyPatch) -> None:
    def winner(options: dict[bytes, Line], key: bytes, globs: Sequence[bytes]) -> Line | None:
        last = [line for pattern, line in options.items() if pattern == key or pattern in globs]
        return last[-1] if last and last[-1].value is not None else None

    patch.setattr(sysctl_d, "_winner", winner)


@fault
def a_minus_without_a_value_is_passed_over(patch: pytest.MonkeyPatch) -> None:
    real = sysctl_d._options
    patch.setattr(sysctl_d, "_options", lambda lines: real(line for line in lines if line.value is not None))


@fault
def a_minus_stays_in_the_key(patch: pytest.MonkeyPatch) -> None:
    real = sysctl_d._assignment
    patch.setattr(sysctl_d, "_assignment", lambda text: None if text.startswith(b"-") and b"=" in text else real(text))


@fault
def dots_are_always_separators(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sysctl_d, "_normal", lambda key, _: key.replace(b".", b"/").strip(b"/"))


@fault
def slashes_stay_in_names(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sysctl_d, "_normal", lambda key, _: key.translate(bytes.maketrans(b"/.", b"./")))


@fault
def paths_are_not_simplified(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sysctl_d, "simplified", lambda path, **_: path)


@fault
def the_same_again_moves_a_glob_to_the_end(patch: pytest.MonkeyPatch) -> None:
    def options(lines: Iterable[Line]) -> dict[bytes, Line]:
        found: dict[bytes, Line] = {}
        for line in lines:
            found.pop(line.key, None)
            found[line.key] = line
        return found

    patch.setattr(sysctl_d, "_options", options)


@fault
def only_newlines_end_a_line(patch: pytest.MonkeyPatch) -> None:
    import re

    patch.setattr(sysctl_d, "_END_OF_LINE", re.compile(rb"\n"))


@fault
def a_semicolon_begins_no_comment(patch: pytest.MonkeyPatch) -> None:
    real = sysctl_d._assignment
    patch.setattr(sysctl_d, "_COMMENTS", b"#")
    patch.setattr(sysctl_d, "_assignment", lambda text: real(text.lstrip(b"; ")))


@fault
def a_comment_after_a_value_is_cut(patch: pytest.MonkeyPatch) -> None:
    real = sysctl_d._assignment
    patch.setattr(sysctl_d, "_assignment", lambda text: real(text.partition(b" #")[0]))


@fault
def a_star_matches_slashes(patch: pytest.MonkeyPatch) -> None:
    import fnmatch

    patch.setattr(sysctl_glob, "compiled", lambda pattern, **_: pattern.decode())
    patch.setattr(sysctl_glob, "matches", lambda pattern, key: fnmatch.fnmatchcase(key.decode(), pattern))


@fault
def braces_mean_nothing(patch: pytest.MonkeyPatch) -> None:
    real = sysctl_glob.compiled
    patch.setattr(sysctl_glob, "compiled", lambda pattern, **_: real(pattern, braces=False))


@fault
def the_command_line_is_not_seen(patch: pytest.MonkeyPatch) -> None:
    nothing = cmdline.CommandLine((), (), "")
    patch.setattr(cmdline, "parsed", lambda *_: nothing)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(
    name: str, everyday: tuple[list[Tree], list[Values]], monkeypatch: pytest.MonkeyPatch
) -> None:
    FAULTS[name](monkeypatch)
    assert any(differing([tree], [answer]) for tree, answer in zip(*everyday, strict=True))
