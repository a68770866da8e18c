"""`GET /a/{token}` and `POST /a/{token}`: a page without scripts, and a form that asks for the code of the message."""

from __future__ import annotations

from html import escape
from urllib.parse import parse_qs

from starlette.responses import HTMLResponse, Response

from services.gateway import oneclick
from services.gateway.api.base import Call, answer, authenticate
from services.gateway.errors import Problem
from services.gateway.oneclick import Given, Pressed
from shared.contracts.strict import Unacceptable, decode

_STATUS = {
    "open": 200, "done": 200, "unknown": 404, "expired": 410, "used": 409, "locked": 429, "no_code": 403, "wrong_code": 403,
    "not_yours": 403, "stale": 409, "invalid": 422, "unknown_group": 422, "unknown_agent": 422,
}  # fmt: skip
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
}
_FIELDS = ("code", "to", "text")


async def show(call: Call) -> Response:
    """GET /a/{token}: what the link would do; never acts."""
    token = call.request.path_params["token"]
    return _answer(call, await call.context.query(lambda connection: oneclick.look(connection, token)))


async def press(call: Call) -> Response:
    """POST /a/{token}: acts once, with the code of the message or the key of the person it was sent to."""
    fields = await _fields(call)
    given = Given(fields.get("code", ""), await _signed_in(call), fields.get("to", ""), fields.get("text", ""))
    token, deps = call.request.path_params["token"], call.context.deps
    pressed = await call.context.query(
        lambda connection: oneclick.press(deps, connection, token, given, call.correlation)
    )
    return _answer(call, pressed)


async def _signed_in(call: Call) -> str | None:
    if "authorization" not in call.request.headers:
        return None
    principal = await authenticate(call.context, call.request)
    if principal.person is None:
        raise Problem(403, "forbidden", "this key belongs to no person")
    return principal.person


async def _fields(call: Call) -> dict[str, str]:
    body = await call.body(64 << 10)
    if call.request.headers.get("content-type", "").startswith("application/json"):
        fields = decode(body, dict[str, str])
    else:
        try:
            pairs = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=20)
        except ValueError as error:
            raise Unacceptable("", "not a form in UTF-8") from error
        fields = {name: values[0] for name, values in pairs.items()}
    strange = sorted(set(fields) - set(_FIELDS))
    if strange:
        raise Unacceptable(f"/{strange[0][:50]}", "unknown field")
    if any("\0" in value for value in fields.values()):
        raise Unacceptable("", "a field holds a NUL character")
    return fields


def _answer(call: Call, pressed: Pressed) -> Response:
    status = _STATUS.get(pressed.code, 409)
    if "application/json" in call.request.headers.get("accept", ""):
        if status >= 400:
            raise Problem(status, pressed.code, pressed.why or _WORDS["en"].get(pressed.code, pressed.code))
        assert pressed.link is not None
        assert pressed.ticket is not None
        return answer(
            {"state": pressed.code, "action": pressed.link.action, "ticket": pressed.ticket.number},
            headers={"Cache-Control": "no-store"},
        )
    language = "zh" if call.request.headers.get("accept-language", "zh").startswith("zh") else "en"
    return HTMLResponse(page(pressed, language), status, headers=_HEADERS)


# ---- the page -------------------------------------------------------------------------------------------------------------

_WORDS = {
    "zh": {
        "accept": "受理工单", "decline": "退回工单", "transfer": "转派工单", "note": "添加备注", "acknowledge": "确认升级",
        "code": "消息中的验证码", "to": "转给（组或人员）", "text": "内容", "reason": "原因（可不填）", "go": "确认",
        "done": "已完成", "unknown": "没有这个链接", "expired": "链接已过期，请在系统中操作", "used": "这一步已经做过了",
        "locked": "验证码输错次数过多，链接已关闭，请在系统中操作", "no_code": "请输入消息中的验证码",
        "wrong_code": "验证码不对", "not_yours": "这个链接是发给别人的", "stale": "这条消息所说的分派已经结束",
        "status": "状态", "with": "负责人", "nobody": "暂无",
    },
    "en": {
        "accept": "Accept the ticket", "decline": "Decline the ticket", "transfer": "Transfer the ticket", "note": "Add a note",
        "acknowledge": "Acknowledge the escalation", "code": "Code in the message", "to": "To (a group or a person)",
        "text": "Text", "reason": "Reason (optional)", "go": "Confirm", "done": "Done", "unknown": "there is no such link",
        "expired": "this link has expired; use the application", "used": "this was done already",
        "locked": "too many wrong codes: this link is closed; use the application",
        "no_code": "give the code that is printed in the message", "wrong_code": "that is not the code",
        "not_yours": "this link was sent to somebody else", "stale": "the assignment this message was about is over",
        "status": "Status", "with": "With", "nobody": "nobody",
    },
}  # fmt: skip
_FORM = frozenset(("open", "no_code", "wrong_code", "invalid", "unknown_group", "unknown_agent"))


def page(pressed: Pressed, language: str) -> str:
    """The page in one language: what the link is for, and a form while it can still be used."""
    words, link, ticket = _WORDS[language], pressed.link, pressed.ticket
    title = words["unknown"] if link is None or ticket is None else f"{ticket.number} · {words[link.action]}"
    parts = [f"<h1>{escape(title)}</h1>"]
    if link is not None and ticket is not None:
        holder = ticket.assignee or words["nobody"]
        parts.append(f"<p>{words['status']}: {escape(ticket.status)} · {words['with']}: {escape(holder)}</p>")
        said = " ".join(one for one in (words.get(pressed.code, ""), pressed.why) if one)
        if pressed.code != "open" and said:
            parts.append(f'<p role="status"><strong>{escape(said)}</strong></p>')
        if pressed.code in _FORM:
            parts.append(_form(link.action, words))
    return (
        f'<!doctype html><html lang="{language}"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>body{{font:17px/1.5 system-ui;max-width:26rem;margin:2rem auto;padding:0 1rem}}"
        "label{display:block;margin:1rem 0}input,textarea{display:block;width:100%;font:inherit;padding:.4rem;"
        "box-sizing:border-box}"
        f"button{{font:inherit;padding:.5rem 2rem}}</style>{''.join(parts)}</html>"
    )


def _form(action: str, words: dict[str, str]) -> str:
    fields = [
        f'<label>{words["code"]}<input name="code" required inputmode="numeric" pattern="[0-9]{{6}}" autocomplete="off"></label>'
    ]
    if action == "transfer":
        fields.append(f'<label>{words["to"]}<input name="to" required></label>')
    if action == "note":
        fields.append(f'<label>{words["text"]}<textarea name="text" required></textarea></label>')
    elif action in ("transfer", "decline"):
        fields.append(f'<label>{words["reason"]}<input name="text"></label>')
    return f'<form method="post">{"".join(fields)}<button>{words["go"]}</button></form>'
