"""Alerts sent to chats and mailboxes, to whatever URLs apprise understands."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO

from drift.judging import JudgedCell
from drift.night import Night
from drift.reports.alert_text import as_markdown
from drift.reports.audience import alarming

__all__ = ["Notifications", "malformed", "send"]


@dataclass(frozen=True)
class Notifications:
    """Sends the alert, where there is something to tell.

    Attributes:
        urls: Where to, as apprise reads them.
        always: Whether a night without anything to be alarmed about is told too.
    """

    urls: tuple[str, ...]
    always: bool = False
    name: str = "notifications"

    def cell_judged(self, judged: JudgedCell) -> Sequence[str]:
        return ()

    def night_judged(self, night: Night) -> Sequence[str]:
        if not self.urls or not alarming(night, always=self.always):
            return ()
        # Services show the title apart from the text.
        text = as_markdown(night).partition("\n")[2].strip()
        failures = send(self.urls, night.title, text, failed=night.failed)
        lines = [f"alert not sent: {failure}" for failure in failures]
        if len(failures) < len(self.urls):
            lines.append(f"alert sent to {len(self.urls) - len(failures)} of {len(self.urls)} URLs")
        return lines


def malformed(urls: Sequence[str]) -> list[str]:
    """One line for each URL that no alert can be sent to.

    URLs hold passwords and tokens, so messages name them by number and scheme alone.
    """
    return [
        f"{_name(number, url)} is malformed: apprise knows no such service, or a part is missing"
        for number, url in enumerate(urls, 1)
        if not _understood(url)
    ]


def send(urls: Sequence[str], title: str, markdown: str, *, failed: bool) -> list[str]:
    """Sends a message to every URL.

    Args:
        urls: Where to, as apprise reads them.
        title: The message in one line.
        markdown: All of it.
        failed: Whether it is a failure; services show that in their own ways.

    Returns:
        One line for each URL that it could not be sent to, with the reason.
    """
    import apprise

    failures = malformed(urls)
    kind = apprise.NotifyType.FAILURE if failed else apprise.NotifyType.SUCCESS
    for number, url in enumerate(urls, 1):
        if not _understood(url):
            continue
        receiver = apprise.Apprise()
        receiver.add(url)
        with _overheard() as log:
            try:
                sent = bool(
                    receiver.notify(
                        body=markdown, title=title, notify_type=kind, body_format=apprise.NotifyFormat.MARKDOWN
                    )
                )
                said = log.getvalue().strip().splitlines()
            except Exception as error:  # a hundred services may raise anything, and no run fails for a message
                sent, said = False, [f"{type(error).__name__}"]
        if not sent:
            failures.append(f"{_name(number, url)}: {said[0] if said else 'the message was not accepted'}")
    return failures


def _understood(url: str) -> bool:
    import apprise

    with _overheard():
        return apprise.Apprise.instantiate(url) is not None


@contextmanager
def _overheard() -> Iterator[StringIO]:
    """Collects what apprise logs, and keeps it from everybody else: it may hold parts of URLs."""
    logger = logging.getLogger("apprise")
    log, usual = StringIO(), logger.propagate
    handler = logging.StreamHandler(log)
    handler.setLevel(logging.WARNING)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield log
    finally:
        logger.propagate = usual
        logger.removeHandler(handler)


def _name(number: int, url: str) -> str:
    scheme, found, _ = url.partition("://")
    return f"alert URL {number} ({scheme}://…)" if found and scheme.isalnum() else f"alert URL {number}"
