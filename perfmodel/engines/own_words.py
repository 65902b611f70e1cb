"""Own words: names of settings in an engine's own command line, accepted wherever a file is for that engine.

The catalogue lists them per family, under `[own_words]`: SGLang's `chunked_prefill_size` is `max_num_batched_tokens`
here. Only words of equal meaning are listed. Engine files and the `[engine]` table of scenarios accept them.
"""

from __future__ import annotations

from collections.abc import Mapping

from hwdb.tomlfile import Table


def read_own_words(table: Table, settings: frozenset[str]) -> dict[str, str]:
    """Read from an engine file what the engine's own command line calls settings: {the engine's name: name here}.

    table: the top table of the file; without a table `[own_words]` in it the result is {}. settings: all names of
    settings in engine files. Each entry of `[own_words]` reads `word = { value = "setting", kind, source }`. Raises
    `InputError` for a setting that engine files do not have, and for a word that is itself such a setting.
    """
    inner = table.table("own_words", {})
    found: dict[str, str] = {}
    for word in inner.keys():  # noqa: SIM118 - a Table is no mapping
        entry = inner.table(word)
        setting = entry.text("value")
        if setting not in settings or word in settings:
            raise inner.error(
                word, f"value {setting!r} has to be a setting of engine files, and the key {word!r} may not be one"
            )
        for key in ("kind", "source"):
            entry.text(key)
        entry.text("note", "")
        entry.done()
        found[word] = setting
    return found


def spellings(table: Table, words: Mapping[str, str]) -> dict[str, str]:
    """Find the settings that `table` writes under the name of the engine's own command line: {name here: that name}.

    Args:
        table: a table of settings that a person wrote.
        words: names in the engine's own command line -> names of settings here.

    Raises:
        InputError: the table gives one setting under two names.
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
