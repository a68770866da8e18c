"""Attachments: `POST` a file as it is (`?name=`), or as the first file of a form; `GET` the list, or one file's bytes."""

from __future__ import annotations

from email.message import Message
from typing import Any
from urllib.parse import quote

import msgspec
from sqlalchemy import Connection
from starlette.responses import Response

from services.gateway import attachments, queries
from services.gateway.admission import overloaded
from services.gateway.api.base import Call, answer, page
from services.gateway.api.tickets import ticket_id
from services.gateway.errors import Problem
from shared.access.present import hidden
from shared.contracts.strict import Fault

FIELD = "attachments"
"""The path by which a playbook's masks name attachments."""
STORE: attachments.Store = attachments.PostgresStore()
SECONDS = 20.0
"""Twenty megabytes may take longer than other calls."""
_FORM_SLACK = 64 << 10


async def create(call: Call) -> Response:
    """POST /v1/tickets/{id}/attachments"""
    wanted = ticket_id(call)
    if not call.principal.actions & {"note", "customer_reply"}:
        raise Problem(403, "forbidden", "this key may not attach anything")
    actor = call.actor()
    if call.context.batches.locked():
        raise overloaded()
    async with call.context.batches:
        name, data = await _file(call)

        def work(connection: Connection) -> tuple[attachments.Attachment, bool] | attachments.Refused | None:
            return attachments.attach(call.context.deps, STORE, connection, wanted, name, data, actor, call.correlation)

        done = await call.context.query(work, seconds=SECONDS)
    if done is None:
        raise Problem(404, "not_found", "no such ticket")
    if isinstance(done, attachments.Refused):
        raise Problem(409, done.code, done.reason)
    found, new = done
    where = f"/v1/tickets/{wanted}/attachments/{found.id}"
    return answer(msgspec.to_builtins(found), 201 if new else 200, {"Location": where})


async def listing(call: Call) -> Response:
    """GET /v1/tickets/{id}/attachments"""
    call.need("read")
    wanted = ticket_id(call)

    def work(connection: Connection) -> list[dict[str, Any]]:
        masks = queries.masks(call.context.deps, connection)
        queries.ticket(call.context.deps, connection, wanted, call.principal)  # 404 when there is none
        found = [msgspec.to_builtins(one) for one in attachments.listing(connection, [wanted])]
        shown: list[dict[str, Any]] = queries.shaped({FIELD: found}, call.principal, masks).get(FIELD, [])
        return shown

    return answer(page(await call.context.query(work), None))


async def read(call: Call) -> Response:
    """GET /v1/tickets/{id}/attachments/{attachment}: the bytes; a browser saves them and runs nothing."""
    call.need("read")
    wanted, number = ticket_id(call), call.request.path_params["attachment"]

    def work(connection: Connection) -> tuple[attachments.Attachment, bytes]:
        masks = queries.masks(call.context.deps, connection)
        found = attachments.find(connection, wanted, number)
        data = None if found is None else STORE.get(connection, number)
        if found is None or data is None or hidden(FIELD, call.principal, masks):
            raise Problem(404, "not_found", "no such attachment")
        return found, data

    found, data = await call.context.query(work, seconds=SECONDS)
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(found.name, safe='')}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "ETag": f'"{found.sha256}"',
    }
    media = found.media_type + ("; charset=utf-8" if found.media_type == "text/plain" else "")
    return Response(data, 200, headers, media)


# ---- the file of a request ------------------------------------------------------------------------------------------------


async def _file(call: Call) -> tuple[str, bytes]:
    said = _header(call.request.headers.get("content-type", ""))
    if said.get_content_type() == "multipart/form-data":
        boundary = said.get_boundary()
        if not boundary:
            raise Problem(400, "invalid", "a form needs a boundary", errors=[Fault("", "no boundary")])
        name, data = _of_form(await call.body(attachments.MAX_BYTES + _FORM_SLACK), boundary.encode())
    else:
        name, data = "", await call.body(attachments.MAX_BYTES)
    name = call.parameters("name").get("name", name)
    name = name.replace("\\", "/").rpartition("/")[2].strip()
    if len(data) > attachments.MAX_BYTES:
        raise Problem(413, "too_large", f"a file may have {attachments.MAX_BYTES:,} bytes, this one has {len(data):,}")
    if not data:
        raise Problem(422, "invalid", "the file is empty", errors=[Fault("", "the file is empty")])
    if not 1 <= len(name) <= attachments.MAX_NAME or any(ord(letter) < 32 for letter in name):
        fault = Fault("name", f"a file's name has 1 to {attachments.MAX_NAME} characters and no control characters")
        raise Problem(422, "invalid", f"name: {fault.reason}", errors=[fault])
    return name, data


def _header(value: str) -> Message:
    made = Message()
    made["content-type"] = value or "application/octet-stream"
    return made


def _of_form(body: bytes, boundary: bytes) -> tuple[str, bytes]:
    """Name and bytes of the first part of a form that is a file."""
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:]:
        head, blank, data = part.partition(b"\r\n\r\n")
        if not blank:
            continue
        for line in head.decode("utf-8", "replace").splitlines():
            title, _, value = line.partition(":")
            if title.strip().lower() == "content-disposition":
                made = Message()
                made["content-disposition"] = value.strip()
                if (name := made.get_filename()) is not None:
                    return name, data
    raise Problem(422, "invalid", "the form has no file", errors=[Fault("", "no part of the form has a filename")])
