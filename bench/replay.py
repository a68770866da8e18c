"""Replay: a recorded year through the services, twice, and under two playbooks. `python -m bench replay [--full] [--what-if]`

Reads `events/uci_incident_log.csv.gz` of SIGNALBOX_DATA: all of it with `--full`, else its first cases. Prints time, CPU, memory
and whether two runs saved the same bytes, with a verdict on each. The limits of time are for the whole log on two quiet cores.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CASES = 1_000
REPLAY_SECONDS, WHAT_IF_SECONDS = 150.0, 60.0
Verdict = tuple[str, bool, str]
"""What is promised, whether it holds, the figure."""
GROWTH = 1.25
"""The most memory of the last third of a run, by that of its middle third."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one command took; `resident` are samples of its memory in MB, one each half second."""

    seconds: float
    cpu_seconds: float
    resident: tuple[float, ...]

    @property
    def growth(self) -> float:
        third = max(1, len(self.resident) // 3)
        return max(self.resident[-third:]) / max(self.resident[third : 2 * third] or self.resident)


def main() -> int:
    """0 when two runs are equal and, with the whole log, the limits are kept."""
    parser = argparse.ArgumentParser(prog="bench replay", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the whole log")
    parser.add_argument("--what-if", action="store_true", help="only the comparison of two playbooks")
    args = parser.parse_args()
    data = os.environ.get("SIGNALBOX_DATA")
    log = Path(data or "") / "events" / "uci_incident_log.csv.gz"
    if not data or not log.is_file():
        print("SIGNALBOX_DATA does not name the evaluation data: nothing was measured")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        events = log if args.full else _part(log, Path(folder) / "uci_incident_log_part.csv")
        if args.what_if:
            return _said([_what_if(events, Path(folder), full=args.full)])
        return _measure(events, Path(folder), full=args.full)


def _measure(events: Path, folder: Path, *, full: bool) -> int:
    one, two = folder / "one.json", folder / "two.json"
    runs = [_run(folder, ["replay", str(events), "--out", str(out)]) for out in (one, two)]
    compared = _what_if(events, folder, full=full)
    best = min(runs, key=lambda run: run.seconds)
    print(
        f"load {os.getloadavg()[0]:.1f}; replay {best.seconds:.1f} s, {best.cpu_seconds:.1f} s CPU without the database"
    )
    verdicts: list[Verdict] = [
        ("two runs save the same bytes", one.read_bytes() == two.read_bytes(), ""),
        (
            "memory is flat",
            best.growth <= GROWTH,
            f"most {max(best.resident):.0f} MB, last third / middle {best.growth:.2f}",
        ),
    ]
    if full:
        verdicts.append((f"replay <= {REPLAY_SECONDS:.0f} s", best.seconds <= REPLAY_SECONDS, f"{best.seconds:.1f} s"))
    return _said([*verdicts, compared])


def _what_if(events: Path, folder: Path, *, full: bool) -> Verdict:
    tighter = _tighter(folder / "tighter")
    run = _run(folder, ["replay", str(events), "--against", str(tighter), "--out", str(folder / "whatif.json")])
    return (
        f"what-if <= {WHAT_IF_SECONDS:.0f} s, both sides",
        run.seconds <= WHAT_IF_SECONDS or not full,
        f"{run.seconds:.1f} s, {run.cpu_seconds:.1f} s CPU, load {os.getloadavg()[0]:.1f}",
    )


def _said(verdicts: Sequence[Verdict]) -> int:
    for name, holds, figure in verdicts:
        print(f"{'ok  ' if holds else 'MISS'} {name}{': ' + figure if figure else ''}")
    return 0 if all(holds for _, holds, _ in verdicts) else 1


def _run(folder: Path, arguments: list[str]) -> Run:
    command = [sys.executable, "-m", "services.control.cli", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIGNALBOX_")}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    samples: list[float] = []
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        while True:
            try:
                process.wait(0.5)
                break
            except subprocess.TimeoutExpired:
                samples.append(_resident_mb(process.pid))
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode != 0:
        raise SystemExit((folder / "output.txt").read_text())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(seconds, cpu, tuple(samples) or (0.0,))


def _resident_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * resource.getpagesize() / 1e6


def _tighter(folder: Path) -> Path:
    """The `selected` playbook with half the time for everything ordinary."""
    selected = Path(__file__).parents[1] / "playbooks" / "selected"
    folder.mkdir()
    for file in selected.glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        (folder / file.name).write_text(
            text.replace("first_response: 2h, resolution: 24h", "first_response: 1h, resolution: 12h")
        )
    return folder


def _part(log: Path, out: Path) -> Path:
    """The log's first cases."""
    with (
        gzip.open(log, "rt", encoding="utf-8", newline="") as source,
        out.open("w", encoding="utf-8", newline="") as target,
    ):
        rows, writer, cases = csv.reader(source), csv.writer(target), set[str]()
        writer.writerow(next(rows))
        for row in rows:
            cases.add(row[0])
            if len(cases) > CASES:
                break
            writer.writerow(row)
    return out


if __name__ == "__main__":
    sys.exit(main())
