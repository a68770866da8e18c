"""Attachments over HTTP: taken whole or not at all, named by their bytes, given back unchanged to those who may read them."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from services.control import publish
from services.gateway import attachments
from services.gateway.sniffing import OCTETS, media_type
from tests.support.door import OPERATOR, Door, Reply, open_door
from tests.support.servers import TestServers

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8


def attach(door: Door, ticket: str, data: bytes, name: str = "photo.png", *, key: str = OPERATOR, **more: str) -> Reply:
    path = f"/v1/tickets/{ticket}/attachments?name={name}"
    return door.call("POST", path, data, key=key, headers={"Content-Type": "image/gif", **more})


def test_a_file_is_kept_named_by_its_bytes_and_given_back_as_it_was(door: Door) -> None:
    ticket = door.open()
    answer = attach(door, ticket, PNG, "%E7%85%A7%E7%89%87.png")
    assert answer.status == 201
    kept = answer.json
    assert (kept["name"], kept["media_type"], kept["size"]) == ("照片.png", "image/png", len(PNG))
    assert kept["sha256"] == hashlib.sha256(PNG).hexdigest()
    assert kept["by"]["id"] == "operator"
    assert door.get(f"/v1/tickets/{ticket}/attachments").json == {"items": [kept], "next": None}
    back = door.get(answer.headers["location"])
    assert (back.body, back.headers["content-type"]) == (PNG, "image/png")
    assert back.headers["content-disposition"] == "attachment; filename*=UTF-8''%E7%85%A7%E7%89%87.png"
    assert back.headers["x-content-type-options"] == "nosniff"
    last = door.get(f"/v1/tickets/{ticket}/timeline").json["items"][-1]
    assert (last["type"], last["data"]["attachment"]) == ("ticket.attached", kept["id"])
    with door.database.connect() as connection:
        assert [one.id for one in attachments.listing(connection, [int(ticket)])] == [kept["id"]]


def test_a_form_is_taken_too_and_its_own_word_on_the_type_is_not_believed(door: Door) -> None:
    ticket = door.open()
    answer = requests.post(
        f"{door.url}/v1/tickets/{ticket}/attachments",
        data={"comment": "look"},
        files={"file": ("C:\\temp\\报告.html", b"<script>alert(1)</script>\r\n", "text/html")},
        headers={"Authorization": f"Bearer {OPERATOR}"},
        timeout=10,
    )
    assert answer.status_code == 201
    assert (answer.json()["name"], answer.json()["media_type"]) == ("报告.html", "text/plain")
    back = door.get(answer.headers["Location"])
    assert back.body == b"<script>alert(1)</script>\r\n"
    assert back.headers["content-type"] == "text/plain; charset=utf-8"


def test_a_file_sent_again_is_the_same_one_however_often_and_at_once(door: Door) -> None:
    ticket = door.open()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: attach(door, ticket, PNG), range(8)))
    assert {one.status for one in answers if one.status != 503} <= {200, 201}
    again = attach(door, ticket, PNG)
    assert {one.json["id"] for one in answers if one.status != 503} == {again.json["id"]}
    assert attach(door, ticket, PNG, "other.png").json["id"] != again.json["id"]
    assert attach(door, ticket, PNG + b"x").json["id"] != again.json["id"]
    assert len(door.get(f"/v1/tickets/{ticket}/attachments").json["items"]) == 3
    orphans = "select count(*) from gateway.attachment_data where id not in (select id from gateway.attachment)"
    assert door.scalar(orphans) == 0


def test_twenty_megabytes_are_taken_and_a_byte_more_is_not(door: Door) -> None:
    ticket, whole = door.open(), os.urandom(20 << 20)
    answer = attach(door, ticket, whole, "big.bin")
    assert (answer.status, answer.json["media_type"]) == (201, OCTETS)
    assert door.get(answer.headers["location"]).body == whole
    assert attach(door, ticket, whole + b"x", "bigger.bin").status == 413
    form = requests.post(
        f"{door.url}/v1/tickets/{ticket}/attachments",
        files={"file": ("bigger.bin", whole + b"x")},
        headers={"Authorization": f"Bearer {OPERATOR}"},
        timeout=30,
    )
    assert form.status_code == 413


@pytest.mark.parametrize(
    ("path", "data", "headers", "status"),
    [
        ("{id}/attachments", PNG, {}, 422),
        ("{id}/attachments?name=", PNG, {}, 422),
        ("{id}/attachments?name=" + "a" * 201, PNG, {}, 422),
        ("{id}/attachments?name=a%0Ab", PNG, {}, 422),
        ("{id}/attachments?name=a%00b", PNG, {}, 400),
        ("{id}/attachments?nom=a", PNG, {}, 400),
        ("{id}/attachments?name=a", b"", {}, 422),
        ("{id}/attachments", PNG, {"Content-Type": "multipart/form-data"}, 400),
        ("{id}/attachments", PNG, {"Content-Type": "multipart/form-data; boundary=x"}, 422),
        ("999999999/attachments?name=a", PNG, {}, 404),
        ("x/attachments?name=a", PNG, {}, 404),
    ],
)
def test_what_is_no_file_of_a_ticket_is_refused(
    door: Door, path: str, data: bytes, headers: dict[str, str], status: int
) -> None:
    answer = door.call("POST", f"/v1/tickets/{path.format(id=door.open())}", data, headers=headers)
    assert (answer.status, answer.kind) == (status, "application/problem+json")


def test_an_attachment_belongs_to_its_ticket_and_is_read_only_by_those_who_may_read_that(door: Door) -> None:
    one, two = door.open(), door.open()
    kept = attach(door, one, PNG, key="agent").json["id"]
    assert door.get(f"/v1/tickets/{two}/attachments/{kept}").status == 404
    assert door.get(f"/v1/tickets/{one}/attachments/at_nothing").status == 404
    assert door.get(f"/v1/tickets/{one}/attachments/{kept}", key="integrator").status == 200
    for path in (f"/v1/tickets/{one}/attachments", f"/v1/tickets/{one}/attachments/{kept}"):
        assert (door.get(path, key="customer").status, door.get(path, key=None).status) == (403, 401)
    assert attach(door, one, PNG, "from-customer.png", key="customer").status == 201
    door.act(one, "merge", into=two)
    assert attach(door, one, PNG, "late.png").status == 409


def test_a_mask_on_attachments_hides_them_on_every_way_out(servers: TestServers, tmp_path: Path) -> None:
    for file in publish.find("selected").glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        masked = text.replace("  masks:\n", "  masks:\n    attachments: {readers: [admin, lead]}\n")
        (tmp_path / file.name).write_text(masked, encoding="utf-8")
    with servers.fresh_database() as url, open_door(url, playbook=str(tmp_path)) as door:
        ticket = door.open()
        kept = attach(door, ticket, PNG, "secret-name.png").json["id"]
        for key, sees in (("lead", True), ("agent", False)):
            listed = door.get(f"/v1/tickets/{ticket}/attachments", key=key).json["items"]
            assert [one["id"] for one in listed] == ([kept] if sees else [])
            assert door.get(f"/v1/tickets/{ticket}/attachments/{kept}", key=key).status == (200 if sees else 404)
            assert b"secret-name" not in door.get(f"/v1/tickets/{ticket}/timeline", key=key).body


def office(part: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(part, "<x/>")
    return made.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0 JFIF", "image/jpeg"),
        (b"%PDF-1.7\n", "application/pdf"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio/wav"),
        (b"\x00\x00\x00\x18ftypmp42", "video/mp4"),
        (office("word/document.xml"), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (office("xl/workbook.xml"), "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        (office("other.txt"), "application/zip"),
        ("名称,数量\n".encode(), "text/plain"),
        (b"BMW keys are lost", "text/plain"),
        (b"BM\x00\x01\x02\x03", "image/bmp"),
        (b"MZ\x90\x00", "application/vnd.microsoft.portable-executable"),
        (b"<html><script>", "text/plain"),
        (b"<?xml version='1.0'?><svg/>", "text/plain"),
        (b"a\x00b", OCTETS),
        (b"\xff\xfe\xfd\xfc", OCTETS),
        (b"x" * 65_535 + "名".encode(), "text/plain"),
        (b"", OCTETS),
    ],
)
def test_a_file_is_what_its_bytes_are(data: bytes, kind: str) -> None:
    assert media_type(data) == kind
