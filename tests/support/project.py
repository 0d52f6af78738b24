"""Where the project is whose tests these are."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
