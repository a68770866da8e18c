"""Mail: what is written is what a standard reader reads, nothing breaks out of its header, and connections are used
well.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from email import message_from_bytes, policy
from email.message import EmailMessage
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.notifier.channels.base import Content, Kind, Message, Net, Options, Outcome
from services.notifier.channels.http import HttpClient
from services.notifier.channels.mime import HeaderRefused, MailTemplate, date_value, header_value
from services.notifier.channels.smtp import SmtpDriver, envelope_address, outcome_of
from services.notifier.channels.smtp_client import Reply, Server, xtext
from services.notifier.channels.smtp_pool import SmtpPool
from tests.fakes.smtp import FakeSmtp

NOW = dt.datetime(2026, 11, 24, 4, 5, 6, tzinfo=dt.UTC)
words = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=60)
texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r"), max_size=300)


def written(content: Content, address: str = "a@example.com") -> EmailMessage:
    template = MailTemplate("服务台", "sla@example.com", "desk@example.com")
    data = template.fill(Message("msg-1", address, content, thread="T-1042"), NOW)
    return cast(EmailMessage, message_from_bytes(data.replace(b"\r\n..", b"\r\n."), policy=policy.default))


@settings(max_examples=80)
@given(title=words, text=texts, html=texts)
def test_a_standard_reader_reads_what_was_written(title: str, text: str, html: str) -> None:
    mail = written(Content(title=title, text=text, html=html))
    assert " ".join(str(mail["Subject"]).split()) == " ".join(title.split())
    parts = list(mail.iter_parts()) if html else [mail]
    bodies = [part.get_payload(decode=True) for part in parts]
    expected = [text, html] if html else [text]
    assert [cast(bytes, body).decode().replace("\r\n", "\n").rstrip("\n") for body in bodies] == [
        one.rstrip("\n") for one in expected
    ]
    assert mail["Message-ID"] == "<msg-1@example.com>"
    assert mail["References"] == "<T-1042@example.com>"
    assert mail["Auto-Submitted"] == "auto-generated"


@settings(max_examples=80)
@given(title=words, text=texts, html=texts)
def test_every_line_is_short_ascii_and_ends_in_crlf(title: str, text: str, html: str) -> None:
    data = MailTemplate("", "sla@example.com").fill(
        Message("m", "a@example.com", Content(title=title, text=text, html=html)), NOW
    )
    assert data.endswith(b"\r\n")
    assert b"\r\n.\r\n" not in data
    assert data.count(b"\n") == data.count(b"\r") == data.count(b"\r\n")
    head = data.split(b"\r\n\r\n")[0]
    assert head.isascii()
    assert all(len(line) <= 998 for line in data.split(b"\r\n"))


@pytest.mark.parametrize("bad", ["a\r\nBcc: x@example.com", "a\nb", "a\rb", "a\0b"])
def test_a_line_break_in_a_header_is_refused(bad: str) -> None:
    template = MailTemplate("", "sla@example.com")
    for message in (
        Message("m", "a@example.com", Content(title=bad)),
        Message("m", f"{bad}@example.com", Content()),
        Message("m", "a@example.com", Content(headers={"List-Unsubscribe": bad})),
        Message("m", "a@example.com", Content(headers={bad: "x"})),
        Message("m", "a@example.com", Content(headers={"Subject": "twice"})),
    ):
        with pytest.raises(HeaderRefused):
            template.fill(message, NOW)


def test_encoded_words_stay_within_75_characters() -> None:
    for line in header_value("😀工单超时" * 40).split(b"\r\n "):
        assert len(line) <= 75


def test_dates_are_those_of_the_standard() -> None:
    assert date_value(NOW) == b"Tue, 24 Nov 2026 04:05:06 +0000"


REPLIES = [
    (250, "2.0.0 Ok: queued as 4ABC", True, Kind.ACCEPTED),
    (421, "4.7.0 try again later", False, Kind.TRANSIENT),
    (450, "4.2.0 greylisted", False, Kind.TRANSIENT),
    (450, "busy", False, Kind.TRANSIENT),
    (450, "4.7.1 rate", False, Kind.THROTTLED),
    (454, "4.7.0 rate", False, Kind.THROTTLED),
    (550, "no such user", False, Kind.BAD_RECIPIENT),
    (550, "5.7.1 policy", False, Kind.BAD_ACCOUNT),
    (550, "looks like spam", True, Kind.BAD_MESSAGE),
    (552, "5.2.2 full", True, Kind.CAPPED_RECIPIENT),
    (552, "too big", False, Kind.BAD_MESSAGE),
    (554, "5.6.1 bad content", True, Kind.BAD_MESSAGE),
    (535, "bad credentials", False, Kind.BAD_ACCOUNT),
]


@pytest.mark.parametrize(("code", "text", "final", "kind"), REPLIES)
def test_replies_become_outcomes(code: int, text: str, final: bool, kind: Kind) -> None:
    assert outcome_of(Reply(code, text, final)).kind is kind


ADDRESSES = {
    "a@example.com": b"a@example.com",
    "a+b@例子.公司": b"a+b@xn--fsqu00a.xn--55qx5d",
    "张@example.com": None,
    "a b@example.com": None,
    "a@b@example.com": None,
    "<a@example.com>": None,
    "a@example.com\r\nDATA": None,
    "a": None,
    "": None,
}


@pytest.mark.parametrize(("address", "wire"), ADDRESSES.items())
def test_only_addresses_reach_the_envelope(address: str, wire: bytes | None) -> None:
    assert envelope_address(address) == wire


def test_envelope_ids_are_written_as_xtext() -> None:
    assert xtext(b"a+b=c d@e") == b"a+2Bb+3Dc+20d@e"


def story(fake: FakeSmtp, count: int, *, concurrency: int = 1, timeout: float = 5.0, **settings: Any) -> list[Outcome]:
    """Send so many mails through one driver to a fake."""

    async def run() -> list[Outcome]:
        async with fake:
            options = Options(
                "mail",
                fake.url,
                {"password": "secret"},
                {"from_address": "sla@example.com", **settings},
                timeout_seconds=timeout,
                concurrency=concurrency,
            )
            driver = SmtpDriver(options, Net(HttpClient(), lambda: NOW, lambda: "n"))
            batch = [
                Message(f"msg-{n}", f"user{n}@example.com", Content(title="t", text="x\n.\n..dots\n"))
                for n in range(count)
            ]
            outcomes = await driver.send(batch)
            await driver.close()
            return outcomes

    return asyncio.run(run())


@pytest.mark.parametrize("pipelining", [True, False])
def test_mails_share_a_connection_and_arrive_whole(pipelining: bool) -> None:
    fake = FakeSmtp(pipelining=pipelining)
    outcomes = story(fake, 30)
    assert [outcome.provider_id for outcome in outcomes] == [f"Q{n + 1}" for n in range(30)]
    assert fake.connections == 1
    assert [mail.recipients for mail in fake.mails] == [[f"user{n}@example.com"] for n in range(30)]
    assert all(mail.data.endswith(b"x\r\n.\r\n..dots\r\n\r\n") for mail in fake.mails)
    assert fake.mails[3].sender_options.endswith("RET=HDRS ENVID=msg-3".replace("-", "-"))
    assert "ORCPT=rfc822;user3@example.com" in fake.mails[3].recipient_options


def test_pipelining_needs_two_round_trips_for_a_mail_and_not_four() -> None:
    piped, plain = FakeSmtp(), FakeSmtp(pipelining=False)
    story(piped, 20)
    story(plain, 20)
    assert piped.round_trips < 20 * 2 + 5
    assert plain.round_trips > 20 * 3.9


def test_a_refused_recipient_leaves_the_connection_good_for_the_next() -> None:
    fake = FakeSmtp()
    fake.error_of_address = {f"user{n}@example.com": "550 5.1.1 gone" for n in range(0, 20, 3)}
    kinds = [outcome.kind for outcome in story(fake, 20)]
    assert kinds == [Kind.BAD_RECIPIENT if n % 3 == 0 else Kind.ACCEPTED for n in range(20)]
    assert fake.connections == 1
    assert len(fake.mails) == 13


def test_a_server_that_takes_few_mails_a_connection_gets_more_connections() -> None:
    fake = FakeSmtp()
    fake.mails_per_connection = 5
    outcomes = story(fake, 23)
    assert {outcome.kind for outcome in outcomes} == {Kind.ACCEPTED}
    assert len({taken.message_id for taken in fake.taken}) == len(fake.taken) == 23
    assert fake.connections >= 5


def test_a_connection_lost_after_the_dot_is_unknown_for_that_mail_alone() -> None:
    fake = FakeSmtp()
    fake.cut_after_body = 1
    kinds = [outcome.kind for outcome in story(fake, 10)]
    assert kinds == [Kind.UNKNOWN] + [Kind.ACCEPTED] * 9
    assert len(fake.taken) == 10


def test_many_connections_are_opened_for_many_mails_but_not_more_than_allowed() -> None:
    fake = FakeSmtp()
    outcomes = story(fake, 100, concurrency=4)
    assert {outcome.kind for outcome in outcomes} == {Kind.ACCEPTED}
    assert 1 <= fake.connections <= 4


def test_a_password_is_never_sent_over_an_open_line_unasked() -> None:
    fake = FakeSmtp(username="u", password="secret")
    [outcome] = story(fake, 1, username="u")
    assert (outcome.kind, outcome.code) == (Kind.BAD_ACCOUNT, "starttls")
    assert fake.refused_signatures == 0


def test_starttls_is_used_when_offered(tmp_path: Path) -> None:
    server, trust = certificate(tmp_path)
    fake = FakeSmtp(tls=server)

    async def run() -> None:
        async with fake:
            port = int(fake.url.rpartition(":")[2])
            pool = SmtpPool(Server("127.0.0.1", port, starttls="required", context=trust), 1)
            replies = [
                await pool.submit(b"a@example.com", b"b@example.com", b"Subject: x\r\n\r\nx\r\n", b"m")
                for _ in range(3)
            ]
            assert [reply.code for reply in replies] == [250] * 3
            await pool.close()

    asyncio.run(run())


def test_starttls_that_is_required_and_not_offered_is_refused() -> None:
    [outcome] = story(FakeSmtp(), 1, starttls="required")
    assert outcome.kind is Kind.BAD_ACCOUNT


def certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server context for 127.0.0.1 and a client context that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fake")])
    now = dt.datetime.now(dt.UTC)
    import ipaddress

    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "fake.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = cert.public_bytes(serialization.Encoding.PEM)
    pem.write_bytes(private + public)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cadata=public.decode())


def test_rounds_of_sending_reuse_the_resting_connection() -> None:
    fake = FakeSmtp()

    async def run() -> None:
        async with fake:
            pool = SmtpPool(Server("127.0.0.1", int(fake.url.rpartition(":")[2]), starttls="off"), 8)
            for _ in range(5):
                reply = await pool.submit(b"a@example.com", b"b@example.com", b"Subject: x\r\n\r\nx\r\n", b"m")
                assert reply.code == 250
            await pool.close()

    asyncio.run(run())
    assert fake.connections == 1
    assert all(earlier.data == later.data for earlier, later in pairwise(fake.mails))
