"""Limits that a configuration sets over those of the profiles."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vdscheck.catalogue.catalogue import SOLD, Catalogue
from vdscheck.ruleset.profile import RulesetError, known_check, nearest
from vdscheck.threshold import AtLeast, Conflict, OneOf, Threshold
from vdscheck.units import UnitError, amount

_SET = "house: set in the configuration"


def override(
    limits: dict[str, dict[str, Threshold | Conflict]], table: Mapping[str, Any], catalogue: Catalogue
) -> None:
    """Put the limits of a `[limits]` table over those that are there. Raises RulesetError."""
    for check_id, named in table.items():
        entry = known_check(check_id, catalogue, "[limits]")
        for name, written in named.items():
            where = f'[limits."{check_id}"] {name}'
            need = entry.need(name)
            if need is None:
                names = [each.name for each in entry.needs if each.kind == "threshold"]
                message = f"{where}: {check_id} has no limit {name}; it has {', '.join(names) or 'none'}"
                raise RulesetError(message)
            before = limits.get(check_id, {}).get(name)
            if before is None and need.bears_absence:
                limits[check_id] = {**limits.get(check_id, {}), name: _stated(need.type, written, where)}
                continue
            if before is None or isinstance(before, Conflict):
                message = f"{where}: no chosen profile has this limit, so its unit is not known"
                raise RulesetError(message)
            limits[check_id] = {**limits[check_id], name: _overridden(before, written, where)}


def _stated(kind: Any, written: Any, where: str) -> Threshold:  # noqa: ANN401 - a type of threshold
    """A limit that no profile has, since only the user can say it: `"3 nodes"`, or a list of values."""
    if kind is OneOf:
        return _overridden(OneOf(values=("",), unit="", source=_SET), written, where)
    number, _, unit = str(written).strip().partition(" ")
    try:
        limit = float(number)
        whole = int(limit) if limit.is_integer() else limit
        made: Threshold = kind(pass_limit=whole, unit=unit.strip(), source=_SET)
    except ValueError as error:
        message = f'{where}: {written!r} is not an amount: write "3 nodes", for example'
        raise RulesetError(message) from error
    return made


def _overridden(before: Threshold, written: Any, where: str) -> Threshold:  # noqa: ANN401
    if isinstance(before, OneOf):
        values = tuple(written) if isinstance(written, list) else (written,)
        if not values or not all(isinstance(value, int | str) for value in values):
            message = f"{where}: a value, or a list of values, is wanted"
            raise RulesetError(message)
        return replace(before, values=values, source=_SET)
    stages = written if isinstance(written, dict) else {"pass": written}
    if not set(stages) <= {"pass", "fail"} or "pass" not in stages:
        message = f'{where}: write "10 {before.unit}" or {{pass = "...", fail = "..."}}'
        raise RulesetError(message)
    try:
        amounts = {stage: _amount(value, before.unit) for stage, value in stages.items()}
        unmet = "fail" if "fail" in amounts else before.unmet
        return replace(before, pass_limit=amounts["pass"], fail_limit=amounts.get("fail"), unmet=unmet, source=_SET)
    except ValueError as error:
        message = f"{where}: {error}"
        raise RulesetError(message) from error


def _amount(written: Any, unit: str) -> float:  # noqa: ANN401
    if isinstance(written, int | float) and not isinstance(written, bool):
        if unit:
            message = f'a limit without its unit: write "{written} {unit}"'
            raise UnitError(message)
        return written
    return amount(str(written), unit)


def offer_of(
    limits: dict[str, dict[str, Threshold | Conflict]], offer: Mapping[str, Any], catalogue: Catalogue
) -> None:
    """Put what was bought, of an `[offer]` table, over the limits that are there. Raises RulesetError."""
    for key, written in offer.items():
        if key not in catalogue.offer:
            message = f"[offer] {key} is not a known key: {nearest(key, list(catalogue.offer))}"
            raise RulesetError(message)
        of_key = catalogue.offer[key]
        try:
            bought = float(written) if isinstance(written, int) else amount(str(written), of_key.unit)
            if bought <= 0:
                message = "more than nothing was bought"
                raise UnitError(message)
            sold = AtLeast(pass_limit=bought, unit=of_key.unit, source="offer: what was bought, from [offer]")
        except ValueError as error:
            message = f"[offer] {key}: {error}"
            raise RulesetError(message) from error
        limits[of_key.check] = {SOLD: sold}
