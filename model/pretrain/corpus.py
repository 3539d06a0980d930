"""From files to documents: reads, normalises, drops duplicates, sets a part aside. Knows no tokens.

`.txt`   documents, parted by lines `<|endoftext|>`; where a file has none, cut at blank lines to about 4,000 characters
`.jsonl` a JSON object a line: `{"text": ...}` or `{"messages": [{"role": ..., "content": ..., "name": ...}, ...]}`
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, cast, get_args

from model.errors import PretrainError
from model.pretrain.normalise import normalise
from model.request import ChatMessage, Role

SUFFIXES = (".txt", ".jsonl")
SEPARATOR = "<|endoftext|>"
PIECE_CHARACTERS = 4_000
SHINGLE = 5
"""Characters, not words: Chinese writes no spaces."""


@dataclass(frozen=True, slots=True)
class Text:
    """Running text."""

    text: str

    @property
    def digest(self) -> bytes:
        return sha256(self.text.encode()).digest()


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Messages in their order."""

    messages: tuple[ChatMessage, ...]

    @property
    def digest(self) -> bytes:
        return sha256(repr([(m.role, m.content, m.name) for m in self.messages]).encode()).digest()


Document = Text | Dialogue


@dataclass(frozen=True, slots=True)
class Corpus:
    """Cleaned documents, in the order of their hashes. `digest` names the whole: same digest, same training."""

    train: tuple[Document, ...]
    held_out: tuple[Document, ...]
    digest: str
    duplicates: int
    near_duplicates: int
    skipped_files: int
    """Files of other kinds in the folder."""


def load_corpus(path: Path, *, held_out: float, near_duplicates: float | None = None) -> Corpus:
    """Read, clean and split what lies at `path`, a file or a folder of them; it is held in memory.

    A document's own hash decides on which side it falls, so the split survives additions to the corpus.
    Raises `PretrainError` for a corpus that nothing can be learnt from, with the file and line.
    """
    files, skipped = _find_files(path)
    documents = list(chain.from_iterable(read_documents(file) for file in files))
    if not documents:
        raise PretrainError(f"The corpus {path} is empty: no text in {_count(len(files), 'file')}.")
    distinct = {document.digest: document for document in documents}
    ordered = [distinct[digest] for digest in sorted(distinct)]
    kept = ordered if near_duplicates is None else _without_near_duplicates(ordered, near_duplicates)
    aside = [*_set_aside(kept, Text, held_out), *_set_aside(kept, Dialogue, held_out)]
    if not aside:
        raise PretrainError(
            f"The corpus {path} is too small: {_count(len(kept), 'document')}. It takes at least two of a kind, "
            "one to learn from and one to measure with. In a .txt file a line <|endoftext|> parts documents; "
            "in a .jsonl file each line is one."
        )
    digests = {document.digest for document in aside}
    return Corpus(
        train=tuple(document for document in kept if document.digest not in digests),
        held_out=tuple(aside),
        digest=sha256(b"".join(document.digest for document in kept)).hexdigest(),
        duplicates=len(documents) - len(ordered),
        near_duplicates=len(ordered) - len(kept),
        skipped_files=skipped,
    )


def _set_aside(documents: list[Document], kind: type[Document], share: float) -> list[Document]:
    """Those of the smallest hashes: at least one of a kind, and never all of it."""
    of_kind = [document for document in documents if isinstance(document, kind)]
    below = sum(int.from_bytes(document.digest[:8], "big") < share * 2**64 for document in of_kind)
    return of_kind[: min(max(below, 1), len(of_kind) - 1)] if of_kind else []


def _find_files(path: Path) -> tuple[list[Path], int]:
    if path.is_dir():
        every = sorted(file for file in path.rglob("*") if file.is_file())
        files = [file for file in every if file.suffix.lower() in SUFFIXES]
        if not files:
            raise PretrainError(f"The folder {path} holds no .txt or .jsonl file to learn from.")
        return files, len(every) - len(files)
    if not path.is_file():
        raise PretrainError(f"There is no corpus at {path}.")
    if path.suffix.lower() not in SUFFIXES:
        raise PretrainError(f"A corpus is a .txt or .jsonl file or a folder of them, and {path} is none.")
    return [path], 0


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of one file, normalised; empty ones are left out."""
    text = _read_text(path)
    found = _parse_lines(text, path) if path.suffix.lower() == ".jsonl" else _cut(text)
    return (document for document in found if document is not None)


def _read_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PretrainError(f"{path} cannot be read: {error.strerror}.") from error
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise PretrainError(f"{path} is written in UTF-16, and a corpus must be UTF-8: save it as UTF-8.")
    if b"\0" in raw:
        raise PretrainError(f"{path} is not text: it holds a zero byte at position {raw.index(0)}.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PretrainError(
            f"{path} is not UTF-8: byte 0x{raw[error.start]:02x} at position {error.start}. If it is text in "
            "another encoding, save it as UTF-8."
        ) from error


def _cut(text: str) -> Iterator[Document | None]:
    if SEPARATOR in text:
        yield from (_text(piece) for piece in text.split(SEPARATOR))
        return
    piece = ""
    for paragraph in normalise(text).split("\n\n"):
        if piece and len(piece) + len(paragraph) > PIECE_CHARACTERS:
            yield _text(piece)
            piece = ""
        piece += paragraph + "\n\n"
    yield _text(piece)


def _text(text: str) -> Text | None:
    clean = normalise(text)
    return Text(clean) if clean else None


def _parse_lines(text: str, path: Path) -> Iterator[Document | None]:
    # Not splitlines: a U+2028 inside a JSON string ends no line.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield _parse_document(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise PretrainError(f"{path}, line {number}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg} at column {error.colno})."
    return "nested too deeply." if isinstance(error, RecursionError) else str(error)


def _parse_document(value: Any) -> Document | None:
    match value:
        case {"messages": list(messages)}:
            parsed = tuple(_parse_message(message) for message in messages)
            return Dialogue(parsed) if parsed else None
        case {"text": str(text)}:
            return _text(text)
    raise ValueError('a line is {"text": "..."} or {"messages": [...]}, and this one is neither.')


def _parse_message(value: Any) -> ChatMessage:
    match value:
        case {"role": str(role), "content": str(content)}:
            pass
        case _:
            raise ValueError('a message is {"role": "...", "content": "..."}, both texts.')
    if role not in get_args(Role):
        raise ValueError(f"the role {role!r} is none of {', '.join(get_args(Role))}.")
    name = value.get("name")
    if name is not None and not isinstance(name, str):
        raise ValueError(f"the name {name!r} is no text.")
    clean = normalise(content)
    if not clean:
        raise ValueError(f"a message of the {role} is empty.")
    return ChatMessage(cast(Role, role), clean, normalise(name) or None if name else None)


def _without_near_duplicates(documents: list[Document], threshold: float) -> list[Document]:
    """Keep the first of each group that MinHash takes for alike (datasketch, 128 permutations)."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=threshold, num_perm=128)
    kept = []
    sketches = MinHash.generator((_shingles(document) for document in documents), num_perm=128)
    for number, (document, sketch) in enumerate(zip(documents, sketches, strict=True)):
        if not index.query(sketch):
            index.insert(number, sketch, check_duplication=False)
            kept.append(document)
    return kept


def _shingles(document: Document) -> Iterable[bytes]:
    text = (
        document.text
        if isinstance(document, Text)
        else "\n".join(message.content for message in document.messages)
    )
    return sorted(
        {text[start : start + SHINGLE].encode() for start in range(max(1, len(text) - SHINGLE + 1))}
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
