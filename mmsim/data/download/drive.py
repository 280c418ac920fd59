"""Addresses on Google Drive, and the pages that it sends in place of a file."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin

DRIVE = "https://drive.usercontent.google.com/download"


def drive_address(file_id: str, drive: str = DRIVE) -> str:
    """Return the download address of a shared file; `drive` is where Drive answers."""
    return f"{drive}?{urlencode({'id': file_id, 'export': 'download', 'confirm': 't'})}"


def confirmed_address(page: str, url: str) -> str | None:
    """Return where Drive's "can't scan this file for viruses" form leads.

    Parameters
    ----------
    page : str
        HTML that came in place of the file.
    url : str
        Address of the page.

    Returns
    -------
    str or None
        The form's address with its hidden fields, or None if `page` holds no such form.
    """
    parsed = _parse(page)
    if parsed.action is None:
        return None
    return f"{urljoin(url, parsed.action)}?{urlencode(parsed.fields)}"


def page_title(page: str) -> str:
    """Return the title of an HTML page, such as "Google Drive - Quota exceeded"."""
    return " ".join(_parse(page).title.split()) or "untitled"


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.title = ""
        self._inside: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "title" or (tag == "form" and values.get("id") == "download-form"):
            self._inside.add(tag)
        if tag == "form" and "form" in self._inside:
            self.action = values.get("action", "")
        if tag == "input" and "form" in self._inside and values.get("type") == "hidden":
            self.fields[values.get("name", "")] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        self._inside.discard(tag)

    def handle_data(self, data: str) -> None:
        if "title" in self._inside:
            self.title += data


def _parse(page: str) -> _Page:
    parsed = _Page()
    parsed.feed(page)
    parsed.close()
    return parsed
