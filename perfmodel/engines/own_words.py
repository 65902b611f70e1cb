"""Own words: the names that an engine itself gives to its settings, accepted wherever a file is for that engine.

The catalogue lists them per family, under `[own_words]`: `chunked_prefill_size` of SGLang is `max_num_batched_tokens`
here. Only words of equal meaning are listed. Engine files and the `[engine]` table of scenarios accept them.
"""

from __future__ import annotations

from collections.abc import Mapping

from hwdb.tomlfile import Table


def read_own_words(table: Table, settings: frozenset[str]) -> dict[str, str]:
    """Own word -> setting, from the `[own_words]` table of an engine file; {} where the file has none.

    Each entry reads `word = { value = "setting", kind, source }`. Raises `InputError` for a setting that engine files
    do not have, and for a word that is itself such a setting.
    """
    inner = table.table("own_words", {})
    found: dict[str, str] = {}
    for word in inner.keys():  # noqa: SIM118 - a Table is no mapping
        entry = inner.table(word)
        setting = entry.text("value")
        if setting not in settings or word in settings:
            raise inner.error(word, f"{setting!r} has to be, and {word!r} may not be, a setting of engine files")
        for key in ("kind", "source"):
            entry.text(key)
        entry.text("note", "")
        entry.done()
        found[word] = setting
    return found


def spellings(table: Table, words: Mapping[str, str]) -> dict[str, str]:
    """Setting -> the own word that `table` spells it with; settings under their common name are not listed.

    Args:
        table: a table of settings that a person wrote.
        words: own word -> setting.

    Raises:
        InputError: two spellings of one setting are in the table.
    """
    found: dict[str, str] = {}
    for word, setting in words.items():
        if word not in table:
            continue
        other = setting if setting in table else found.get(setting)
        if other:
            raise table.error(word, f"{word!r} and {other!r} both set {setting}; give one of the two")
        found[setting] = word
    return found
