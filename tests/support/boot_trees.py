"""Random roots with files of sysctl.d, to compare what is predicted with what the real programs do."""

import fnmatch
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SENTINEL = "424242424242"
"""No tree sets this value."""
DEFAULT_SEED = 20261124

FOLDERS = ("etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d")
SPLIT_USR = "lib/sysctl.d"
KEYS = (
    "fs/file-max",
    "net/core/somaxconn",
    "net/ipv4/conf/all/forwarding",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/br-a.b.c/forwarding",
    "net/ipv4/conf/default/rp_filter",
    "net/ipv4/conf/eth0.100/forwarding",
    "net/ipv4/conf/eth0.100/rp_filter",
    "net/ipv4/conf/eth0/rp_filter",
    "net/ipv4/ip_forward",
    "net/ipv4/tcp_tw_reuse",
    "vm/overcommit_memory",
    "vm/swappiness",
)
OF_A_MODULE = "net/netfilter/nf_conntrack_max"
"""Only some trees' kernels have it."""
NOWHERE = ("net/ipv4/conf/eth9/rp_filter", "vm/nonsense")
GLOBS = (
    "net/ipv4/conf/*/rp_filter",
    "net/ipv4/conf/eth0*/rp_filter",
    "net/ipv4/conf/eth?/rp_filter",
    "net/ipv4/conf/[!ae]*/*",
    "net/ipv4/conf/[[:alpha:]]*.*/forwarding",
    "net/ipv4/conf/*/*",
    "net/ipv4/conf/*",
    "net/*/ip_forward",
    "net/ipv4/{tcp_tw*,ip_forw*}",
    "net/ipv4/{conf/{all,eth0}/*,tcp_*}",
    "net/ipv4/tcp_[a-t]*",
    "vm/*",
    "vm/s?appiness",
    "vm/*memory",
    "vm/[x-z]*",
    "*/core/somaxconn",
    "*/*",
    "fs/file-*",
    "fs/file[-]max",
)
NAMES = (
    "10-a.conf", "50-b.conf", "9-z.conf", "90-d.conf", "99-sysctl.conf", "99-zz.conf", "A.conf", "a b.conf", "é.conf",
)  # fmt: skip
NOT_READ = ("README.sysctl", "10-a.conf.dpkg-old", "x.CONF", "x.conf~")
HIDDEN = (".hidden.conf", ".conf")

PIECES = (
    *(b"vm.swappiness", b"vm/", b"vm.", b"swappiness", b"net.ipv4.", b"ip_forward", b"core/", b"somaxconn", b"1", b"2"),
    *(b"*", b"?", b"[", b"]", b"{", b"}", b",", b"=", b"-", b".", b"/", b"..", b" ", b"\t", b"\n", b"\n", b"\r", b"\0"),
    *(b"#", b";", b"\\", b"\xff", b"!", b"^", b"[:alpha:]", b"\x0b", b"|"),
)
"""What files are made of that are put together without any sense."""

BOOT_TRUTH_CASES = (
    "a file hides one of a later folder",
    "files in the order of their names",
    "the last one wins",
    "masked by an empty file",
    "masked by a link to /dev/null",
    "a glob",
    "a glob beside a line that names the key",
    "a minus before an assignment",
    "a minus without a value",
    "a slash as separator",
    "a dot as separator",
    "an interface with a dot in its name",
    "sysctl.conf by its link",
    "sysctl.conf that is not read",
    "the kernel command line",
    "a key of a module that is not loaded",
    "a key of a module that is loaded",
    "a key that nobody sets",
)
"""What is asked of boot truth, each to be present in a run."""


@dataclass
class Tree:
    """A root on disk, the kernel that it meets, and which cases are in it."""

    path: Path
    random: random.Random
    cases: Counter[str] = field(default_factory=Counter)
    keys: dict[str, str] = field(default_factory=dict)
    """What the kernel shows before the init applies any file: keys below /proc/sys."""
    cmdline: str = ""
    named: Counter[str] = field(default_factory=Counter)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def count(self, case: str) -> None:
        self.cases[case] += 1


def seed() -> int:
    """The seed of the run: VDSCHECK_SEED, or a fixed one."""
    return int(os.environ.get("VDSCHECK_SEED", str(DEFAULT_SEED)))


def grow(path: Path, number: int) -> Tree:
    """The tree of a number, always the same."""
    tree = Tree(path, random.Random(number))
    _kernel(tree)
    _folders(tree)
    if tree.chance(0.6):
        _sysctl_conf(tree)
    seen: Counter[str] = Counter()
    for folder in (*FOLDERS, SPLIT_USR):
        place = path / folder
        if not place.is_dir() or place.is_symlink():
            continue
        for name in tree.random.sample(NAMES, tree.random.randint(0, 3)):
            if not os.path.lexists(place / name):
                _settings(tree, place / name)
                seen[name] += 1
        _beside(tree, place)
    tree.cases["a file hides one of a later folder"] += any(count > 1 for count in seen.values())
    tree.cases["files in the order of their names"] += len(seen) > 1
    _count_keys(tree)
    return tree


def grow_nonsense(path: Path, number: int) -> Tree:
    """A tree whose files are bytes that mean something each, and nothing together."""
    tree = Tree(path, random.Random(number))
    tree.keys = dict.fromkeys(KEYS, SENTINEL)
    folder = path / FOLDERS[0]
    folder.mkdir(parents=True)
    for name in NAMES[: tree.random.randint(1, 2)]:
        lines = [b"vm.swappiness = 1\n", *tree.random.choices(PIECES, k=tree.random.randint(1, 60))]
        (folder / name).write_bytes(b"".join(lines))
    return tree


def _kernel(tree: Tree) -> None:
    tree.keys = dict.fromkeys(KEYS, SENTINEL)
    if tree.chance(0.5):
        tree.keys[OF_A_MODULE] = SENTINEL
    if tree.chance(0.2):
        key, value = tree.random.choice(("vm/swappiness", "fs/file-max", "net/core/somaxconn")), "77"
        spelled = tree.random.choice((f"sysctl.{key.replace('/', '.')}", f"sysctl/{key}"))
        tree.cmdline = tree.random.choice(("quiet {} ro", "{}", 'a="b c" {} -- sysctl.vm.swappiness=78')).format(
            f"{spelled}={value}"
        )
        tree.keys[key] = value
        tree.count("the kernel command line")


def _folders(tree: Tree) -> None:
    for folder in FOLDERS:
        if tree.chance(0.85):
            (tree.path / folder).mkdir(parents=True)
    draw = tree.random.random()
    if draw < 0.7:
        (tree.path / "usr/lib").mkdir(parents=True, exist_ok=True)
        (tree.path / "lib").symlink_to("usr/lib")
        tree.count("lib is a link to usr/lib")
    elif draw < 0.9:
        (tree.path / SPLIT_USR).mkdir(parents=True)
        tree.count("lib is a folder of its own")
    if not (tree.path / FOLDERS[2]).exists() and tree.chance(0.5):
        (tree.path / FOLDERS[2]).parent.mkdir(parents=True, exist_ok=True)
        elsewhere = tree.path / "opt/settings"
        elsewhere.mkdir(parents=True)
        (tree.path / FOLDERS[2]).symlink_to(tree.random.choice(("/opt/settings", "../../../opt/settings")))
        _settings(tree, elsewhere / tree.random.choice(NAMES))
        tree.count("a folder that is a link")


def _sysctl_conf(tree: Tree) -> None:
    (tree.path / "etc").mkdir(exist_ok=True)
    (tree.path / "etc/sysctl.conf").write_bytes(_content(tree))
    if tree.chance(0.6) and (tree.path / FOLDERS[0]).is_dir():
        (tree.path / FOLDERS[0] / "99-sysctl.conf").symlink_to("../sysctl.conf")
        tree.count("sysctl.conf by its link")
    else:
        tree.count("sysctl.conf that is not read")


def _beside(tree: Tree, folder: Path) -> None:
    """Files of the folder that no one reads, or only procps."""
    for names, case in ((NOT_READ, "another suffix"), (HIDDEN, "a hidden file")):
        if tree.chance(0.1):
            (folder / tree.random.choice(names)).write_bytes(_content(tree))
            tree.count(case)


def _settings(tree: Tree, file: Path) -> None:
    for chance, case, make in _KINDS_OF_FILE:
        if tree.chance(chance):
            make(tree, file)
            tree.count(case)
            return
    file.write_bytes(_content(tree))


def _linked(tree: Tree, file: Path) -> None:
    target = tree.path / "opt/linked" / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(_content(tree))
    file.symlink_to(f"/opt/linked/{file.name}")


_KINDS_OF_FILE: tuple[tuple[float, str, Callable[[Tree, Path], None]], ...] = (
    (0.06, "masked by an empty file", lambda _, file: file.touch()),
    (0.06, "masked by a link to /dev/null", lambda _, file: file.symlink_to("/dev/null")),
    (0.03, "a folder called .conf", lambda _, file: file.mkdir()),
    (0.03, "a link that leads nowhere", lambda _, file: file.symlink_to("/nowhere/at-all.conf")),
    (0.02, "a link to itself", lambda _, file: file.symlink_to(file.name)),
    (0.05, "a link with an absolute target", _linked),
)


def _content(tree: Tree) -> bytes:
    end = tree.random.choice((b"\n",) * 12 + (b"\r\n", b"\r\n", b"\r", b"\n\r", b"\0", b"\n\n", b"\r\0"))
    tree.cases["lines that do not end in a newline alone"] += end not in {b"\n", b"\n\n"}
    lines = [_line(tree) for _ in range(tree.random.randint(1, 6))]
    if tree.chance(0.1):
        lines += _said_again(tree)
    text = end.join(lines)
    if tree.chance(0.2):
        tree.count("no newline at the end")
        return text
    return text + end


def _said_again(tree: Tree) -> list[bytes]:
    """Of two globs that meet, the first once more: with the same value it keeps its first place."""
    tree.count("a glob said again")
    first, second = tree.random.choice(_MEETING)
    tree.named.update((first, second))
    again = tree.random.choice((b"6", b"6", b"8"))
    return [first.encode() + b" = 6", second.encode() + b" = 7", first.encode() + b" = " + again]


_MEETING = (
    ("net/ipv4/conf/*/rp_filter", "net/ipv4/conf/eth0*/rp_filter"),
    ("net/ipv4/conf/eth?/rp_filter", "net/ipv4/conf/*/*"),
    ("vm/*", "vm/s?appiness"),
    ("*/*", "fs/file-*"),
)


def _line(tree: Tree) -> bytes:
    for chance, case, make in _ODD_LINES:
        if tree.chance(chance):
            tree.count(case)
            return make(tree.random)
    return _assignment(tree)


_DOUBLED = (b"net//core/somaxconn", b"net..core.somaxconn", b"net/./core/somaxconn", b"vm/.//swappiness")
_AT_AN_END = (
    b"/net/core/somaxconn",
    b".net.core.somaxconn",
    b"net/core/somaxconn/",
    b"//vm/swappiness",
    b"./vm/swappiness",
)
_LEADING_UP = (b"/../vm/swappiness", b"net/../vm/swappiness", b"../sys/vm/swappiness", b"vm/swappiness/..")

_ODD_LINES: tuple[tuple[float, str, Callable[[random.Random], bytes]], ...] = (
    (0.03, "a comment", lambda source: source.choice((b"# vm.swappiness = 3", b" \t; vm.swappiness = 3", b"#", b";"))),
    (0.02, "a blank line", lambda source: source.choice((b"", b"  \t"))),
    (0.03, "no assignment", lambda source: source.choice((b"vm.swappiness", b"vm.swappiness 10", b"x", b"=", b"= 5"))),
    (0.02, "a zero byte", lambda source: b"vm.swappiness = 1%d\0vm.overcommit_memory = 2" % source.randint(0, 9)),
    (0.02, "not UTF-8", lambda source: source.choice((b"vm.\xff\xfe = 1", b"vm.swappiness = \xff4"))),
    (0.01, "a byte order mark", lambda _: b"\xef\xbb\xbfvm.swappiness = 8"),
    (0.01, "a line of 100 kB", lambda source: b"vm.swappiness = " + b"x" * 100_000 + b"%d" % source.randint(0, 9)),
    (0.02, "an equals sign in a value", lambda source: b"vm.swappiness = a=%d" % source.randint(0, 9)),
    (0.02, "a comment after a value", lambda source: b"vm.swappiness = %d # why" % source.randint(0, 9)),
    (0.02, "an empty value", lambda source: source.choice((b"vm.swappiness =", b"-vm.swappiness= "))),
    (0.03, "separators doubled", lambda source: source.choice(_DOUBLED) + b" = 3%d" % source.randint(0, 9)),
    (0.03, "a separator at an end", lambda source: source.choice(_AT_AN_END) + b" = 4%d" % source.randint(0, 9)),
    (0.02, "dots that lead up", lambda source: source.choice(_LEADING_UP) + b" = 5%d" % source.randint(0, 9)),
    (0.02, "two minus signs", lambda source: source.choice((b"--vm.swappiness = 6", b"- -vm.swappiness = 6"))),
    (0.02, "a minus apart", lambda source: source.choice((b"- vm.swappiness = 7", b"-\tvm/swappiness", b"-", b"-="))),
    (0.02, "other white space", lambda source: b"\x0bvm.swappiness\x0c = \x0b%d\x0c" % source.randint(0, 9)),
)  # fmt: skip


def _assignment(tree: Tree) -> bytes:
    key = _key(tree)
    written = key
    if tree.chance(0.6):
        written = key.translate({ord("/"): ".", ord("."): "/"})
        tree.count("a dot as separator")
    else:
        tree.count("a slash as separator")
    prefix = b""
    if tree.chance(0.15):
        prefix = b"-"
        if tree.chance(0.45):
            tree.count("a minus without a value")
            tree.named[key] += 1
            return prefix + written.encode()
        tree.count("a minus before an assignment")
    tree.cases["the last one wins"] += tree.named[key] > 0
    tree.named[key] += 1
    value = tree.random.choice((b"0", b"1", b"2", b"%d" % tree.random.randint(3, 9), b"10 20\t30", b"x"))
    before, after = (tree.random.choice((b"", b" ", b"\t ", b"  ")) for _ in range(2))
    lead = tree.random.choice((b"", b"", b"", b" ", b"\t"))
    return (
        lead + prefix + written.encode() + before + b"=" + after + value + tree.random.choice((b"", b"", b" ", b"\t"))
    )


def _key(tree: Tree) -> str:
    draw = tree.random.random()
    if draw < 0.25:
        tree.count("a glob")
        return tree.random.choice(GLOBS)
    if draw < 0.32:
        loaded = OF_A_MODULE in tree.keys
        tree.count(f"a key of a module that is {'' if loaded else 'not '}loaded")
        return OF_A_MODULE
    if draw < 0.36:
        tree.count("a key that exists nowhere")
        return tree.random.choice(NOWHERE)
    key = tree.random.choice(KEYS)
    tree.cases["an interface with a dot in its name"] += "." in key
    return key


def _count_keys(tree: Tree) -> None:
    globs = [key for key in tree.named if key in GLOBS]
    for key in tree.keys:
        met = any(_may_meet(glob, key) for glob in globs)
        tree.cases["a key that nobody sets"] += key not in tree.named and not met
        tree.cases["a glob beside a line that names the key"] += key in tree.named and met


def _may_meet(glob: str, key: str) -> bool:
    """Whether a glob may match a key; where that is hard to say, it may."""
    if "{" in glob or "[[" in glob:
        return glob.partition("/")[0] == key.partition("/")[0]
    parts, names = glob.split("/"), key.split("/")
    return len(parts) == len(names) and all(map(fnmatch.fnmatchcase, names, parts))
