"""`signalbox explain FILE`: what would happen to tickets that do not exist yet. Pure; nothing is written, no server is needed."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from services.control import publish
from services.control.cli import Failure
from services.router.domain.classify import Classifier
from shared.contracts import intake as wire
from shared.contracts.strict import Unacceptable, decode
from shared.playbook.lanes import lane_rules
from shared.runtime.clock import utc_now


def foresee(path: Path, playbook: str | None) -> int:
    """Print one JSON object for each line: classification with reasons, lane, and the group's people."""
    if not path.exists() or path.is_dir():
        raise Failure(f"explain: {path} is no ticket and no file")
    now = utc_now()
    version = publish.load(playbook or "selected", publish.years_around(now)).playbook
    classifier, failed = Classifier(version.routing, version.schema), 0
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            ticket = decode(line, wire.TicketIn)
        except Unacceptable as error:
            print(f"signalbox: {path}:{number}: {error.fault.pointer or '/'}: {error.fault.reason}", file=sys.stderr)
            failed += 1
            continue
        posted = msgspec.to_builtins(ticket)
        found = classifier.classify(classifier.facts(posted, ticket.opened_at or now))
        group = version.document.groups.get(found.group.value)
        answer = {
            "line": number,
            "subject": ticket.subject,
            "lane": lane_rules(version).at_intake(posted),
            "classification": found.as_dict(),
            "candidates": [] if group is None else list(group.members),
        }
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    return 1 if failed else 0
