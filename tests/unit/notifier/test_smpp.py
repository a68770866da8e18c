"""SMPP: what goes over the wire, the window, and receipts that are answered only once they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.channels import smpp_pdu as pdu
from services.notifier.channels.base import Content, Kind, Message, Net, Options
from services.notifier.channels.http import HttpClient
from services.notifier.channels.smpp import SmppDriver
from shared.contracts.providers.receipts import Receipt, ReceiptState
from tests.fakes.smpp import FakeSmpp

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@given(
    st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 255), st.binary(max_size=50)), max_size=5),
    st.binary(max_size=15),
)
def test_pdus_are_read_as_they_were_written_however_they_arrive(
    sent: list[tuple[int, int, bytes]], tail: bytes
) -> None:
    stream = b"".join(pdu.pack(command, number, body, status) for number, (command, status, body) in enumerate(sent))
    found, rest = pdu.unpack(stream + tail)
    assert [(one.command, one.status, one.body) for one in found] == sent
    assert rest == tail


@pytest.mark.parametrize("length", [0, 15, pdu.MAX_PDU + 1])
def test_a_pdu_of_impossible_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError):
        pdu.unpack(pdu.HEADER.pack(length, 4, 0, 1))


TEXTS = [
    ("a" * 160, pdu.GSM7, 1),
    ("a" * 161, pdu.GSM7, 2),
    ("a" * 306, pdu.GSM7, 2),
    ("a" * 307, pdu.GSM7, 3),
    ("€" * 80, pdu.GSM7, 1),
    ("€" * 81, pdu.GSM7, 2),
    ("工" * 70, pdu.UCS2, 1),
    ("工" * 71, pdu.UCS2, 2),
    ("工" * 134, pdu.UCS2, 2),
    ("工" * 135, pdu.UCS2, 3),
    ("", pdu.GSM7, 1),
]


@pytest.mark.parametrize(("text", "coding", "parts"), TEXTS)
def test_texts_are_cut_where_the_network_cuts_them(text: str, coding: int, parts: int) -> None:
    found, esm_class, messages = pdu.parts_of(text, 7)
    assert (found, len(messages)) == (coding, parts)
    assert esm_class == (0x40 if parts > 1 else 0)
    assert all(len(message) <= (160 if coding == pdu.GSM7 else 140) for message in messages)


@given(st.text(st.characters(blacklist_categories=["Cs"]), max_size=400))
def test_no_character_is_cut_in_two(text: str) -> None:
    coding, esm_class, messages = pdu.parts_of(text, 7)
    bodies = [message[6:] for message in messages] if esm_class else messages
    if coding == pdu.UCS2:
        assert "".join(body.decode("utf-16-be") for body in bodies) == text
    else:
        assert not any(body.endswith(b"\x1b") for body in bodies)


@pytest.mark.parametrize("number", ["", "+", "abc", "+86 185", "123456789012345678901", "+1;2"])
def test_what_is_no_number_is_refused(number: str) -> None:
    with pytest.raises(ValueError):
        pdu.destination(number)


def test_the_id_of_a_receipt_is_known_in_both_notations() -> None:
    assert "1F2A" in pdu.other_spellings(str(0x1F2A))
    assert "00001F2A" in pdu.other_spellings(str(0x1F2A))
    assert str(0x1F2A) in pdu.other_spellings("1F2A")


@given(st.binary(max_size=120))
def test_no_deliver_makes_the_reader_fail_otherwise_than_by_refusing(body: bytes) -> None:
    try:
        found = pdu.receipt_of(body)
    except (ValueError, IndexError):
        return
    assert found is None or found.provider_id


@pytest.mark.parametrize(
    ("seconds", "text"), [(90, "000000000130000R"), (90_061, "000001010101000R"), (0, "000000000001000R")]
)
def test_validity_is_written_relative(seconds: float, text: str) -> None:
    assert pdu.relative_validity(seconds) == text
    assert len(text) == 16


def play(story: Callable[[SmppDriver, FakeSmpp], Awaitable[None]], sink: Any = None, **settings: Any) -> None:
    async def run() -> None:
        async with FakeSmpp("esme", "smpppass") as fake:
            options = Options(
                "sms",
                fake.url,
                {"system_id": "esme", "password": "smpppass"},
                {"sender": "Desk", **settings},
                timeout_seconds=2.0,
            )
            driver = SmppDriver(options, Net(HttpClient(), lambda: NOW, lambda: "n"))
            if sink is not None:
                driver.on_receipts(sink)
            await story(driver, fake)
            await driver.close()

    asyncio.run(run())


def texts(count: int, text: str = "T-1042") -> list[Message]:
    return [Message(f"m{n}", f"+8618500000{n:03d}", Content(text=text)) for n in range(count)]


def test_no_more_than_the_window_is_unanswered_and_one_connection_serves() -> None:
    async def story(driver: SmppDriver, fake: FakeSmpp) -> None:
        fake.delay_seconds = 0.001
        outcomes = await driver.send(texts(60))
        assert {outcome.kind for outcome in outcomes} == {Kind.ACCEPTED}
        assert fake.most_unanswered <= 5
        assert fake.connections == 1

    play(story, window=5)


def test_a_long_text_arrives_whole() -> None:
    async def story(driver: SmppDriver, fake: FakeSmpp) -> None:
        [outcome] = await driver.send(texts(1, "工单超时" * 60))
        assert outcome.kind is Kind.ACCEPTED
        assert [taken.content for taken in fake.taken] == ["工单超时" * 60]

    play(story)


def test_pauses_double_while_the_centre_throttles() -> None:
    async def story(driver: SmppDriver, fake: FakeSmpp) -> None:
        pauses = []
        for _ in range(4):
            fake.next_errors.append("0x58")
            [outcome] = await driver.send(texts(1))
            assert outcome.after is not None
            pauses.append(outcome.after.total_seconds())
        assert pauses == [1, 2, 4, 8]
        assert (await driver.send(texts(1)))[0].kind is Kind.ACCEPTED

    play(story)


async def _answered(fake: FakeSmpp, count: int) -> None:
    async with asyncio.timeout(2):
        while len(fake.receipt_answers) < count:
            await asyncio.sleep(0)


def test_a_receipt_is_answered_once_it_is_stored() -> None:
    stored: list[Receipt] = []

    async def sink(receipts: Sequence[Receipt]) -> None:
        stored.extend(receipts)

    async def story(driver: SmppDriver, fake: FakeSmpp) -> None:
        [outcome] = await driver.send(texts(1))
        fake.send_receipt(fake.taken[0])
        await _answered(fake, 1)
        assert fake.receipt_answers == [0]
        assert stored[0].state is ReceiptState.DELIVERED
        assert outcome.provider_id in (stored[0].provider_id, *stored[0].also)
        fake.send_receipt(fake.taken[0], "ENROUTE")
        fake.send_receipt(fake.taken[0], "UNDELIV", decimal=False)
        await _answered(fake, 3)
        assert [one.state for one in stored] == [ReceiptState.DELIVERED, ReceiptState.FAILED]

    play(story, sink)


def test_a_receipt_that_cannot_be_stored_is_asked_for_again() -> None:
    async def sink(receipts: Sequence[Receipt]) -> None:
        raise ConnectionError("the database is away")

    async def story(driver: SmppDriver, fake: FakeSmpp) -> None:
        await driver.send(texts(1))
        fake.send_receipt(fake.taken[0])
        await _answered(fake, 1)
        assert fake.receipt_answers == [pdu.RX_T_APPN]

    play(story, sink)


def test_a_silent_line_is_asked_whether_it_lives() -> None:
    async def story(driver: SmppDriver, fake: FakeSmpp) -> None:
        await driver.send(texts(1))
        async with asyncio.timeout(2):
            while fake.enquiries < 2:
                await asyncio.sleep(0.005)

    play(story, enquire_seconds=0.02)


def test_a_lost_connection_is_made_anew_for_the_next_message() -> None:
    async def story(driver: SmppDriver, fake: FakeSmpp) -> None:
        fake.cut_after_body = 1
        assert (await driver.send(texts(1)))[0].kind is Kind.UNKNOWN
        assert (await driver.send(texts(1)))[0].kind is Kind.ACCEPTED
        assert fake.connections == 2

    play(story)
