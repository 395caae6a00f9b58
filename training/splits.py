"""Parts that a data set comes in, by the names of its folders or shards: which of them is read.

    a word for each file -> are_splits -> taken -> words

Train is taken, and the others are told, unless some were asked for. Where one name is no split's, all are classes, but where
train and another split stand side by side nobody meant classes.
"""

from collections import Counter
from collections.abc import Sequence

from training.errors import DataError

KINDS = {
    "train": "train",
    "training": "train",
    "dev": "validation",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
ALL = "all"


def are_splits(words: Sequence[str]) -> bool:
    """Whether words, one for each file, name splits; "" stands for none."""
    kinds = {KINDS.get(word.lower()) for word in words}
    named = kinds - {None}
    return bool(named) and (None not in kinds or ("train" in named and len(named) > 1))


def taken(words: Sequence[str], asked: Sequence[str], data: str, what: str) -> tuple[set[str], str]:
    """The words whose files are read, and what there is to tell; asked: names or kinds of splits, or "all".

    what: of what there is one for each word, in the plural.

    Raises: DataError, if a split is not there, or none is train and none was asked for.
    """
    counts = Counter(words)
    found = ", ".join(f"{word or 'elsewhere'} ({count} {what})" for word, count in sorted(counts.items()))
    if ALL in asked:
        return set(counts), f"splits are read as one set: {found}"
    chosen: set[str] = set()
    for name in asked:
        kind = KINDS.get(name.lower())
        matching = {word for word in counts if word.lower() == name.lower()}
        matching = matching or {word for word in counts if kind and KINDS.get(word.lower()) == kind}
        if not matching:
            raise DataError(f"split: got {name}, {data} has {found}; allowed are these and {ALL}")
        chosen |= matching
    if not asked:
        only = set(counts) if len(counts) == 1 else set()
        chosen = {word for word in counts if KINDS.get(word.lower()) == "train"} or only
        if not chosen:
            raise DataError(f"data: {data} has the splits {found} and no train; choose, e.g. --split {min(counts)}")
    read = ", ".join(f"{word} ({counts[word]} {what})" for word in sorted(chosen))
    rest = ", ".join(f"{word or 'elsewhere'} ({counts[word]} {what})" for word in sorted(set(counts) - chosen))
    return chosen, f"read the split {read}" + (
        f", left out {rest}; --split NAME[,NAME] or all reads them" if rest else ""
    )
