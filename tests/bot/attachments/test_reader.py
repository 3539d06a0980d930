"""From attachments to texts: what is fetched, and how a hostile file is kept from doing harm."""

import asyncio
import sys
import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from bot.attachments.reader import MOST_FILES, AttachmentReader, read_in_child
from bot.attachments.reading import read_attachment
from bot.attachments.values import MOST_BYTES, AttachmentText
from bot.chat import Attachment
from bot.errors import DeliveryFailed
from tests.bot.attachments.documents import make_docx, make_pdf, make_pdf_of, with_body

SLOW_PDF = make_pdf_of([b"BT /F1 12 Tf " + b"1 0 0 1 5 5 Tm ( ) Tj " * 100_000 + b"ET"] * 40)
"""A quarter of a megabyte that takes pypdf minutes."""
HUGE_DOCX = with_body(make_docx(), '<w:p x=""/>' * 4_000_000)


class Store:
    """A platform's files, and what was asked for."""

    def __init__(self, **files: bytes) -> None:
        self.files = files
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0

    async def fetch(self, attachment: Attachment, limit: int) -> bytes:
        assert limit == MOST_BYTES
        self.asked.append(attachment.name)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if attachment.url not in self.files:
            raise DeliveryFailed(f"{attachment.name} could not be fetched from Discord: HTTP 404.")
        return self.files[attachment.url]


def attached(name: str, url: str = "", *, size: int = 10, media_type: str = "text/plain") -> Attachment:
    return Attachment(name, media_type, size, url)


async def read(store: Store, *attachments: Attachment) -> tuple[AttachmentText, ...]:
    return await AttachmentReader({"discord": store.fetch}, at_once=2).read("discord", attachments)


def said(texts: tuple[AttachmentText, ...]) -> list[str]:
    return [note.english for text in texts for note in text.notes]


async def test_the_files_of_a_message_are_read_in_order() -> None:
    store = Store(a=b"first", b=make_pdf("second"), c=make_docx("third"))
    texts = await read(store, attached("a.md", "a"), attached("b.pdf", "b"), attached("c.docx", "c"))
    assert [(text.name, text.text, text.notes) for text in texts] == [
        ("a.md", "first", ()),
        ("b.pdf", "second", ()),
        ("c.docx", "third", ()),
    ]


async def test_what_is_surely_not_read_is_not_even_fetched() -> None:
    store = Store()
    texts = await read(
        store, attached("photo.png", media_type="image/png"), attached("big.log", size=MOST_BYTES + 1)
    )
    assert said(texts) == [
        "photo.png is a picture, and pictures cannot be read",
        "big.log is larger than 5 MB",
    ]
    assert store.asked == []


async def test_a_file_that_cannot_be_fetched_is_named_and_the_others_are_read() -> None:
    texts = await read(Store(a=b"words"), attached("gone.txt", "nowhere"), attached("a.txt", "a"))
    assert said(texts) == ["gone.txt could not be fetched from Discord: HTTP 404"]
    assert texts[1].text == "words"


async def test_a_file_that_is_larger_than_it_says_is_not_read() -> None:
    assert said(await read(Store(a=b"x" * (MOST_BYTES + 1)), attached("a.txt", "a"))) == [
        "a.txt is larger than 5 MB"
    ]


async def test_files_after_the_fifth_are_left_out_and_named_and_two_are_read_at_a_time() -> None:
    store = Store(a=b"words")
    texts = await read(store, *(attached(f"{number}.txt", "a") for number in range(MOST_FILES + 1)))
    assert [text.text for text in texts] == ["words"] * MOST_FILES + [""]
    assert said(texts) == ["5.txt was left out: only 5 files of a message are read"]
    assert store.most_at_once <= 2


async def test_a_platform_without_files_says_so() -> None:
    [text] = await AttachmentReader({}).read("terminal", [attached("a.txt")])
    assert said((text,)) == ["a.txt cannot be fetched from here"]


async def test_the_child_reads_what_the_reader_reads() -> None:
    for name, data in [
        ("a.md", "héllo 你好\n".encode()),
        ("b.log", b"x" * 70_000),
        ("c.pdf", make_pdf("1", "")),
        ("d.bin", b"\0"),
        ("\udcff]\n.txt", b"words"),
    ]:
        assert await read_in_child(name, "", data) == read_attachment(name, "", data)


async def test_a_file_that_takes_too_long_is_given_up_while_the_loop_goes_on() -> None:
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.01)
            beats += 1

    beating = asyncio.create_task(beat())
    began = time.monotonic()
    text = await read_in_child("slow.pdf", "", SLOW_PDF, seconds=0.5)
    assert time.monotonic() - began < 10
    beating.cancel()
    assert said((text,)) == ["slow.pdf takes longer than 0.5 seconds to read"]
    assert beats > 10


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a process to a memory limit")
async def test_a_file_that_takes_too_much_memory_ends_its_process_alone() -> None:
    text = await read_in_child("huge.docx", "", HUGE_DOCX)
    assert text.text == ""
    [note] = said((text,))
    assert note in ("huge.docx takes too much memory to read", "huge.docx is damaged")  # lxml does not tell


async def test_a_file_that_ends_its_process_ends_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    start = asyncio.create_subprocess_exec

    async def break_down(*command: str, **options: Any) -> asyncio.subprocess.Process:
        return await start(sys.executable, "-c", "import os; os.abort()", **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", break_down)
    with capture_logs() as logged:
        text = await read_in_child("a.pdf", "", make_pdf("words"))
    assert said((text,)) == ["a.pdf is damaged, or takes too much memory"]
    assert logged[0]["name"] == "a.pdf"


async def test_where_no_process_can_be_begun_the_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*command: str, **options: Any) -> asyncio.subprocess.Process:
        raise OSError("no room")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    with capture_logs():
        text = await read_in_child("a.txt", "", b"words")
    assert said((text,)) == ["a.txt cannot be read at the moment"]


async def test_the_process_that_reads_a_file_knows_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, str]] = []
    start = asyncio.create_subprocess_exec

    async def watch(*command: str, env: dict[str, str], **options: Any) -> asyncio.subprocess.Process:
        started.append(env)
        return await start(*command, env=env, **options)

    monkeypatch.setenv("DISCORD_TOKEN", "secret")
    monkeypatch.setattr(asyncio, "create_subprocess_exec", watch)
    assert (await read_in_child("a.txt", "", b"words")).text == "words"
    assert "secret" not in str(started)


async def test_reading_that_is_cancelled_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: asyncio.Queue[asyncio.subprocess.Process] = asyncio.Queue()
    start = asyncio.create_subprocess_exec

    async def watch(*command: str, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*command, **options)
        begun.put_nowait(process)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", watch)
    reading = asyncio.create_task(read_in_child("slow.pdf", "", SLOW_PDF))
    process = await begun.get()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert process.returncode is not None
