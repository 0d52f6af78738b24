"""The frozen values that everything is made of: given once, compared by content, and never changed."""

import copy
import inspect
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck.model.records import frozen, measurement, named


@frozen
class Point:
    """Two numbers."""

    x: int
    y: int = 2
    names: list[str] = field(default_factory=list)


@frozen
class Point3(Point):
    """And a third."""

    z: int = 3

    @property
    def total(self) -> int:
        """All of them."""
        return self.x + self.y + self.z


@named
class Named:
    """Given by name."""

    a: int
    b: str = "b"


@measurement
class Measured:
    """A number with a unit."""

    rtt_us: float


def test_values_are_given_by_position_or_by_name() -> None:
    assert Point(1) == Point(x=1, y=2, names=[])
    assert Point3(1, 5, [], 7).total == 13
    assert Named(a=1).b == "b"
    assert repr(Named(a=1)) == "Named(a=1, b='b')"
    assert [each.name for each in fields(Point3)] == ["x", "y", "names", "z"]


@pytest.mark.parametrize("make", [frozen, named, measurement])
def test_a_field_that_is_not_to_be_shown_is_not_shown(make: Callable[[type], type]) -> None:
    class Account:
        """Who logs in."""

        user: str
        password: str = field(repr=False)

    assert repr(make(Account)(user="me", password="hunter2")) == "Account(user='me')"


def test_a_default_that_can_change_is_nobody_elses() -> None:
    Point(1).names.append("mine")
    assert Point(1).names == []


@pytest.mark.parametrize(
    ("kind", "given", "named_values"),
    [
        (Point, (), {}),
        (Point, (1, 2, [], 4), {}),
        (Point, (1,), {"x": 1}),
        (Point, (1,), {"w": 1}),
        (Named, (1,), {}),
        (Named, (), {}),
        (Measured, (), {}),
    ],
)
def test_what_is_given_wrongly_is_refused(kind: type, given: tuple[int, ...], named_values: dict[str, int]) -> None:
    with pytest.raises(TypeError):
        kind(*given, **named_values)


def test_nothing_changes_once_it_is_there() -> None:
    point = Point(1)
    with pytest.raises(FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del point.x
    with pytest.raises(AttributeError):
        point.other = 2  # type: ignore[attr-defined]
    assert replace(point, x=3) == Point(3)
    assert point == Point(1)


def test_values_are_the_same_when_their_class_and_content_are() -> None:
    assert Named(a=1) == Named(a=1)
    assert hash(Named(a=1)) == hash(Named(a=1))
    assert Named(a=1) != Named(a=2)
    assert Point(1) != Point3(1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_measurement_is_a_number(value: float) -> None:
    with pytest.raises(ValueError, match="not measured"):
        Measured(rtt_us=value)
    assert Measured(rtt_us=0.0).rtt_us == 0


def test_how_a_value_is_made_can_be_asked() -> None:
    assert str(inspect.signature(Point)) == "(x: int, y: int = Ellipsis, names: list[str] = Ellipsis)"
    assert str(inspect.signature(Measured)) == "(*, rtt_us: float)"


@given(st.builds(Named, a=st.integers()), st.builds(Point), st.builds(Measured, rtt_us=st.floats(0, 1)))
def test_values_can_be_made_up(one: Named, two: Point, three: Measured) -> None:
    assert isinstance(one.a + two.x, int)
    assert three.rtt_us >= 0


def test_values_can_be_copied() -> None:
    assert copy.deepcopy(Point(1)) == Point(1)
    assert pickle.loads(pickle.dumps(Named(a=1))) == Named(a=1)
