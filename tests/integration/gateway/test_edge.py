"""The edge: whatever is sent, the answer is a problem document that names the place, never a 5xx, and the gateway goes on."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from tests.support.door import OPERATOR, Door

DEEP = b"[" * 100_000 + b"]" * 100_000
DEEP_OBJECTS = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
BAD_BODIES = [
    (b"\xff\xfe", "", "not UTF-8: byte 0 is 0xff"),
    (b'{"subject": "\xe6\x89"}', "", "not UTF-8: byte 13"),
    (b'{"subject": "\xed\xa0\x80"}', "", "not UTF-8"),
    (b'\xef\xbb\xbf{"subject": "a"}', "", "not JSON"),
    (b'{"subject": "a\\u0000b"}', "/subject", "NUL"),
    (b'{"subject": "a\x00b"}', "", "not JSON"),
    (b'{"subject": "\\ud83d"}', "/subject", "lone surrogate"),
    (b'{"subject": "a", "fields": {"x": ["\\udc00"]}}', "/fields/x/0", "lone surrogate"),
    (b'{"subject": "a", "fields": {"\\ud800": 1}}', "/fields", "lone surrogate"),
    (DEEP, "", "nested deeper than 32 (line 1, column 33)"),
    (DEEP_OBJECTS, "", "nested deeper than 32 (line 1, column 161)"),
    (b'{"subject": "a", "fields": {"x": ' + b"[" * 32 + b"]" * 32 + b"}}", "/fields/x" + "/0" * 30, "nested deeper"),
    (b'{"subject": "a", "fields": {"x": ' + b"1" * 5_000 + b"}}", "/fields/x", "64 bits"),
    (b'{"subject": "a", "fields": {"x": -9223372036854775809}}', "/fields/x", "64 bits"),
    (b'{"subject": "a", "fields": {"x": 1e999}}', "/fields/x", "out of range"),
    (b'{"subject": "a", "fields": {"x": NaN}}', "/fields/x", "not a JSON number"),
    (b'{"subject": "a", "fields": {"x": {"y": -Infinity}}}', "/fields/x/y", "not a JSON number"),
    (b'{"subject": "a", "subject": "b"}', "/subject", "stands twice"),
    (b'{"subject": "a", "fields": {"x": [{"k": 1, "k": 1}]}}', "/fields/x/0/k", "stands twice"),
    (b'{"subject": "a", "colour": "red"}', "/colour", "unknown member"),
    (b'{"subject": "a", "requester": {"colour": "red"}}', "/requester/colour", "unknown member"),
    (b'{"subject": 7}', "/subject", "Expected `str`"),
    (b'{"subject": null}', "/subject", "Expected `str`"),
    (b"{}", "/subject", "required"),
    (b"", "", "not JSON"),
    (b"null", "", "Expected `object`"),
    (b"[]", "", "Expected `object`"),
    (b'"subject"', "", "Expected `object`"),
    (b'{"subject": "a"} {"subject": "b"}', "", "not JSON: Extra data (line 1, column 18)"),
    (b"subject=a&source=web", "", "not JSON"),
]
NAMES = [f"{number}-{pointer or reason}"[:40] for number, (_, pointer, reason) in enumerate(BAD_BODIES)]


@pytest.fixture(autouse=True)
def _goes_on(door: Door) -> Iterator[None]:
    before = door.scalar("select count(*) from ledger.ticket")
    yield
    assert door.get("/healthz", key=None).status == 200
    assert door.scalar("select count(*) from ledger.ticket") == before


@pytest.mark.parametrize(("body", "pointer", "reason"), BAD_BODIES, ids=NAMES)
def test_a_bad_body_is_refused_where_it_is_bad(door: Door, body: bytes, pointer: str, reason: str) -> None:
    answer = door.call("POST", "/v1/tickets", body)
    assert answer.status == (422 if pointer else 400)
    assert answer.pointers == [pointer]
    assert reason in answer.json["errors"][0]["reason"]
    assert answer.json["status"] == answer.status
    assert answer.json["type"].startswith("https://")


@pytest.mark.parametrize(("body", "pointer", "reason"), BAD_BODIES, ids=NAMES)
def test_a_bad_line_of_a_batch_is_refused_where_it_is_bad(door: Door, body: bytes, pointer: str, reason: str) -> None:
    answer = door.call("POST", "/v1/tickets/batch", body)
    assert answer.status == 200
    for line in answer.lines():
        assert line["status"] == 422
        assert line["errors"][0]["pointer"] == pointer
        assert reason in line["errors"][0]["reason"]


@pytest.mark.parametrize(("body", "pointer", "reason"), BAD_BODIES[:18], ids=NAMES[:18])
def test_a_bad_body_of_any_other_call_is_refused_too(door: Door, body: bytes, pointer: str, reason: str) -> None:
    some = door.scalar("select max(id) from ledger.ticket") or 1
    for method, path in (("POST", f"/v1/tickets/{some}/actions"), ("PATCH", "/v1/agents/li.na")):
        answer = door.call(method, path, body)
        assert answer.status in (400, 422)
        assert answer.pointers == [pointer]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/xml"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_another_kind_of_content_is_refused(door: Door, headers: dict[str, str]) -> None:
    for method, path in (
        ("POST", "/v1/tickets"), ("POST", "/v1/tickets/batch"), ("POST", "/v1/tickets/1/actions"), ("PATCH", "/v1/agents/li.na"),
    ):  # fmt: skip
        answer = door.call(method, path, b'{"subject": "a"}', headers=headers)
        assert (answer.status, answer.kind) == (415, "application/problem+json")


def hundred_megabytes(piece: int = 1 << 20) -> Iterator[bytes]:
    yield b'{"subject": "'
    for _ in range(100):
        yield b"a" * piece
    yield b'"}'


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["/v1/tickets", "/v1/tickets/batch", "/v1/tickets/1/actions"])
def test_a_body_of_a_hundred_megabytes_is_refused_without_being_kept(door: Door, path: str, chunked: bool) -> None:
    connection = http.client.HTTPConnection(door.settings.http.host, door.settings.http.port, timeout=30)
    headers = {"Authorization": f"Bearer {OPERATOR}", "Content-Type": "application/json"}
    if not chunked:
        headers["Content-Length"] = str(sum(map(len, hundred_megabytes())))
    connection.request("POST", path, hundred_megabytes(), headers, encode_chunked=chunked)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert (answer.status, answer.headers["content-type"]) == (413, "application/problem+json")
    assert b"bytes" in body


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00 this is TLS\r\n\r\n", b"400"),
        (b"GET /v1/tickets HTTP/9.9\r\n\r\n", b"400"),
        (b"GET /v1/tickets HTTP/1.1\r\nHost: x\r\nBad header\r\n\r\n", b"400"),
        (b"POST /v1/tickets HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"POST /v1/tickets HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000, b"431"),
        (b"GET /" + b"a" * 70_000, b"431"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_with_a_problem_too(door: Door, data: bytes, status: bytes) -> None:
    answer = door.raw(data)
    assert answer.split(b" ", 2)[1] == status, answer[:200]
    assert b"application/problem+json" in answer


def test_an_address_or_method_that_there_is_not_is_a_problem(door: Door) -> None:
    assert (door.get("/v2/tickets").status, door.get("/v2/tickets").kind) == (404, "application/problem+json")
    answer = door.call("DELETE", "/v1/tickets")
    assert (answer.status, answer.kind) == (405, "application/problem+json")


@pytest.mark.parametrize("key", ["", "a" * 201])
def test_an_idempotency_key_has_one_to_two_hundred_characters(door: Door, key: str) -> None:
    answer = door.post(headers={"Idempotency-Key": key})
    assert (answer.status, answer.kind) == (400, "application/problem+json")


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic x", "Bearer é", "Bearer " + "x" * 10_000])
def test_a_key_that_is_none_is_refused(door: Door, authorization: str) -> None:
    answer = door.call("GET", "/v1/tickets", key=None, headers={"Authorization": authorization})
    assert (answer.status, answer.kind) == (401, "application/problem+json")
