"""Drivers that have to be asked for receipts, with their fakes: what is known is told once it is, and nothing before."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from services.notifier.channels import registry
from services.notifier.channels.base import Driver, Kind, Message, ReceiptMode
from shared.contracts.providers.receipts import ReceiptState
from tests.conformance.cases import CASES, Case, make_driver, make_message, make_net
from tests.fakes.server import Answer

every_asked_driver = pytest.mark.parametrize(
    "case",
    [case for case in CASES if registry.driver_type(case.driver).receipts is ReceiptMode.POLL],
    ids=lambda case: case.driver,
)


async def accepted(case: Case, driver: Driver, fake: Any, count: int) -> list[Message]:
    """Messages that were taken, as they are asked about."""
    found = []
    for number in range(count):
        message = make_message(case, fake, number, text=f"text {number}")
        [outcome] = await driver.send([message])
        assert outcome.kind is Kind.ACCEPTED, outcome
        found.append(msgspec.structs.replace(message, provider_id=outcome.provider_id))
    return found


def test_two_drivers_are_asked() -> None:
    assert [case.driver for case in CASES if registry.driver_type(case.driver).receipts is ReceiptMode.POLL] == [
        "dingtalk_work",
        "jpush",
    ]


@every_asked_driver
def test_what_has_arrived_is_told_by_its_ids_and_what_has_not_is_left_out(case: Case) -> None:
    async def run() -> None:
        async with case.fake() as fake:
            net = make_net()
            driver = make_driver(case, fake, net)
            fake.busy = True
            messages = await accepted(case, driver, fake, 2)
            assert await driver.poll(messages) == []
            fake.arrived(fake.taken[0])
            told = {one.message_id: one for one in await driver.poll(messages[:1])}
            first = told[messages[0].message_id]
            assert (first.provider_id, first.address) == (messages[0].provider_id, messages[0].address)
            assert first.state is ReceiptState.DELIVERED
            await net.http.close()

    asyncio.run(run())


@every_asked_driver
def test_an_address_that_does_not_exist_is_told_as_such(case: Case) -> None:
    async def run() -> None:
        async with case.fake() as fake:
            net = make_net()
            driver = make_driver(case, fake, net)
            if case.driver == "dingtalk_work":
                fake.known_users = set()
            [message] = await accepted(case, driver, fake, 1)
            if case.driver == "jpush":
                fake.taken.clear()  # the application was removed from the device since
            [receipt] = await driver.poll([message])
            assert (receipt.state, receipt.bad_recipient) == (ReceiptState.FAILED, True)
            await net.http.close()

    asyncio.run(run())


@every_asked_driver
def test_a_query_that_is_refused_tells_nothing_of_the_message(case: Case) -> None:
    async def run() -> None:
        async with case.fake() as fake:
            net = make_net()
            driver = make_driver(case, fake, net)
            messages = await accepted(case, driver, fake, 1)
            fake.arrived(fake.taken[0])
            fake.scripted.append(Answer(503, {}))
            assert await driver.poll(messages) == []
            assert len(await driver.poll(messages)) == 1
            await net.http.close()

    asyncio.run(run())


def test_one_query_asks_for_everybody_a_notice_went_to_and_says_who_has_read_it() -> None:
    async def run() -> None:
        case = next(case for case in CASES if case.driver == "dingtalk_work")
        async with case.fake() as fake:
            net = make_net()
            driver = make_driver(case, fake, net)
            fake.known_users = {case.address(number) for number in range(3)}
            same = make_message(case, fake, 0)
            batch = [
                msgspec.structs.replace(make_message(case, fake, number), content=same.content) for number in range(4)
            ]
            # one text for all of them, so that they are one task
            outcomes = await driver._guarded(batch)
            asked = [
                msgspec.structs.replace(message, provider_id=outcome.provider_id)
                for message, outcome in zip(batch, outcomes, strict=True)
            ]
            assert len({message.provider_id for message in asked}) == 1
            fake.read(str(asked[1].provider_id), case.address(1))
            told = {one.address: one for one in await driver.poll(asked)}
            assert fake.queries == 1
            states = [told[case.address(number)].state for number in range(4)]
            assert states == [
                ReceiptState.DELIVERED, ReceiptState.READ, ReceiptState.DELIVERED, ReceiptState.FAILED,
            ]  # fmt: skip
            assert told[case.address(3)].bad_recipient
            await net.http.close()

    asyncio.run(run())


def test_a_notice_that_the_provider_failed_at_may_be_sent_again_and_is_not_taken_for_a_repeat() -> None:
    async def run() -> None:
        case = next(case for case in CASES if case.driver == "dingtalk_work")
        async with case.fake() as fake:
            net = make_net()
            driver = make_driver(case, fake, net)
            fake.failing = [case.address(0)]
            [message] = await accepted(case, driver, fake, 1)
            [receipt] = await driver.poll([message])
            assert (receipt.state, receipt.again, receipt.bad_recipient) == (ReceiptState.FAILED, True, False)
            [second] = await driver.send([message])
            assert second.provider_id != message.provider_id
            [receipt] = await driver.poll([msgspec.structs.replace(message, provider_id=second.provider_id)])
            assert receipt.state is ReceiptState.DELIVERED
            await net.http.close()

    asyncio.run(run())
