"""The one rule that names an image file after its address."""

from __future__ import annotations

import hashlib
import re

_FROM_LAST_KNOWN_EXTENSION = re.compile(r".+(\.(?:jpg|JPG|png|PNG|svg|SVG|jpeg|JPEG).*)")


def image_file_name(url: str) -> str:
    """Return the name under which the release stores the image of `url`.

    It is the MD5 of the address's last segment, percent-encoded as it stands there, and a
    suffix: what follows from the last known extension on, its case kept (``.JPG`` stays), or
    the whole segment where no extension is known (gif, tif, video). Scalable drawings are
    stored as rendered: ``.svg`` and ``.SVG`` become ``.png``. A query or fragment is no part
    of the address.

    Parameters
    ----------
    url : str
        Address of an image, as in the captions.

    Returns
    -------
    str
        File name inside ``wikinewsImgs``.

    References
    ----------
    README of WikiDiverse (Wang et al., ACL 2022), "How to get the wikinews imgs".

    Examples
    --------
    >>> image_file_name("https://upload.wikimedia.org/wikipedia/commons/a/ab/Flag.svg")
    '61eb6732d864d1aa5a11de501771d863.png'
    """
    segment = re.split(r"[?#]", url, maxsplit=1)[0].rsplit("/", 1)[-1]
    match = _FROM_LAST_KNOWN_EXTENSION.fullmatch(segment)
    suffix = match[1] if match else segment
    name = hashlib.md5(segment.encode(), usedforsecurity=False).hexdigest() + suffix
    return name.replace(".svg", ".png").replace(".SVG", ".png")
