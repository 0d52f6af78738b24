"""A report to a file is whole, and where it cannot replace the file it is written into it."""

import errno
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from vdscheck import output


def refusing(number: int) -> Any:
    def refuse(*_args: Any, **_more: Any) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize(
    ("what", "number"),
    [("tempfile.mkstemp", errno.EACCES), ("tempfile.mkstemp", errno.EROFS), ("os.replace", errno.EBUSY)],
    ids=["a folder of somebody else", "a folder that is read-only", "a file that is a mount of its own"],
)
def test_a_file_that_cannot_be_replaced_is_written_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, number: int
) -> None:
    (tmp_path / "report.json").write_bytes(b"an older and longer report")
    monkeypatch.setattr(what, refusing(number))
    output.to_file(str(tmp_path / "report.json"), b"the report")
    monkeypatch.undo()
    assert (tmp_path / "report.json").read_bytes() == b"the report"
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_file_that_does_not_exist_yet_needs_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.mkstemp", refusing(errno.EACCES))
    with pytest.raises(output.OutputError, match="Permission denied"):
        output.to_file(str(tmp_path / "report.json"), b"the report")
