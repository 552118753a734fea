"""The language that the report is written in, by gettext.

English is the message id. A text is marked where it stands - with `_` where it is made into a
sentence, with `N_` where it is only named and translated later - and reads the catalogue that
`speaking` sets. Names of models, variants, settings, layers and files are never translated.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path

NAMES = {"en": "English", "ko": "한국어"}
"""What each language calls itself."""

_present: ContextVar[NullTranslations | None] = ContextVar("translations", default=None)


@contextmanager
def speaking(catalogue: Path | None) -> Iterator[None]:
    """Translate by this catalogue, a .po file, within the block; None for English."""
    token = _present.set(_read(catalogue) if catalogue else None)
    try:
        yield
    finally:
        _present.reset(token)


def gettext(message: str) -> str:
    """The message in the present language."""
    translations = _present.get()
    return translations.gettext(message) if translations else message


def ngettext(singular: str, plural: str, n: int) -> str:
    """One of two messages by a number, in the present language."""
    return (_present.get() or NullTranslations()).ngettext(singular, plural, n)


def N_(message: str) -> str:  # noqa: N802 (gettext's own name for it)
    """The message as it stands, marked for the catalogue."""
    return message


def _read(catalogue: Path) -> GNUTranslations:
    # Imported here: every stage of the report imports this module, and most speak English.
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    compiled = BytesIO()
    with catalogue.open("rb") as file:
        write_mo(compiled, read_po(file))
    compiled.seek(0)
    return GNUTranslations(compiled)
