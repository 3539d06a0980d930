"""Logging to stderr: structlog's and the libraries' lines in one form, secrets struck out."""

import logging
import sys
from collections.abc import Sequence

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

STRUCK_OUT = "********"
RECONNECTING = ("Attempting a reconnect", "Failed to", "Exception during reset")
"""How discord.py, slack_sdk's socket and SQLAlchemy begin when a connection is lost; their sentences name the cause."""


def configure_logging(level: str, secrets: Sequence[str]) -> None:
    """Send every log line through one formatter. Called once, by the command that starts Parley."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_SecretFormatter(shared, tuple(secret for secret in secrets if secret)))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for chatty in (
        "discord",
        "slack_bolt",
        "slack_sdk",
        "aiohttp",
        "alembic",
        "transformers",
        "httpx",
        "asyncio",
    ):
        logging.getLogger(chatty).setLevel(max(root.level, logging.WARNING))
    for name in ("discord.client", "slack_sdk", "sqlalchemy.pool.impl.QueuePool"):
        logging.getLogger(name).addFilter(_without_noise)


def _without_noise(record: logging.LogRecord) -> bool:
    """discord.py misses a voice library that Parley never needs; lost connections are shown as tracebacks."""
    if "voice will NOT be supported" in record.msg:
        return False
    if record.msg.startswith(RECONNECTING):
        record.exc_info = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


class _SecretFormatter(structlog.stdlib.ProcessorFormatter):
    """The last step before the screen, so that no path around it is left: exceptions and libraries included."""

    def __init__(self, shared: list[Processor], secrets: tuple[str, ...]) -> None:
        super().__init__(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _short_name,
                structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
            ],
        )
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        for secret in self._secrets:
            line = line.replace(secret, STRUCK_OUT)
        return line


def _short_name(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event.pop("_record", None)
    return event
