"""Each kind of fix of this project is found by the catalogue, and the documents name the file that it writes."""

import importlib
import pkgutil

from tests.support.project import PROJECT
from vdscheck import fixes
from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.fix_kind import FixKind


def written() -> dict[str, type[FixKind]]:
    """The kinds that the modules below vdscheck/fixes define, by their names."""
    found: dict[str, type[FixKind]] = {}
    for module in pkgutil.walk_packages(fixes.__path__, f"{fixes.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, FixKind) and value is not FixKind:
                found[value.name] = value
    return found


def test_each_kind_is_found(catalogue: Catalogue) -> None:
    """The tests of a kind hand it to the engine themselves, and pass without that."""
    assert {"sysctl", "huge-pages"} <= set(written())
    assert {name: type(kind) for name, kind in catalogue.kinds.items()} == written()


def test_the_documents_name_what_each_kind_writes() -> None:
    for name in ("fix", "security"):
        text = (PROJECT / f"docs/{name}.md").read_text()
        for kind in written().values():
            assert f"`{kind.file}`" in text, (name, kind.file)
