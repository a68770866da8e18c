"""What the fakes send back is what the gateway's readers accept: on time, twice, out of order, forged."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from services.notifier.channels.base import Kind
from shared.contracts.providers.inbound import parse_receipt
from shared.contracts.providers.receipts import Forged, Inbound, Receipt, ReceiptState
from tests.conformance.cases import CASES, WHSEC, Case, make_driver, make_message, make_net
from tests.fakes.server import ReceiptRequest

GATEWAY = "https://desk.example.com/v1/receipts/"
SECRETS: Mapping[str, Mapping[str, str]] = {
    "signed_http_sms": {"secret": WHSEC},
    "aliyun_sms": {"token": "unguessable"},
    "tencent_sms": {"token": "unguessable"},
    "twilio": {"auth_token": "authtoken"},
}
WITH_RECEIPTS = [case for case in CASES if case.driver in SECRETS]
every_reporting_driver = pytest.mark.parametrize("case", WITH_RECEIPTS, ids=lambda case: case.driver)


def made(fake: Any, driver: str, number: int, *, forged: bool = False) -> ReceiptRequest:
    """The receipt of the n-th message the fake took."""
    taken = fake.taken[number]
    if driver == "signed_http_sms":
        return fake.receipt(taken, "delivered", datetime.now(UTC), forged=forged)  # type: ignore[no-any-return]
    if driver == "aliyun_sms":
        return fake.receipt([taken], token="guessed" if forged else "unguessable")  # type: ignore[no-any-return]
    if driver == "tencent_sms":
        return fake.receipt(taken, token="guessed" if forged else "unguessable")  # type: ignore[no-any-return]
    return fake.receipt(taken, GATEWAY + driver, forged=forged)  # type: ignore[no-any-return]


def read(driver: str, request: ReceiptRequest) -> tuple[Receipt, ...]:
    url = GATEWAY + driver + (f"?{request.query}" if request.query else "")
    return parse_receipt(driver, Inbound(url, request.headers, request.body), SECRETS[driver], datetime.now(UTC)).items


@every_reporting_driver
def test_a_receipt_names_the_message_by_the_id_the_send_call_was_given(case: Case) -> None:
    async def run() -> None:
        async with case.fake() as fake:
            net = make_net()
            driver = make_driver(case, fake, net)
            batch = [make_message(case, fake, number, text=f"text {number}") for number in range(3)]
            outcomes = await driver.send(batch)
            order = [2, 0, 1, 0]  # out of order, and one twice
            for number in order:
                address = batch[number].address
                position = next(
                    index
                    for index, taken in enumerate(fake.taken)
                    if taken.address.lstrip("+") in (address, address.lstrip("+"))
                )
                [receipt] = read(case.driver, made(fake, case.driver, position))
                assert outcomes[number].kind is Kind.ACCEPTED
                assert receipt.provider_id == outcomes[number].provider_id
                assert receipt.state is ReceiptState.DELIVERED
            await net.http.close()

    asyncio.run(run())


@every_reporting_driver
def test_a_forged_receipt_is_refused(case: Case) -> None:
    async def run() -> None:
        async with case.fake() as fake:
            net = make_net()
            await make_driver(case, fake, net).send([make_message(case, fake, 0)])
            with pytest.raises(Forged):
                read(case.driver, made(fake, case.driver, 0, forged=True))
            await net.http.close()

    asyncio.run(run())
