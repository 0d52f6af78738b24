"""Builds the report: one value from which every output format is made."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from vdscheck.catalogue.declarations import HeaderEntry
from vdscheck.judge.judge import Judged
from vdscheck.judge.score import score
from vdscheck.model.absence import Reason, unmeasured
from vdscheck.model.fixes import FixRecord
from vdscheck.model.report import SCHEMA_VERSION, Measurements, Report, RulesetNote, Run, TargetNote, Tool
from vdscheck.plugin import Facts
from vdscheck.target.interface import TargetKind


def build(
    *,
    version: str,
    run: Run,
    target: TargetNote,
    ruleset: RulesetNote,
    judged: Judged,
    measurements: Measurements,
    warnings: Sequence[str],
) -> Report:
    """The report of one run, without gates."""
    return Report(
        schema_version=SCHEMA_VERSION,
        tool=Tool("vdscheck", version),
        ruleset=ruleset,
        run=run,
        target=target,
        score=judged.score,
        gates=(),
        findings=judged.findings,
        fix=None,
        measurements=dict(measurements),
        warnings=(*warnings, *judged.warnings),
    )


def fix_of_nothing(
    outcome: Literal["refused", "undecided", "declined"], why: str, score_before: int | None = None
) -> FixRecord:
    """A fix that came to no plan."""
    return FixRecord(
        id=None,
        outcome=outcome,
        detail=why,
        score_before=score_before,
        score_promised=None,
        changes=(),
        left_alone=(),
    )


NOT_BEGUN = "the run was ended before anything was planned"


def of_nothing(version: str, run: Run, kind: TargetKind, why: str, *, plans: bool) -> Report:
    """The report of a run that was ended before anything was examined, and perhaps planned."""
    found = build(
        version=version,
        run=run,
        target=target_note(kind, None, {}),
        ruleset=RulesetNote("none", (), {}),
        judged=Judged((), score(()), (), ()),
        measurements={},
        warnings=(why,),
    )
    return replace(found, fix=fix_of_nothing("declined", NOT_BEGUN)) if plans else found


def new_run_id() -> str:
    """An id for a run that no other run has."""
    return os.urandom(6).hex()


def target_note(
    kind: TargetKind, header: HeaderEntry | None, measurements: Measurements, *, name: str = "unnamed", root: str = "/"
) -> TargetNote:
    """What the report says of the target that was examined; `name` is what it is called where nothing measured says it.

    `root` is the folder that was examined instead of the running host.
    """
    facts = Facts() if header is None else header.header.function(**_arguments(header, measurements))
    return TargetNote(
        kind=kind,
        name=facts.name or name,
        machine_id=facts.machine_id,
        boot_id=facts.boot_id,
        os=facts.os,
        kernel=facts.kernel,
        virtualization=facts.virtualization,
        cpu_model=facts.cpu_model,
        cpus=facts.cpus,
        memory_bytes=facts.memory_bytes,
        root=None if root == "/" else root,
        nodes=facts.nodes,
    )


def _arguments(header: HeaderEntry, measurements: Measurements) -> dict[str, Any]:
    """For each parameter the measurement of its type, or what stands for it."""
    found: dict[str, Any] = {}
    for name, kind in header.kinds.items():
        value = next((taken.value for taken in measurements.values() if isinstance(taken.value, kind)), None)
        nothing = unmeasured(Reason.NOT_RUN, "it was not measured") if kind in header.always else None
        found[name] = nothing if value is None else value
    return found
