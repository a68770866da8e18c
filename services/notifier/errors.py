"""The notifier's errors, as a tree. What a driver expects of a provider is an `Outcome`, never one of these.

NotifierError
├── ConfigError          a channel's configuration cannot work: unknown driver, missing secret, bad setting
├── TemplateError        a message template does not compile, or names what the message does not have
├── TransportError       the network did not give an answer
│   ├── NotWritten       and the request was never complete on the wire: sending again is safe
│   └── NoAnswer         and the request was written: the provider may have acted on it
├── BadReply             the provider answered, but with nothing we can read: it may have acted on it
├── TokenRefused         the provider refused our credentials when asked for an access token
└── ForbiddenTarget      a webhook target resolves to an address that may not be reached
"""

from __future__ import annotations


class NotifierError(Exception):
    """Base of what the notifier raises."""


class ConfigError(NotifierError):
    """A channel's configuration cannot work."""


class TemplateError(NotifierError):
    """A message template does not compile, or names what the message does not have."""


class TransportError(NotifierError):
    """The network did not give an answer."""


class NotWritten(TransportError):
    """The request was never complete on the wire; sending again is safe."""


class NoAnswer(TransportError):
    """The request was written and no answer came; the provider may have acted on it."""


class BadReply(NotifierError):
    """The provider's answer cannot be read; it may have acted on the request."""


class TokenRefused(NotifierError):
    """The provider refused the credentials an access token was asked with."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code} {detail}".strip())
        self.code = code
        self.detail = detail


class ForbiddenTarget(NotifierError):
    """The target resolves to an address that may not be reached."""
