"""Frozen records: what measurements, findings and reports are made of."""

from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field
from typing import Any, ClassVar, TypeVar, cast, dataclass_transform

T = TypeVar("T")


class _Signature:
    """How a class is called, for those who ask (help(), property-based tests): made when it is asked for."""

    def __get__(self, _instance: object, owner: "type[_Frozen]") -> Any:  # noqa: ANN401 - inspect.Signature
        from inspect import Parameter, Signature

        kinds = {True: Parameter.KEYWORD_ONLY, False: Parameter.POSITIONAL_OR_KEYWORD}
        parameters = []
        for name, each in owner.__dataclass_fields__.items():
            has_default = each.default is not MISSING or each.default_factory is not MISSING
            default = ... if has_default else Parameter.empty
            parameters.append(Parameter(name, kinds[bool(each.kw_only)], default=default, annotation=each.type))
        return Signature(parameters)


class _Frozen:
    """What all our dataclasses share: `@dataclass(frozen=True)` would compile it anew for each class.

    That takes longer, for the hundred classes of a run, than all else that the run imports of ours.
    """

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    __signature__ = _Signature()

    def __init__(self, *given: Any, **named: Any) -> None:  # noqa: ANN401 - of the types of the fields
        fields = self.__dataclass_fields__
        if not given and named.keys() == fields.keys():
            for name, value in named.items():  # the usual case, of a hundred thousand sockets too
                object.__setattr__(self, name, value)
            self.__post_init__()
            return
        if given:
            names = [name for name, each in fields.items() if not each.kw_only]
            if len(given) > len(names) or not named.keys().isdisjoint(names[: len(given)]):
                message = f"{type(self).__name__} takes {', '.join(names) or 'nothing by position'}, each once"
                raise TypeError(message)
            named.update(zip(names, given, strict=False))
        for name, each in fields.items():
            object.__setattr__(self, name, named.pop(name) if name in named else self._default(each))
        if named:
            message = f"{type(self).__name__} has no {', '.join(named)}"
            raise TypeError(message)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Whatever a class wants of its values."""

    def _default(self, missing: Field[Any]) -> Any:  # noqa: ANN401
        if missing.default is not MISSING:
            return missing.default
        if missing.default_factory is not MISSING:
            return missing.default_factory()
        message = f"{type(self).__name__} without its {missing.name}"
        raise TypeError(message)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__dataclass_fields__)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in self.__dataclass_fields__))

    def __repr__(self) -> str:
        shown = [name for name, each in self.__dataclass_fields__.items() if each.repr]
        said = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{type(self).__name__}({said})"

    def __setattr__(self, name: str, content: object) -> None:
        # Whoever makes one without calling it, as a decoder does, sets each field once.
        if hasattr(self, name):
            message = f"cannot assign to field {name!r}"
            raise FrozenInstanceError(message)
        object.__setattr__(self, name, content)

    def __delattr__(self, name: str) -> None:
        message = f"cannot delete field {name!r} of {type(self).__name__}"
        raise FrozenInstanceError(message)


def _made(cls: type[T], *, kw_only: bool) -> type[T]:
    """The class as a frozen dataclass with slots, with the methods that all share."""
    own = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    bases = tuple(base for base in cls.__bases__ if base is not object)
    if not issubclass(cls, _Frozen):
        bases = (_Frozen, *bases)
    based = cast("type[T]", type(cls.__name__, bases, own | {"__qualname__": cls.__qualname__}))
    return dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(based)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """Make a frozen dataclass with slots."""
    return _made(cls, kw_only=False)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def named(cls: type[T]) -> type[T]:
    """Make a frozen dataclass with slots whose fields are given by name."""
    return _made(cls, kw_only=True)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def measurement(cls: type[T]) -> type[T]:
    """Make a measurement type: frozen, with fields given by name, and without NaN and numbers beyond MOST.

    Units stand in the names of its fields; its docstring says where the figures come from.
    """
    if "__post_init__" not in cls.__dict__:
        cls.__post_init__ = refuse_absurd  # type: ignore[attr-defined]
    return _made(cls, kw_only=True)


AMOUNT_LIMIT = 2**63 - 1
"""What every reader of a report takes for a whole number."""
MOST = 1e60
"""No quantity of a computer is larger, and what checks calculate from smaller ones stays finite."""


def refuse_absurd(self: object) -> None:
    """Raise ValueError when a field of a dataclass is NaN or beyond MOST: JSON has no NaN and infinity."""
    for name in self.__dataclass_fields__:  # type: ignore[attr-defined]
        value = getattr(self, name)
        if isinstance(value, float) and not -MOST <= value <= MOST:
            message = f"{type(self).__name__}.{name} is {value}: what was not measured is Absent"
            raise ValueError(message)
