"""The instrument that measures Redis servers, and how they are named."""

from vdscheck.plugin import Argument, Instrument, Matter, Option

REDIS = Option(
    "redis",
    help="Examine this Redis (repeatable); with a password better by VDSCHECK_REDIS_URL.",
    takes="texts",
    metavar="URL",
    matter=Matter.REACH,
    target="host",
    commands=("run",),
    is_place=True,
    variable="VDSCHECK_REDIS_URL",
)
ALONE = Instrument(
    "redis",
    help="Measure a Redis server alone, live: its latency, and which part of the way makes it.",
    checks=("redis.*",),
    probe="redis.latency",
    argument=Argument("redis", "URL", "This server; with a password better by VDSCHECK_REDIS_URL.", is_place=True),
)
