"""The OpenAPI 3.1 document, made from the routes and the structs that the handlers decode, and a page to read it by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import HTMLResponse, Response

from shared.runtime.version import VERSION

if TYPE_CHECKING:
    from services.gateway.app import Endpoint


def openapi(calls: Sequence[Endpoint]) -> dict[str, Any]:
    """The whole document."""
    taking = [call for call in calls if call.body is not None and not call.internal]
    schemas, components = msgspec.json.schema_components(
        [call.body for call in taking], ref_template="#/components/schemas/{name}"
    )
    bodies = {(call.method, call.path): schema for call, schema in zip(taking, schemas, strict=True)}
    paths: dict[str, Any] = {}
    for call in calls:
        if not call.internal:
            paths.setdefault(call.path, {})[call.method.lower()] = _operation(
                call, bodies.get((call.method, call.path))
            )
    components |= {"Problem": _PROBLEM}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Signalbox", "version": VERSION, "description": "Tickets in, decisions and deadlines out."},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{"key": []}],
    }


def _operation(call: Endpoint, body: dict[str, Any] | None) -> dict[str, Any]:
    summary = (call.handler.__doc__ or "").strip().splitlines()[0] if call.handler.__doc__ else call.path
    operation: dict[str, Any] = {
        "summary": summary,
        "operationId": f"{call.handler.__module__.rpartition('.')[2]}_{getattr(call.handler, '__name__', 'call')}",
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)}", call.path)
        ]
        + [{"name": name, "in": "query", "schema": _QUERY.get(name, {"type": "string"})} for name in call.query],
        "responses": {
            "2XX": {"description": "done", "content": {call.gives: {"schema": {}}}},
            "4XX": {"description": "refused", "content": _PROBLEM_CONTENT},
            "5XX": {"description": "to be tried again", "content": _PROBLEM_CONTENT},
        },
    }
    if call.public:
        operation["security"] = []
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {call.takes: {"schema": body}}}
    return operation


_QUERY = {"limit": {"type": "integer", "minimum": 1, "maximum": 500}}
_PROBLEM_CONTENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_PROBLEM = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {"type": "object", "properties": {"pointer": {"type": "string"}, "reason": {"type": "string"}}},
        },
    },
}

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Signalbox API</title>
<style>body{font:15px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}code{background:#eee;padding:.1em .3em}
summary{cursor:pointer}pre{background:#f6f6f6;padding:1rem;overflow:auto}</style>
<h1>Signalbox API</h1><p>The whole description is <a href="/openapi.json">/openapi.json</a> (OpenAPI 3.1).</p><div id="calls"></div>
<script>fetch("/openapi.json").then(r=>r.json()).then(d=>{const root=document.getElementById("calls");
for(const [path,ops] of Object.entries(d.paths))for(const [method,op] of Object.entries(ops)){
const x=document.createElement("details");
const s=document.createElement("summary");const c=document.createElement("code");
c.textContent=method.toUpperCase()+" "+path;s.append(c," "+op.summary);
const p=document.createElement("pre");p.textContent=JSON.stringify(op,null,1);x.append(s,p);root.append(x)}})</script></html>"""


def page() -> Response:
    """A page that lists the calls; it loads nothing from elsewhere."""
    return HTMLResponse(_PAGE)
