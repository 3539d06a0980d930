"""Files made on the spot: PDFs and Word documents, good and hostile."""

import zipfile
import zlib
from io import BytesIO

import docx
from pypdf import PdfReader, PdfWriter


def make_pdf(*pages: str) -> bytes:
    """A page for each text, in Helvetica; written by hand, for pypdf does not write words."""
    return make_pdf_of([f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode("latin-1") for text in pages])


def make_pdf_of(contents: list[bytes]) -> bytes:
    kids = " ".join(f"{4 + 2 * index} 0 R" for index in range(len(contents)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for index, content in enumerate(contents):
        packed = zlib.compress(content)
        box, fonts = "/MediaBox [0 0 612 792]", "/Resources << /Font << /F1 3 0 R >> >>"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R {box} {fonts} /Contents {5 + 2 * index} 0 R >>".encode()
        )
        head = f"<< /Filter /FlateDecode /Length {len(packed)} >>".encode()
        objects.append(head + b"\nstream\n" + packed + b"\nendstream")
    written, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(written))
        written += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size, start = len(objects) + 1, len(written)
    written += f"xref\n0 {size}\n0000000000 65535 f \n{table}".encode()
    written += f"trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(written)


def lock_pdf(data: bytes, password: str) -> bytes:
    writer = PdfWriter(PdfReader(BytesIO(data)))
    writer.encrypt(password, algorithm="RC4-128")
    locked = BytesIO()
    writer.write(locked)
    return locked.getvalue()


def make_docx(*paragraphs: str, table: list[list[str]] | None = None) -> bytes:
    document = docx.Document()
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    if table is not None:
        made = document.add_table(len(table), len(table[0]))
        for row, texts in zip(made.rows, table, strict=True):
            for cell, text in zip(row.cells, texts, strict=True):
                cell.text = text
    saved = BytesIO()
    document.save(saved)
    return saved.getvalue()


def part_of(data: bytes, name: str) -> bytes:
    with zipfile.ZipFile(BytesIO(data)) as parts:
        return parts.read(name)


def with_body(data: bytes, body: str) -> bytes:
    """The Word document with this XML as its body."""
    namespaces = (
        'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
        'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
        'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    )
    return with_part(
        data, "word/document.xml", f"<w:document {namespaces}><w:body>{body}</w:body></w:document>"
    )


def with_part(data: bytes, name: str, content: str | bytes) -> bytes:
    """The archive with one part added, or put in the place of the one that has this name."""
    changed = BytesIO()
    with zipfile.ZipFile(BytesIO(data)) as old, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.namelist():
            if part != name:
                new.writestr(part, old.read(part))
        new.writestr(name, content)
    return changed.getvalue()
