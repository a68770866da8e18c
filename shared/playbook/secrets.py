"""Where a playbook's secrets come from: the environment or a file, read when they are needed and never stored."""

from __future__ import annotations

from collections.abc import Mapping

from shared.playbook.messages import SecretRef
from shared.runtime import chance


class MissingSecret(LookupError):
    """A secret that a playbook names is not there; the text says where it was looked for."""


def read(ref: SecretRef) -> str:
    """The value of a secret. Raises `MissingSecret`."""
    if ref.env is not None:
        value = chance.environment(ref.env)
        if value is None:
            raise MissingSecret(f"the environment variable {ref.env} is not set")
        return value
    try:
        return chance.file_text(str(ref.file))
    except OSError as error:
        raise MissingSecret(f"{ref.file}: {error.strerror}") from error


def known(refs: Mapping[str, SecretRef]) -> dict[str, str]:
    """Those that are there. Whoever verifies by one that is missing believes nobody."""
    found: dict[str, str] = {}
    for name, ref in refs.items():
        try:
            found[name] = read(ref)
        except MissingSecret:
            continue
    return found
