"""Names of files: what people see beside other names, and store files under."""

from __future__ import annotations

import warnings
from email.message import Message
from urllib.parse import unquote

import aiohttp
from yarl import URL

from mesh_core import validation
from mesh_core.errors import InvalidField
from mesh_media.processing.name_endings import ends_as_names_do

MAX_FILE_NAME = 255
"""Characters."""


def given_name(field: str, name: str) -> str:
    """A caller's name for a file, without what nobody would see of it. Raises `InvalidField` for a path."""
    validation.text(field, name, MAX_FILE_NAME)
    if "/" in name or "\\" in name or name in (".", ".."):
        raise InvalidField(field, "must be a name without a path")
    return fitting_name(name)


def fitting_name(name: str) -> str:
    """A file's name without what a path, or a terminal's command, could be made of, and without what is
    invisible or turns text around; a long one is cut in the middle, so that it ends as it did. What nothing
    is left of is empty.
    """
    plain = validation.without_invisible(name.encode(errors="ignore").decode())
    plain = plain.replace("/", "_").replace("\\", "_").strip()
    if not plain.strip("."):
        return "_" * len(plain)
    if len(plain) > MAX_FILE_NAME:
        stem, dot, suffix = plain.rpartition(".")
        ending = dot + suffix if stem and len(suffix) <= _MAX_SUFFIX else ""
        plain = plain[: MAX_FILE_NAME - len(ending) - 1] + "…" + ending
    return plain


def name_of_answer(disposition: str, url: URL) -> str:
    """What a file of the web is called: as its server says (Content-Disposition), else as its address ends
    where that is how names of files end; or "".
    """
    if said := _said_name(disposition):  # some say where the file lies on their disk
        return fitting_name(said.replace("\\", "/").rpartition("/")[2])
    name = fitting_name(url.name)
    return name if ends_as_names_do(name) else ""


def _said_name(disposition: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of servers that write what only browsers read
        kind, parameters = aiohttp.multipart.parse_content_disposition(disposition or None)
    said = aiohttp.multipart.content_disposition_filename(parameters) if kind else None
    if said is None:  # such as a name with blanks and no quotes
        header = Message()
        header["content-disposition"] = disposition
        said = header.get_filename("")
    if "\ufffd" in said:  # of bytes that are no characters
        return ""
    try:
        return unquote(said, errors="strict")  # as browsers do
    except UnicodeDecodeError:
        return said


_MAX_SUFFIX = 16
