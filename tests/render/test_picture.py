"""The pictures in README are drawn from golden captures, and from nothing else."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from tests.support.project import PROJECT

PICTURES = {"docs/report.svg": "middling.1.text-colour.80", "docs/fix.svg": "mended.fix-colour.80"}


@pytest.mark.parametrize("file", PICTURES)
def test_the_picture_is_what_the_script_draws(file: str) -> None:
    command = [sys.executable, "scripts/picture", "--print", file]
    drawn = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True)
    assert drawn.stdout == (PROJECT / file).read_bytes()


@pytest.mark.parametrize(("file", "capture"), PICTURES.items())
def test_the_picture_says_what_the_capture_says_and_fetches_nothing(file: str, capture: str) -> None:
    root = ET.fromstring((PROJECT / file).read_text())
    said = "".join(element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text"))
    captured = re.sub(r"\x1b\[[0-9;]*m", "", (PROJECT / "tests/golden" / capture).read_text())
    assert "".join(said.split()) == "".join(captured.split())
    assert (PROJECT / file).read_text().count("http") == 1
