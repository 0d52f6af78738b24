"""The picture in README is drawn from a golden capture, and from nothing else."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PICTURE = PROJECT / "docs/report.svg"


def test_the_picture_is_what_the_script_draws() -> None:
    drawn = subprocess.run([sys.executable, "scripts/picture", "--print"], cwd=PROJECT, capture_output=True, check=True)
    assert drawn.stdout == PICTURE.read_bytes()


def test_the_picture_says_what_the_report_says_and_fetches_nothing() -> None:
    root = ET.fromstring(PICTURE.read_text())
    said = "".join(element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text"))
    captured = (PROJECT / "tests/golden/middling.1.text.80").read_text()
    assert "".join(said.split()) == "".join(captured.split())
    assert PICTURE.read_text().count("http") == 1
