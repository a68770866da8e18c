"""The lock file alone makes an installation: a hash for everything, no address, and everything that the project names."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text()


def pins() -> dict[str, str]:
    """Each package's lines by its name."""
    blocks = re.split(r"(?m)^(?=[a-zA-Z0-9])", LOCK)
    return {re.split(r"[=\[ ;]", block, maxsplit=1)[0].lower(): block for block in blocks if block.strip()}


def test_every_package_is_pinned_to_one_version_with_hashes() -> None:
    assert len(pins()) > 60
    for name, block in pins().items():
        assert re.match(r"[a-zA-Z0-9._-]+==[^\s;\\]+", block), name
        assert re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block), name


def test_the_lock_has_no_address_no_index_and_no_file_of_a_machine() -> None:
    assert not re.search(r"https?://|file:|git\+|^-|--(extra-)?index-url|--find-links| @ ", LOCK, re.MULTILINE)


def test_everything_that_the_project_names_is_in_the_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    names = {re.split(r"[\[<>=!~ ;]", one, maxsplit=1)[0].lower() for one in wanted}
    assert names - pins().keys() == set()
