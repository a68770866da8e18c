"""Crash points: armed by name and number, free otherwise, and all of them known."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.runtime.crash import POINTS, BadCrashPoint, crash_point, read_environment

ROOT = Path(__file__).resolve().parents[3]
PASS_THREE_TIMES = """
from shared.runtime.crash import crash_point
for turn in range(1, 4):
    crash_point("lane.claimed")
    crash_point("lane.saved")
    print(turn, flush=True)
"""


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PASS_THREE_TIMES],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("environment", "printed", "code"),
    [
        ({}, "123", 0),
        ({"SIGNALBOX_CRASH": "lane.saved:2"}, "123", 0),
        ({"SIGNALBOX_CRASH": "lane.saved:2", "SIGNALBOX_TEST_MODE": "1"}, "1", -signal.SIGKILL),
        ({"SIGNALBOX_CRASH": "lane.claimed", "SIGNALBOX_TEST_MODE": "1"}, "", -signal.SIGKILL),
        ({"SIGNALBOX_CRASH": "lane.saved:4", "SIGNALBOX_TEST_MODE": "1"}, "123", 0),
        ({"SIGNALBOX_CRASH": "delivery.called:1", "SIGNALBOX_TEST_MODE": "1"}, "123", 0),
    ],
)
def test_a_process_dies_at_its_point_and_passing_and_in_test_mode_alone(
    environment: dict[str, str], printed: str, code: int
) -> None:
    done = run(**environment)
    assert (done.stdout.replace("\n", ""), done.returncode) == (printed, code)


@pytest.mark.parametrize("text", ["no.such.point:1", "lane.saved:0", "lane.saved:-1", "lane.saved:x", ":1"])
def test_a_name_or_number_that_means_nothing_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(BadCrashPoint, match=r"lane\.saved"):
        read_environment({"SIGNALBOX_TEST_MODE": "1", "SIGNALBOX_CRASH": text})


def test_points_are_free_when_nothing_is_armed() -> None:
    assert read_environment({}) is None
    for name in POINTS:
        crash_point(name)


def _passed() -> Iterator[tuple[str, str]]:
    for area in ("shared", "services"):
        for path in sorted((ROOT / area).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "crash_point":
                    argument = node.args[0]
                    name = argument.value if isinstance(argument, ast.Constant) else ast.unparse(argument)
                    yield str(name), str(path.relative_to(ROOT))


def test_every_point_in_the_code_is_known_by_name() -> None:
    unknown = [(name, place) for name, place in _passed() if name not in POINTS]
    assert unknown == []
