"""Writes the documents that are made from the models; tests hold that what is committed is what this writes."""

from __future__ import annotations

import json
from pathlib import Path

from shared.contracts import topics

FOLDER = Path(__file__).resolve().parents[2] / "docs"


def main() -> None:
    """Write all of them."""
    text = json.dumps(topics.asyncapi("1"), indent=1, ensure_ascii=False)
    (FOLDER / "asyncapi.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
