"""As whom PostgreSQL may run: it refuses root, and a user without a name."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

from shared.runtime.embedded.process import EmbeddedServerError, Identity


def choose(binary: Path, folder: Path) -> Identity:
    """The identity for a PostgreSQL that keeps its files in `folder` (existing, made by us).

    An ordinary user with a name runs it as himself. Root gives the folder to `nobody` (or `SIGNALBOX_PG_RUN_AS`); where that
    user cannot run the binary or enter the folder, a user namespace in which the caller carries that user's number is used, so
    that no parent folder has to be opened. The same namespace serves users without an entry in the user database.
    """
    if os.geteuid() != 0 and _has_name(os.geteuid()):
        return Identity()
    user = _run_as()
    if os.geteuid() == 0:
        demoted = Identity(uid=user.pw_uid, gid=user.pw_gid, file_uid=user.pw_uid, file_gid=user.pw_gid)
        os.chown(folder, user.pw_uid, user.pw_gid)
        if _can_work(demoted, binary, folder):
            return demoted
        os.chown(folder, 0, 0)
    unshare = shutil.which("unshare")
    if unshare:
        mapped = Identity((unshare, "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}", "--"))
        if _can_work(mapped, binary, folder):
            return mapped
    raise EmbeddedServerError(
        f"PostgreSQL cannot run here: it refuses root and users without a name, the user {user.pw_name!r} cannot reach both"
        f" {binary} and {folder}, and user namespaces are not allowed. Use a home and an installation that are not below"
        " a closed folder, name a user by SIGNALBOX_PG_RUN_AS, or give a server by SIGNALBOX_DATABASE_URL."
    )


def take_over(folder: Path, identity: Identity) -> None:
    """Give all files below `folder` to the identity, when they were made under another one; only while no server runs."""
    wrong = [path for path in (folder, *folder.rglob("*")) if path.lstat().st_uid != identity.file_uid]
    for path in wrong:
        try:
            os.chown(path, identity.file_uid, identity.file_gid, follow_symlinks=False)
        except PermissionError as error:
            raise EmbeddedServerError(f"{path} belongs to another user, and this one may not change that") from error


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _run_as() -> pwd.struct_passwd:
    name = os.environ.get("SIGNALBOX_PG_RUN_AS") or "nobody"
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise EmbeddedServerError(f"SIGNALBOX_PG_RUN_AS: this machine has no user {name!r}") from None


def _can_work(identity: Identity, binary: Path, folder: Path) -> bool:
    script = 'test "$(id -u)" != 0 && "$0" --version >/dev/null && test -x "$1" && test -w "$1"'
    try:
        return identity.run(["sh", "-c", script, binary, folder]).returncode == 0
    except (OSError, ValueError):
        return False
